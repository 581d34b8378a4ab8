"""Folders that others may be changing at the same time."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path


def children(folder: Path) -> list[str]:
    """Return the names of what is in a folder; of none where there is no such folder."""
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def remove(path: Path) -> None:
    """Remove a file or a folder, also one whose folders may not be written; somebody may be removing it, too."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        for folder, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                Path(folder).chmod(0o700)
        shutil.rmtree(path, ignore_errors=True)


def tree_size(path: Path) -> int:
    """Return the bytes of the files in a folder, or of a file."""
    return sum(one.st_size for one in _stats(path) if not stat.S_ISDIR(one.st_mode))


def newest(path: Path) -> float:
    """Return when a file, or the youngest thing in a folder, was last changed (seconds since the epoch)."""
    return max((one.st_mtime for one in _stats(path)), default=0.0)


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Yield the state of a file, or of a folder and the files in it; of what is still there."""
    walk = () if path.is_symlink() else os.walk(path)
    files = (Path(folder, name) for folder, _, names in walk for name in names)
    for one in (path, *files):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            yield one.lstat()
