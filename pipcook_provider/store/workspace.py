"""The folder of one run. Whatever touches it goes through here.

::

    {root}/
      pipeline-config.json    the document as it runs: the trigger's parameters applied, the framework pinned
      cache/                  what scripts keep within the run; in stages/ the datasets and contexts that stages hand on
      data/                   what the datasource unpacks
      framework               a link to the framework, for people to see; nothing reads through it
      model/                  the model's files and pipeline.json
      scripts/                {order}-{basename} of each script, {order}-modules/ of what it imports from beside it
      .pipcook-workspace      marks the folder as ours
      .pipcook-lock           held by whoever works in it alone
      .prepare/               what is being prepared; it becomes the run at once, when nothing can fail any more
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipcook_provider.errors import WorkspaceError
from pipcook_provider.run_marker import RUN_MARKER
from pipcook_provider.store.atomic import write_atomically
from pipcook_provider.store.contents import read_contents

CONFIG_NAME = "pipeline-config.json"

_LOCK = ".pipcook-lock"
_AIRFLOWS_RUN_ID = re.compile(r"\w+__\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+\d\d:\d\d(_\w+)?")


@dataclass(frozen=True, slots=True)
class Workspace:
    """A run's folder.

    :param root: the folder, absolute.
    """

    root: Path

    @classmethod
    def create(cls, root: Path) -> Workspace:
        """Make the folder ours. An earlier attempt of the same run stays until :meth:`commit`.

        :raises WorkspaceError: the folder holds something that is no workspace, or cannot be written.
        """
        workspace = cls(_absolute(root))
        root = workspace.root
        if root.exists() and not root.is_dir():
            raise WorkspaceError(f"expected a folder for the run, found the file {root}. Choose a folder.")
        with workspace._writable():
            if root.is_dir() and any(root.iterdir()) and not (root / RUN_MARKER).exists():
                raise WorkspaceError(
                    f"expected {root} to be empty or the folder of an earlier run, found other files in it. A run would "
                    "replace them, so nothing was written. Choose another folder."
                )
            root.mkdir(parents=True, exist_ok=True)
            workspace.check_folders()
            (root / RUN_MARKER).touch()
        return workspace

    @classmethod
    def open(cls, root: str | Path, made_by: str | None = None) -> Workspace:
        """Open the folder of a run that was prepared before.

        :param made_by: the host that prepared it, for the message when it is not here.
        :raises WorkspaceError: it is not here.
        """
        workspace = cls(_absolute(Path(root)))
        if not workspace.config.is_file():
            elsewhere = f" It was made on host {made_by!r}; this is {socket.gethostname()!r}." if made_by else ""
            raise WorkspaceError(
                f"expected the run's workspace at {workspace.root}, found none.{elsewhere} All stages of a run need the "
                "same folder: put [pipcook] workspace_root on a disk that all workers share, or run them on one worker "
                "(queue)."
            )
        return workspace

    @property
    def config(self) -> Path:
        """The document as it runs."""
        return self.root / CONFIG_NAME

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

    @property
    def prepared(self) -> Path:
        """What becomes the run with :meth:`commit`."""
        return self.root / ".prepare"

    @property
    def _stages(self) -> Path:
        return self.root / "cache" / "stages"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep others out who ask for the same; the kernel ends it with the process.

        :raises WorkspaceError: somebody else works here.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.root / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise WorkspaceError(
                f"another run works in {self.root}; two would overwrite each other, so nothing was done. Wait for it, or "
                "choose another folder."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def relative(self, path: Path) -> str:
        """Return ``path`` relative to the workspace, as it is written into documents."""
        return path.relative_to(self.root).as_posix()

    def begin_preparation(self) -> Path:
        """Return an empty folder for the scripts of the run that is being prepared."""
        with self._writable():
            _empty(self.prepared / "scripts")
        return self.prepared / "scripts"

    def commit(self, document: Mapping[str, Any]) -> None:
        """Begin the run that was prepared: what an earlier attempt left gives way, its model when the new one is there.

        :param document: the document as it runs.
        :raises WorkspaceError: the folder cannot be written.
        """
        with self._writable():
            self.config.unlink(missing_ok=True)
            (self.root / "framework").unlink(missing_ok=True)
            for folder in (self.root / "cache", self.data):
                _empty(folder)
            self.model.mkdir(exist_ok=True)
            _empty(self.scripts)
            (self.prepared / "scripts").replace(self.scripts)
            shutil.rmtree(self.prepared)
            _write_json(self.config, document)

    def abandon_preparation(self) -> None:
        """Remove what was being prepared; an earlier run stays as it was."""
        shutil.rmtree(self.prepared, ignore_errors=True)

    def discard(self) -> None:
        """Remove the folder of a run that never began."""
        shutil.rmtree(self.root, ignore_errors=True)

    def show_framework(self, directory: Path) -> None:
        """Link the framework into the run's folder, for people to see."""
        link = self.root / "framework"
        with suppress(OSError):  # A file system without links is no reason to fail: nothing reads through this one.
            if link.is_symlink():
                link.unlink()
            link.symlink_to(directory, target_is_directory=True)

    def begin_output(self, task_id: str) -> Path:
        """Return an empty folder for what a stage writes while it runs; :meth:`publish` makes it the stage's output."""
        folder = self.partial_output(task_id)
        with self._writable():
            _empty(folder)
        return folder

    def partial_output(self, task_id: str) -> Path:
        """Return the folder of what a stage writes while it runs."""
        return self._stages / f"{task_id}.partial"

    def discard_output(self, task_id: str) -> None:
        """Remove what a stage wrote."""
        shutil.rmtree(self.partial_output(task_id), ignore_errors=True)

    def publish(self, task_id: str) -> None:
        """Make what a stage wrote its output, in the place of what an earlier attempt left."""
        self._replace(self.output(task_id), task_id)

    def publish_model(self, task_id: str, document: Mapping[str, Any]) -> str:
        """Make what the model's stage wrote the run's model, with ``pipeline.json``: what it was made from.

        :returns: SHA-256 (hex) of what ``sha256sum`` prints of the folder's files in the order of their paths. Nothing of
            this package changes them from here on.
        """
        folder = self.partial_output(task_id)
        with self._writable():
            _write_json(folder / "pipeline.json", document)
            digest = read_contents(folder, {}).digest
        self._replace(self.model, task_id)
        return digest

    def _replace(self, target: Path, task_id: str) -> None:
        former = self._stages / f"{task_id}.former"
        with self._writable():
            if former.exists():
                shutil.rmtree(former)
            if target.exists():
                target.replace(former)
            self.partial_output(task_id).replace(target)
            shutil.rmtree(former, ignore_errors=True)

    def output(self, task_id: str) -> Path:
        """Return the folder of a finished stage's output."""
        return self._stages / task_id

    def context(self, task_id: str) -> Path:
        """Return the path of a stage's context document."""
        return self._stages / f"{task_id}.json"

    def kept(self) -> tuple[str, ...]:
        """Return what scripts have kept in ``cache``, as paths relative to the workspace."""
        cache = self.root / "cache"
        entries = sorted(cache.iterdir()) if cache.is_dir() else []
        return tuple(self.relative(entry) for entry in entries if entry != self._stages)

    def check_folders(self) -> None:
        """Refuse to work in folders that a stage made into links: what is written there would land elsewhere.

        :raises WorkspaceError: one is a link.
        """
        outputs = self._stages.iterdir() if self._stages.is_dir() else ()
        own = ("cache", "cache/stages", "data", "model", "scripts", CONFIG_NAME, self.prepared.name, RUN_MARKER, _LOCK)
        for place in (*(self.root / name for name in own), *outputs):
            if place.is_symlink():
                raise WorkspaceError(
                    f"expected {place} to be the run's own, found a link to {place.readlink()}: a script has put it there, "
                    "and what the run writes would land elsewhere, so nothing was written. Mend the script, and start a new "
                    "run."
                )

    def write_context(self, task_id: str, context: Mapping[str, Any]) -> Path:
        """Write a stage's context document and return its path."""
        path = self.context(task_id)
        with self._writable():
            self._stages.mkdir(parents=True, exist_ok=True)
            _write_json(path, context)
        return path

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise WorkspaceError(
                f"the workspace {self.root} cannot be written: {exc}. Make room there or make it writable, or choose "
                "another folder; if a script has removed what is in it, mend the script."
            ) from exc


def run_folder(root: Path, dag_id: str, run_id: str) -> Path:
    """Return ``{root}/{dag_id}/{run_id}`` with the run id made safe for files and paths.

    ``:`` and ``+`` would split PYTHONPATH. A run id that is changed gets a few digits of its digest, so that two runs
    never share a folder; those that Airflow makes up differ in their digits anyway and stay as they read.
    """
    portable = re.sub(r"[^A-Za-z0-9._-]", "_", run_id).lstrip(".")
    as_it_is = portable == run_id or _AIRFLOWS_RUN_ID.fullmatch(run_id)
    if not as_it_is or len(portable) > 200:
        portable = f"{portable[:180]}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"
    return root / dag_id / portable


def _absolute(root: Path) -> Path:
    """Return a folder's absolute path, without ``..``: a container has only the folders that the path ends in."""
    path = root.expanduser().absolute()
    return path.resolve() if ".." in path.parts else path


def _empty(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
