"""A container's first process: it holds the stage's lease, which is how long the stage runs on when nobody asks for it.

Whoever launched the container holds the other end of its stdin and writes lines. The first is a JSON object::

    {"lease": SECONDS, "environment": {NAME: VALUE}, "netrc": TEXT}

What it hands over stands neither on a disk nor in what the engine tells of the container. Any line that follows is a
sign of life; one that is a JSON object, from another launcher that has taken over, states a new lease.

The stage runs in a second process, so that whatever user code does to its own (closes all descriptors, computes for
minutes without letting another thread run), the first one ends the container in time, and takes away processes that
others have left.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from pipcook_provider.runtime.messages import tell

#: Exit status of a child that was handed nothing.
NOT_HANDED_OVER = 3
#: Exit status of a child that cannot use its workspace.
NO_WORKSPACE = 4
#: Exit status of a child that nobody has heard of for its lease.
LEASE_ENDED = 75

_FIRST_LINE_WITHIN = 60.0
_CHUNK = 64 * 1024


class Lease:
    """The child's end.

    :param descriptor: where the launcher writes; owned by the lease.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self._seconds = _FIRST_LINE_WITHIN

    def take_handover(self) -> bool:
        """Wait for the first line and put what it hands over in its place; return whether it came."""
        line = self._first_line()
        try:
            handover = json.loads(line)
            self._seconds = float(handover["lease"])
        except (ValueError, KeyError, TypeError):
            found = f"{len(line)} bytes that are none" if line else "nothing"
            tell(
                f"expected a line with the lease and the environment on stdin within {_FIRST_LINE_WITHIN:.0f} s, found "
                f"{found}: whoever started this container is gone, or is no launcher of pipcook-provider. Nothing was run."
            )
            return False
        _put_in_place(handover)
        return True

    def stand_guard(self) -> None:
        """Return in a new process, which is the stage's; this one stays until that, or the lease, has ended."""
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        stage = os.fork()
        if stage:
            # The kernel leaves it to a container's first process itself to end on this signal.
            signal.signal(signal.SIGTERM, lambda number, _frame: _pass_on(stage, number))
            self._guard(stage, woken)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setpgid(0, 0)
        for descriptor in (woken, wake, self._descriptor):
            os.close(descriptor)

    def _first_line(self) -> bytes:
        deadline = time.monotonic() + _FIRST_LINE_WITHIN
        while b"\n" not in self._rest:
            if not select.select([self._descriptor], [], [], max(0, deadline - time.monotonic()))[0]:
                return self._rest
            chunk = os.read(self._descriptor, _CHUNK)
            if not chunk:
                return self._rest
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _guard(self, stage: int, woken: int) -> NoReturn:
        heard = [self._descriptor, woken]
        deadline = time.monotonic() + self._seconds
        while (left := deadline - time.monotonic()) > 0:
            ready = select.select(heard, [], [], left)[0]
            if woken in ready:
                os.read(woken, _CHUNK)
                _take_away_ended(stage)
            if self._descriptor in ready:
                chunk = os.read(self._descriptor, _CHUNK)
                if chunk:
                    self._take_lines(chunk)
                    deadline = time.monotonic() + self._seconds
                else:
                    heard.remove(self._descriptor)
        tell(f"nobody has asked for this stage for {self._seconds:g} s, its lease: it ends itself.")
        _end_container(stage, LEASE_ENDED)

    def _take_lines(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._seconds = _stated(line) or self._seconds


def _take_away_ended(stage: int) -> None:
    """Take away all processes that have ended; with the stage's own the container ends, as it did."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == stage:
                status = os.waitstatus_to_exitcode(ended[1])
                _end_container(stage, 128 - status if status < 0 else status)


def _pass_on(stage: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(stage, number)


def _put_in_place(handover: Mapping[str, Any]) -> None:
    os.environ.update(handover.get("environment", {}))
    time.tzset()
    if netrc := handover.get("netrc"):
        path = Path(os.environ.get("HOME", "/tmp"), ".netrc")  # noqa: S108 - the container's own
        try:
            with open(path, "w", encoding="utf-8", opener=_private) as file:
                file.write(netrc)
        except OSError as exc:
            tell(
                f"the worker's ~/.netrc cannot be put into {path} ({exc}): hosts that ask for a password let nobody in."
            )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _stated(line: bytes) -> float | None:
    """Return the lease that a line states; None for one that is a mere sign of life."""
    try:
        return float(json.loads(line)["lease"])
    except (ValueError, KeyError, TypeError):
        return None


def _end_container(stage: int, status: int) -> NoReturn:
    """End all processes of the container: with its first one the kernel ends the others."""
    if os.getpid() != 1:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(stage, signal.SIGKILL)
    os._exit(status)
