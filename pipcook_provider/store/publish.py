"""Putting what was made elsewhere into its place, so that whoever looks sees the old or the new, never half of it."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pipcook_provider.errors import WorkspaceError


def check_publishable(target: Path) -> None:
    """Check, without writing anything, that something can be put at a path.

    :raises WorkspaceError: it cannot.
    """
    if target.is_dir():
        raise WorkspaceError(
            f"the artifact's target {target} was expected to be a file, but is a folder; name a file in it."
        )
    nearest = next(parent for parent in target.parents if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise WorkspaceError(
            f"the artifact's target {target} was expected to be writable for this worker, but {nearest} is not, so the "
            "artifact could not be kept. Make it writable, or choose another target."
        )


def publish(entries: Iterable[Path], destination: Path) -> None:
    """Copy files and folders into a folder, each at once, in the place of what has its name there.

    Links are left out: what a container made may point anywhere.

    :raises WorkspaceError: it cannot be written; what was there before is still there.
    """
    try:
        destination.mkdir(parents=True, exist_ok=True)
        for entry in sorted(entries):
            if not entry.is_symlink():
                _put(entry, destination / entry.name)
    except OSError as exc:
        raise WorkspaceError(
            f"{destination} was expected to take what the artifact processor made, but it cannot be written: {exc}. Make "
            "room there, or make it writable, and clear the task."
        ) from exc


def _put(entry: Path, target: Path) -> None:
    staged = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    former = target.with_name(f"{staged.name}.former")
    try:
        if entry.is_dir():
            shutil.copytree(entry, staged, symlinks=True)
        else:
            shutil.copyfile(entry, staged)
        if target.is_dir() and not target.is_symlink():
            target.replace(former)
        staged.replace(target)
    except BaseException:
        if former.exists() and not target.exists():
            former.replace(target)
        raise
    finally:
        for rest in (staged, former):
            if rest.is_dir():
                shutil.rmtree(rest, ignore_errors=True)
            else:
                with suppress(FileNotFoundError):
                    rest.unlink()
