"""A container's lease: how long a stage runs on when nobody is there to hear of it.

Whoever launched the container holds the other end of its stdin and writes lines. The first is a JSON object::

    {"lease": SECONDS, "environment": {NAME: VALUE}, "netrc": TEXT}

What it hands over stands neither on a disk nor in what the engine tells of the container. Any line that follows is a
sign of life; one that is a JSON object, from another launcher that has taken over, states a new lease.
"""

from __future__ import annotations

import json
import os
import select
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pipcook_provider.runtime.messages import identity, tell

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
        self._file = identity(descriptor)
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

    def watch(self) -> None:
        """From now on, end the container when no sign of life came for as long as the lease says."""
        threading.Thread(target=self._watch, name="lease", daemon=True).start()

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

    def _watch(self) -> None:
        while self._waits():
            chunk = self._read()
            if not chunk:
                time.sleep(self._seconds)
                break
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._seconds = _stated(line) or self._seconds
        if identity(self._descriptor) != self._file:
            tell(
                "the script has closed the descriptor by which the stage is asked for: close only what the script opened."
            )
        tell(f"nobody has asked for this stage for {self._seconds:g} s, its lease: it ends itself.")
        _end_container(LEASE_ENDED)

    def _waits(self) -> bool:
        """Wait for the lease at most; return whether there is something to read."""
        try:
            return bool(select.select([self._descriptor], [], [], self._seconds)[0])
        except OSError:
            return True

    def _read(self) -> bytes:
        """Return what has come; nothing at the end, and where user code has closed the descriptor, or has another there."""
        if identity(self._descriptor) != self._file:
            return b""
        return os.read(self._descriptor, _CHUNK)


def end_on_sigterm() -> None:
    """Let SIGTERM end this process when it is a container's first one: the kernel leaves that to the process itself."""
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda number, _frame: os._exit(128 + number))


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


def _end_container(status: int) -> NoReturn:
    """End all processes of the container: with its first one the kernel ends the others."""
    if os.getpid() != 1:
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(status)
