"""Functions in processes of their own, forked from a test: real, and fast enough to have hundreds of them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import TextIO

from pipcook_provider.store import uses

Say = Callable[[object], None]


class Fork:
    """A child that runs ``function(say)`` and exits; ``say`` sends a line to the parent."""

    def __init__(self, function: Callable[[Say], object]) -> None:
        # Of other tests threads may be left; those that refresh leases only wait, and a fork does not disturb that.
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            _run(function, os.fdopen(writing, "w", buffering=1))
        os.close(writing)
        self._stream = os.fdopen(reading)
        self.status: int | None = None

    def line(self) -> str:
        """Return the next line that the child says; empty when it has ended."""
        return self._stream.readline().rstrip("\n")

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        """Return the exit status; negative: the signal that ended it."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self._stream.close()
        return self.status

    def ends_within(self, seconds: float) -> bool:
        """Give the child so much time, then kill it; return whether it had ended by itself."""
        end = time.monotonic() + seconds
        while (found := os.waitpid(self.pid, os.WNOHANG))[0] == 0:
            if time.monotonic() > end:
                self.kill()
                return False
            time.sleep(0.0005)
        self.status = os.waitstatus_to_exitcode(found[1])
        self._stream.close()
        return True


@contextlib.contextmanager
def forked(function: Callable[[Say], object]) -> Iterator[Fork]:
    """Run a function in a child for as long as the block lasts."""
    fork = Fork(function)
    try:
        yield fork
    finally:
        if fork.status is None:
            fork.kill()


def run_forked(function: Callable[[], object]) -> str:
    """Return what a function returned in a child, as text; fail where it raised."""
    fork = Fork(lambda say: say(function()))
    line = fork.line()
    assert fork.wait() == 0
    return line


def _run(function: Callable[[Say], object], stream: TextIO) -> None:
    status = 1
    try:
        function(lambda line: print(line, file=stream))
        uses.release_all()  # as at the exit of a whole interpreter
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            stream.flush()
            sys.stderr.flush()
        os._exit(status)
