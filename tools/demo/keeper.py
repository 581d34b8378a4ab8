"""Runs a command until stdin ends, then ends the command and all that it started::

    python keeper.py LOG COMMAND [ARGUMENT...]

The demo holds the other end of stdin. However the demo ends, by Ctrl-C, by SIGKILL, by a bug of its own, its end
is closed, and no process of Airflow's stays behind. The command's output goes to the file LOG.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

#: Seconds for an orderly end.
_ORDERLY = 5.0
_TERMINATED = 3.0


def main(log: str, command: Sequence[str]) -> int:
    """Run ``command``; return its exit status."""
    # A demo that was started in the background ignores SIGINT, and so would Airflow, whose signal to end it is.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Path(log).open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    threading.Thread(target=_interrupt_at_end_of_input, args=(process,), daemon=True).start()
    try:
        return process.wait()
    finally:
        _end_session(process.pid)


def _interrupt_at_end_of_input(process: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    # `airflow standalone` ends its parts on SIGINT; on SIGTERM it leaves them behind. Its scheduler would wait for
    # running tasks, which are the members with process groups of their own, however long they take.
    process.send_signal(signal.SIGINT)
    for task in _members(process.pid):
        with suppress(OSError, psutil.NoSuchProcess):
            if os.getpgid(task.pid) == task.pid != process.pid:
                task.terminate()
    try:
        process.wait(_ORDERLY)
    except subprocess.TimeoutExpired:
        _end_session(process.pid)


def _end_session(leader: int) -> None:
    """End whatever is left of a session; process groups would not do, since every Airflow task has one of its own."""
    left = _members(leader)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(left, timeout=_TERMINATED)
    for process in _members(leader):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _members(leader: int) -> list[psutil.Process]:
    found = []
    for pid in psutil.pids():
        with suppress(OSError, psutil.NoSuchProcess):
            if os.getsid(pid) == leader and (process := psutil.Process(pid)).status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
