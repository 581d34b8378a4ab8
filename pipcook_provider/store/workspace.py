"""The folder of one run. Whatever touches it goes through here.

::

    {root}/
      pipeline-config.json    the document as it runs: the trigger's parameters applied, the framework pinned
      cache/                  the datasets and context documents that stages hand on
      data/                   what the datasource unpacks
      framework               a link to the framework, for people to see; nothing reads through it
      model/                  the model's files and pipeline.json
      scripts/                {order}-{basename} of each script, {order}-modules/ of what it imports from beside it
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipcook_provider.errors import WorkspaceError

CONFIG_NAME = "pipeline-config.json"


@dataclass(frozen=True, slots=True)
class Workspace:
    """A run's folder.

    :param root: the folder, absolute.
    """

    root: Path

    @classmethod
    def create(cls, root: Path) -> Workspace:
        """Make the folder ready for a new run; an earlier attempt of the same run gives way.

        :raises WorkspaceError: the folder holds something that is no workspace, or cannot be written.
        """
        root = root.expanduser().absolute()
        workspace = cls(root)
        try:
            if root.is_dir() and any(root.iterdir()) and not workspace.config.is_file():
                raise WorkspaceError(
                    f"expected {root} to be empty or the folder of an earlier run, found other files in it. They would be "
                    "mixed with the run's, so nothing was written. Choose another folder."
                )
            for folder in (workspace.cache, workspace.model, workspace.scripts):
                _empty(folder)
            workspace.data.mkdir(exist_ok=True)
        except OSError as exc:
            raise WorkspaceError(f"the workspace {root} cannot be written: {exc}. Choose a folder that can.") from exc
        return workspace

    @classmethod
    def open(cls, root: str | Path, made_by: str | None = None) -> Workspace:
        """Open the folder of a run that was prepared before.

        :param made_by: the host that prepared it, for the message when it is not here.
        :raises WorkspaceError: it is not here.
        """
        workspace = cls(Path(root).expanduser().absolute())
        if not workspace.config.is_file():
            elsewhere = f" It was made on host {made_by!r}; this is {socket.gethostname()!r}." if made_by else ""
            raise WorkspaceError(
                f"expected the run's workspace at {workspace.root}, found none.{elsewhere} All stages of a run need the same "
                "folder: put [pipcook] workspace_root on a disk that all workers share, or run them on one worker (queue)."
            )
        return workspace

    @property
    def config(self) -> Path:
        """The document as it runs."""
        return self.root / CONFIG_NAME

    @property
    def cache(self) -> Path:
        """What stages hand on."""
        return self.root / "cache"

    @property
    def data(self) -> Path:
        """What the datasource unpacks."""
        return self.root / "data"

    @property
    def model(self) -> Path:
        """The model's files."""
        return self.root / "model"

    @property
    def scripts(self) -> Path:
        """The scripts of the run."""
        return self.root / "scripts"

    def relative(self, path: Path) -> str:
        """Return ``path`` relative to the workspace, as it is written into documents."""
        return path.relative_to(self.root).as_posix()

    def write_config(self, document: Mapping[str, Any]) -> None:
        """Write the document as it runs; what a reader sees is complete."""
        self._write_json(self.config, document)

    def write_model_pipeline(self, document: Mapping[str, Any]) -> None:
        """Write ``model/pipeline.json``, which tells a model's user what it was made from."""
        self._write_json(self.model / "pipeline.json", document)

    def show_framework(self, directory: Path) -> None:
        """Link the framework into the run's folder, for people to see."""
        link = self.root / "framework"
        with suppress(OSError):  # A file system without links is no reason to fail: nothing reads through this one.
            if link.is_symlink():
                link.unlink()
            link.symlink_to(directory, target_is_directory=True)

    def begin_output(self, task_id: str) -> Path:
        """Return an empty folder for what a stage writes while it runs; :meth:`publish` makes it the stage's output."""
        folder = self._partial(task_id)
        _empty(folder)
        return folder

    def publish(self, task_id: str) -> None:
        """Make what a stage wrote its output, in the place of what an earlier attempt left."""
        target = self.output(task_id)
        if target.exists():
            shutil.rmtree(target)
        self._partial(task_id).replace(target)

    def output(self, task_id: str) -> Path:
        """Return the folder of a finished stage's output."""
        return self.cache / task_id

    def context_file(self, task_id: str) -> Path:
        """Return where a stage's context document lies."""
        return self.cache / f"{task_id}.json"

    def _partial(self, task_id: str) -> Path:
        return self.cache / f"{task_id}.partial"

    def clear_model(self) -> None:
        """Empty the model's folder before a model is trained."""
        _empty(self.model)

    def _write_json(self, path: Path, document: Mapping[str, Any]) -> None:
        descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2, ensure_ascii=False)
            file.write("\n")
        Path(partial).chmod(0o644)
        Path(partial).replace(path)


def run_folder(root: Path, dag_id: str, run_id: str) -> Path:
    """Return ``{root}/{dag_id}/{run_id}`` with the run id made safe for files and paths.

    ``:`` and ``+`` would split PYTHONPATH. A run id in which more than these and their like had to be replaced gets a
    few digits of its digest, so that two runs never share a folder.
    """
    safe = re.sub(r"[:+]", "_", run_id)
    portable = re.sub(r"[^A-Za-z0-9._-]", "_", safe).lstrip(".")
    if portable != safe or len(portable) > 200:
        portable = f"{portable[:180]}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"
    return root / dag_id / portable


def _empty(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
