"""The records that a pipeline document becomes: frozen, typed, and all that the rest of the package knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

Parameter = str | None | list[str | None]
"""Value of a query parameter: text, ``None`` for a key without ``=``, a list for a repeated key."""


class Gpu(StrEnum):
    """``options.train.gpu``: ``YES`` is true or "true", ``AUTO`` is "auto", ``NO`` all else."""

    NO = "no"
    AUTO = "auto"
    YES = "yes"


_GPU = {True: Gpu.YES, "true": Gpu.YES, "auto": Gpu.AUTO}


@dataclass(frozen=True, slots=True)
class ScriptSpec:
    """One script of a pipeline.

    :param uri: absolute ``http``, ``https`` or ``file`` URI, without query and fragment.
    :param parameters: the query, decoded; keys sorted.
    :param reference: the same URI with the ``#sha256=`` fragment and, unless it is a file, the query it was written
        with: what a download needs (stated digests, signed addresses). A valid URI: whatever needs it is escaped.
    """

    uri: str
    parameters: Mapping[str, Parameter]
    reference: str

    @property
    def scheme(self) -> str:
        """``http``, ``https`` or ``file``."""
        return self.uri.partition(":")[0]

    @property
    def basename(self) -> str:
        """Name of the file, decoded; never empty, never with a slash in it."""
        return unquote(urlsplit(self.uri).path).rpartition("/")[2]

    @property
    def path(self) -> Path | None:
        """The file of a ``file`` URI; ``None`` for the others."""
        return Path(unquote(urlsplit(self.uri).path)) if self.scheme == "file" else None


@dataclass(frozen=True, slots=True)
class ArtifactSpec:
    """One artifact processor of a pipeline.

    :param processor: name of the processor, with its version where the document states one.
    :param options: the whole entry, ``processor`` included.
    """

    processor: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions:
    """How one stage is run; what is not said is ``None`` or empty.

    :param image: container images by ``cpu`` and ``gpu``.
    :param network: whether it reaches the network, or the name of a container network.
    :param gpu: whether it gets GPUs; ``None``: as ``options.train.gpu`` says of the model's stage.
    :param memory: bytes that its container may use.
    :param pool: Airflow pool of its task.
    :param queue: queue of the workers that its task runs on.
    """

    image: Mapping[str, str] = field(default_factory=dict)
    network: bool | str | None = None
    gpu: bool | None = None
    memory: int | None = None
    pool: str | None = None
    queue: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowOptions:
    """``options.airflow`` of a document; what it does not say is ``None``, empty or false.

    :param schedule: cron expression or preset; ``None``: on demand only.
    :param start_date: first moment that is scheduled, with its offset; UTC where the document states none.
    :param catchup: whether missed runs are made up for.
    :param retries: how often a failed task is tried again.
    :param retry_delay: seconds between a failure and the next try.
    :param tags: tags of the DAG.
    :param owner: owner of the tasks.
    :param pool: Airflow pool of the tasks.
    :param queue: queue of the workers.
    :param priority_weight: weight of the tasks when a pool is full.
    :param max_active_runs: how many runs may be under way at once; 1 with the schedule ``@continuous``.
    :param execution_timeout: seconds after which a task is stopped and failed.
    :param description: what the list of DAGs says about the pipeline.
    :param runner: where stages run; ``None``: as the settings say.
    :param image: container images of the stages, by ``cpu`` and ``gpu``; of what is missing the launcher chooses one.
    :param network: whether stages reach the network, or the name of a container network; ``None``: the datasource does.
    :param gpus: how many GPUs a stage that gets some asks for.
    :param memory: bytes that the container of a stage may use; ``None``: as the settings say.
    :param stages: what single stages have otherwise, by task id or role.
    :param env: environment variables of the stages, as they stand.
    """

    schedule: str | None = None
    start_date: datetime | None = None
    catchup: bool = False
    retries: int | None = None
    retry_delay: float | None = None
    tags: tuple[str, ...] = ()
    owner: str | None = None
    pool: str | None = None
    queue: str | None = None
    priority_weight: int | None = None
    max_active_runs: int | None = None
    execution_timeout: float | None = None
    description: str | None = None
    runner: Literal["process", "docker"] | None = None
    image: Mapping[str, str] = field(default_factory=dict)
    network: bool | str | None = None
    gpus: int = 1
    memory: int | None = None
    stages: Mapping[str, StageOptions] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSpec:
    """A pipeline document, checked and resolved.

    :param origin: absolute path or URL that relative URIs were resolved against.
    :param type: what the model does, such as ``ImageClassification``; ``None`` where the document leaves it open.
    :param datasource: the script that supplies the samples.
    :param dataflow: the scripts that transform them, in order.
    :param model: the script that trains; its parameters are the query only, see ``train``.
    :param artifacts: the artifact processors, in order.
    :param framework: reference of the framework as written; ``None``: the scripts run without one.
    :param train: ``options.train``.
    :param options: the document's options without ``airflow``.
    :param airflow: ``options.airflow``.
    :param document: the document as parsed; the defaults of its folder stand in its options.
    """

    origin: str
    type: str | None
    datasource: ScriptSpec
    dataflow: tuple[ScriptSpec, ...]
    model: ScriptSpec
    artifacts: tuple[ArtifactSpec, ...]
    framework: str | None
    train: Mapping[str, Any]
    options: Mapping[str, Any]
    airflow: AirflowOptions
    document: Mapping[str, Any]

    @property
    def scripts(self) -> tuple[ScriptSpec, ...]:
        """Every script, in the order in which they run."""
        return (self.datasource, *self.dataflow, self.model)

    @property
    def gpu(self) -> Gpu:
        """Whether the document asks to train on a GPU."""
        return _GPU.get(self.train.get("gpu"), Gpu.NO)
