"""Where artifact processors write when they cannot see this machine's files.

They write into the run's folder, and what they made is then put where the document says, all at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipcook_provider.store.publish import check_publishable
from pipcook_provider.store.workspace import Workspace

_TARGET = "target"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def target_path(options: Mapping[str, Any], workspace: Workspace) -> Path | None:
    """Return the file or folder of this machine that an artifact's ``target`` names; None where it names none."""
    target = options.get(_TARGET)
    if not isinstance(target, str) or not target.strip() or _SCHEME.match(target):
        return None
    return Path(os.path.normpath(workspace.root / target))


def for_initialization(options: Mapping[str, Any], workspace: Workspace) -> dict[str, Any]:
    """Return the options that a processor can check where it cannot see the target; what it cannot see is checked here.

    :raises WorkspaceError: the target cannot be written.
    """
    path = target_path(options, workspace)
    if path is None or path.is_relative_to(workspace.root):
        return dict(options)
    check_publishable(path)
    return {**options, _TARGET: path.name}


def into(folder: Path, options: Mapping[str, Any], workspace: Workspace) -> dict[str, Any]:
    """Return the options with a target in a folder of the workspace in the place of the document's."""
    path = target_path(options, workspace)
    return dict(options) if path is None else {**options, _TARGET: f"{workspace.relative(folder)}/{path.name}"}


def made_for(target: Path, folder: Path) -> tuple[list[Path], list[Path]]:
    """Return what a processor made in a folder for a target, and what else lies there.

    To the target belongs what has its name, or its name and more after a dot, such as a digest beside a zip. Whatever else
    a processor leaves could, beside the target, replace any file.
    """
    entries = sorted(folder.iterdir())
    made = [entry for entry in entries if f"{entry.name}.".startswith(f"{target.name}.")]
    return made, [entry for entry in entries if entry not in made]


def as_published(built: str | None, folder: Path, target: Path) -> str | None:
    """Return where something that was built in a folder is after it was published at ``target``, or beside it."""
    if built is None or not Path(built).is_relative_to(folder):
        return built
    return str(target.parent / Path(built).relative_to(folder))
