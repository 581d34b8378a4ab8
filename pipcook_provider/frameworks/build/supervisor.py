"""Runs a command for as long as whoever asked for it lives: ``python supervisor.py COMMAND...``.

The asker holds the other end of stdin and starts this in a process group of its own. When stdin closes, the asker is gone,
however it went, and the whole group goes too: also what the command itself started. This file is run as a script.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence


def main(command: Sequence[str]) -> int:
    """Run a command and return its exit status; 128 and the signal's number where a signal ended it."""
    threading.Thread(target=_die_with_asker, args=(os.dup(0),), daemon=True).start()
    status = subprocess.call(command, stdin=subprocess.DEVNULL)
    return status if status >= 0 else 128 - status


def _die_with_asker(asker: int) -> None:
    while os.read(asker, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
