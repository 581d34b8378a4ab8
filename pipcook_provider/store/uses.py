"""Marks: what tells that a living process uses a directory of the cache.

A mark is a lease with a name of its own in the folder of what is used. A process makes one mark for each thing and
keeps it until it exits; that of a killed process is recognised as dead. The folder's time is that of the last use.

What a process started may outlive it, and use the same directory. The name of its mark then ends in ``~{seconds}``: for so
long after its last sign of life the mark counts, whatever became of its process. One that exits leaves such a mark behind.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipcook_provider.store import lease
from pipcook_provider.store.folders import children, newest

if TYPE_CHECKING:
    from filelock import SoftFileLease

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class _Mark:
    lease: SoftFileLease
    path: Path
    outlived_by: int

    @classmethod
    def make(cls, folder: Path, outlived_by: int) -> _Mark | None:
        for _ in range(_ATTEMPTS):
            path = _new_path(folder, outlived_by)
            # The folder may be removed as soon as it is made: whoever prunes does not wait.
            with contextlib.suppress(FileNotFoundError):
                folder.mkdir(parents=True, exist_ok=True)
                taken = lease.acquire(path)
                return cls(taken, path, outlived_by) if taken else None
        return None

    def end(self) -> None:
        """Give it up; what outlives this process keeps a mark that nobody holds."""
        if self.outlived_by:
            with contextlib.suppress(OSError):
                _new_path(self.path.parent, self.outlived_by).touch()
        self.discard()

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self.lease.release()


class _Registry:
    """The marks of this process, by folder."""

    def __init__(self) -> None:
        self.clear()
        atexit.register(self.release)
        # A child of fork is another process: its parent's marks do not stand for it.
        os.register_at_fork(after_in_child=self.clear)

    def clear(self) -> None:
        self._marks: dict[Path, _Mark] = {}
        self._guard = threading.Lock()

    def add(self, folder: Path, outlived_by: int) -> None:
        if self._has(folder, outlived_by):
            return
        with self._guard:
            if not self._has(folder, outlived_by) and (mark := _Mark.make(folder, outlived_by)):
                former = self._marks.get(folder)
                self._marks[folder] = mark
                if former:
                    former.discard()

    def release(self) -> None:
        with self._guard:
            for mark in self._marks.values():
                mark.end()
            self._marks.clear()

    def _has(self, folder: Path, outlived_by: int) -> bool:
        mark = self._marks.get(folder)
        return mark is not None and mark.outlived_by >= outlived_by


_REGISTRY = _Registry()


def mark(folder: Path, *, outlived_by: float = 0) -> None:
    """Mark as used by this process until it exits; where nothing can be written, do nothing.

    :param outlived_by: seconds for which it is used even after this process is gone, however it goes.
    """
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: no thread can be started any more
        _REGISTRY.add(folder, math.ceil(outlived_by))


def release_all() -> None:
    """Give up all marks of this process, as at its exit."""
    _REGISTRY.release()


def is_used(folder: Path) -> bool:
    """Return whether a living process holds a mark in the folder, or what may outlive its process has one there."""
    return any(not _is_dead(path) for path in _marks(folder))


def dead_marks(folder: Path) -> list[Path]:
    """Return the marks that count no more, of processes that are gone."""
    return [path for path in _marks(folder) if _is_dead(path)]


def last_use(folder: Path) -> float | None:
    """Return when a mark was last made, refreshed or released (seconds since the epoch); ``None``: never."""
    return newest(folder) or None


def sweep(folder: Path) -> None:
    """Remove the marks that count no more; the time of the last use stays what it was.

    :raises OSError: the folder cannot be written.
    """
    used = last_use(folder)
    if used is not None and sum(lease.clear(path) for path in dead_marks(folder)):
        with contextlib.suppress(FileNotFoundError):  # somebody removed all of it meanwhile
            os.utime(folder, (used, used))


def _new_path(folder: Path, outlived_by: int) -> Path:
    return folder / (secrets.token_hex(8) + (f"~{outlived_by}" if outlived_by else ""))


def _outlived_by(path: Path) -> int:
    _, _, seconds = path.name.partition("~")
    return int(seconds) if seconds.isdecimal() else 0


def _is_dead(path: Path) -> bool:
    seconds = _outlived_by(path)
    return (not seconds or lease.is_silent(path, seconds)) and lease.is_dead(path)


def _marks(folder: Path) -> list[Path]:
    return [folder / name for name in children(folder)]
