"""What a stage is told: the context document on disk, and the context that a user's script is handed.

The launcher writes one JSON file into the workspace and starts the child with its path. All paths in it are relative
to the workspace's root, so that a workspace can be moved or mounted elsewhere; a script gets absolute ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from pipcook_provider.errors import ProtocolError
from pipcook_provider.runtime.messages import PROTOCOL


class TaskType(IntEnum):
    """Why a script runs; the numbers are Pipcook's."""

    TRAIN = 1
    PREDICT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class StageContext:
    """The context document of one stage.

    :param protocol: version of this document and of the messages.
    :param stage: task id, such as ``dataflow_1``.
    :param role: ``datasource``, ``dataflow``, ``model``, or what is done with artifact processors:
        ``artifact_initialize``, ``artifact_build``.
    :param task_type: 1 to train, 2 to predict.
    :param parameters: the script's parameters, or the artifact's options.
    :param options: the document's ``options`` without ``airflow``; the framework's ``initialize`` gets them.
    :param origin: path or URL of the pipeline document, which relative URIs are relative to.
    :param script: file of the script in the workspace.
    :param script_uri: where the script came from, for a person to read.
    :param modules: folder in the workspace of the modules that the script imports from beside it.
    :param framework: absolute path of the framework's directory.
    :param downloads: absolute path of the folder of downloads that all runs share.
    :param input: folder in the workspace that holds the incoming dataset.
    :param output: folder in the workspace where the outgoing dataset, or the model's files, are to be written.
    """

    stage: str
    role: str
    parameters: Any
    options: Mapping[str, Any]
    origin: str
    downloads: str
    protocol: int = PROTOCOL
    task_type: int = TaskType.TRAIN
    script: str | None = None
    script_uri: str | None = None
    modules: str | None = None
    framework: str | None = None
    input: str | None = None
    output: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the document, ready to be written as JSON."""
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> StageContext:
        """Read the document.

        :raises ProtocolError: it was written by another version of this package.
        """
        record = json.loads(path.read_text(encoding="utf-8"))
        found = record.get("protocol")
        if found != PROTOCOL:
            raise ProtocolError(
                f"expected a context of protocol {PROTOCOL}, found {found!r} in {path}: the worker and the place where "
                "the stage runs hold different versions of pipcook-provider. Install the same one in both."
            )
        names = {entry.name for entry in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in names})


@dataclass(frozen=True, slots=True)
class ScriptWorkspace:
    """The folders of a run that a script may use, as absolute paths.

    :param root: the run's folder, which is also the script's working directory.
    :param data_dir: for data that the datasource unpacks.
    :param cache_dir: for whatever a script wants to keep within the run.
    :param model_dir: the model's files; what is saved here is the run's result.
    :param framework_dir: the framework's directory, or where its link would be when there is none.
    """

    root: Path
    data_dir: Path
    cache_dir: Path
    model_dir: Path
    framework_dir: Path

    @classmethod
    def at(cls, root: Path, framework: str | None, model: str = "model") -> ScriptWorkspace:
        """Return the folders of the run at ``root``; ``model`` is where the model's files are to go."""
        return cls(
            root=root,
            data_dir=root / "data",
            cache_dir=root / "cache",
            model_dir=root / model,
            framework_dir=Path(framework) if framework else root / "framework",
        )


@dataclass(frozen=True, slots=True)
class Context:
    """What every script is handed beside its parameters.

    :param workspace: the run's folders.
    :param task_type: whether the pipeline trains or predicts.
    :param origin: path or URL of the pipeline document.
    :param downloads_dir: folder of downloads that all runs share.
    """

    workspace: ScriptWorkspace
    task_type: TaskType
    origin: str
    downloads_dir: Path

    def resolve(self, uri: str) -> str:
        """Return ``uri`` as an absolute URI; a relative one is relative to the pipeline document."""
        if urlsplit(uri).scheme:
            return uri
        origin = urlsplit(self.origin)
        if origin.scheme in ("http", "https"):
            return urljoin(self.origin, uri)
        document = Path(unquote(origin.path) if origin.scheme == "file" else self.origin)
        return (document.parent / uri).resolve().as_uri()

    def download(self, uri: str) -> Path:
        """Return the local file (or folder) behind ``uri``, downloaded once and shared by all runs.

        A server is asked whether what is here is still current; a ``file:`` URI is its own path.

        :raises FetchError: it cannot be had.
        """
        from pipcook_provider.runtime.download import download

        return download(self.resolve(uri), self.downloads_dir)
