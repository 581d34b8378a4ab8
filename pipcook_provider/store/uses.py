"""Marks: what tells that a living process uses a directory of the cache.

A mark is a lease with a name of its own in the folder of what is used. A process makes one mark for each thing and
keeps it until it exits; that of a killed process is recognised as dead. The folder's time is that of the last use.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pipcook_provider.store import lease
from pipcook_provider.store.folders import children, newest

if TYPE_CHECKING:
    from filelock import SoftFileLease

_ATTEMPTS = 5


class _Registry:
    """The marks of this process, by folder."""

    def __init__(self) -> None:
        self.clear()
        atexit.register(self.release)
        # A child of fork is another process: its parent's marks do not stand for it.
        os.register_at_fork(after_in_child=self.clear)

    def clear(self) -> None:
        self._marks: dict[Path, SoftFileLease] = {}
        self._guard = threading.Lock()

    def add(self, folder: Path) -> None:
        if folder in self._marks:
            return
        with self._guard:
            if folder not in self._marks and (mark := _mark(folder)):
                self._marks[folder] = mark

    def release(self) -> None:
        with self._guard:
            for mark in self._marks.values():
                with contextlib.suppress(OSError):
                    mark.release()
            self._marks.clear()


_REGISTRY = _Registry()


def mark(folder: Path) -> None:
    """Mark as used by this process until it exits; where nothing can be written, do nothing."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: no thread can be started any more
        _REGISTRY.add(folder)


def release_all() -> None:
    """Give up all marks of this process, as at its exit."""
    _REGISTRY.release()


def is_used(folder: Path) -> bool:
    """Return whether a living process holds a mark in the folder."""
    return any(not lease.is_dead(path) for path in _marks(folder))


def dead_marks(folder: Path) -> list[Path]:
    """Return the marks of processes that are gone."""
    return [path for path in _marks(folder) if lease.is_dead(path)]


def last_use(folder: Path) -> float | None:
    """Return when a mark was last made, refreshed or released (seconds since the epoch); ``None``: never."""
    return newest(folder) or None


def sweep(folder: Path) -> None:
    """Remove the marks of processes that are gone; the time of the last use stays what it was.

    :raises OSError: the folder cannot be written.
    """
    used = last_use(folder)
    if used is not None and sum(lease.clear(path) for path in dead_marks(folder)):
        with contextlib.suppress(FileNotFoundError):  # somebody removed all of it meanwhile
            os.utime(folder, (used, used))


def _mark(folder: Path) -> SoftFileLease | None:
    for _ in range(_ATTEMPTS):
        # The folder may be removed as soon as it is made: whoever prunes does not wait.
        with contextlib.suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            return lease.acquire(folder / secrets.token_hex(8))
    return None


def _marks(folder: Path) -> list[Path]:
    return [folder / name for name in children(folder)]
