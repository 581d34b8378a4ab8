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
        with: what a download needs (stated digests, signed addresses). A valid URI: whatever needs it is escaped. A
        query with templates is left out as long as they are not rendered.
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
class Duration:
    """An ISO 8601 duration; what a calendar decides (a month's days) is kept apart from what a clock does.

    :param months: those of its years included.
    :param seconds: those of its weeks, days, hours and minutes included.
    """

    months: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetSpec:
    """An asset that a pipeline is scheduled on.

    :param name: its name; that of an asset without a name of its own is its URI.
    :param uri: its URI; that of an asset without one is its name.
    :param watch: whether the URI is asked for changes, rather than waiting for others to tell.
    :param interval: seconds between two looks at a watched URI.
    """

    name: str
    uri: str
    watch: bool = False
    interval: float = 300.0


@dataclass(frozen=True, slots=True)
class AssetCondition:
    """Which assets must have changed before a pipeline runs.

    :param kind: whether ``all`` of the entries, or ``any`` one.
    """

    kind: Literal["all", "any"]
    entries: tuple[AssetSpec | AssetCondition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a pipeline runs by itself: at times, when assets change, or both.

    :param time: cron expression, preset or duration.
    :param assets: the condition; None where time alone decides.
    """

    time: str | Duration | None = None
    assets: AssetCondition | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions:
    """How one stage is run; what is not said is ``None`` or empty.

    :param image: container images by ``cpu`` and ``gpu``.
    :param network: whether it reaches the network, or the name of a container network.
    :param gpu: whether it gets GPUs; ``None``: as ``options.train.gpu`` says of the model's stage.
    :param memory: bytes that its container may use.
    :param pool: Airflow pool of its task.
    :param queue: queue of the workers that its task runs on.
    :param executor: Airflow executor of its task, by alias, class path or name.
    :param priority_weight: weight of its task when a pool is full.
    :param retries: how often its task is tried again.
    :param retry_delay: seconds between a failure and the next try.
    :param execution_timeout: seconds after which its task is stopped and failed.
    """

    image: Mapping[str, str] = field(default_factory=dict)
    network: bool | str | None = None
    gpu: bool | None = None
    memory: int | None = None
    pool: str | None = None
    queue: str | None = None
    executor: str | None = None
    priority_weight: int | None = None
    retries: int | None = None
    retry_delay: float | None = None
    execution_timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AirflowOptions:
    """``options.airflow`` of a document; what it does not say is ``None``, empty or false.

    :param schedule: ``None``: on demand only.
    :param timezone: IANA name of the zone that the schedule's clock is in; ``None``: that of ``start_date``.
    :param start_date: first moment that is scheduled, with its zone: its own offset, else ``timezone``, else UTC.
    :param catchup: whether missed runs are made up for.
    :param retries: how often a failed task is tried again.
    :param retry_delay: seconds between a failure and the next try.
    :param tags: tags of the DAG.
    :param owner: owner of the tasks.
    :param pool: Airflow pool of the tasks.
    :param queue: queue of the workers.
    :param executor: Airflow executor of the tasks, by alias, class path or name.
    :param priority_weight: weight of the tasks when a pool is full.
    :param max_active_runs: how many runs may be under way at once; 1 with the schedule ``@continuous``.
    :param execution_timeout: seconds after which a task is stopped and failed.
    :param on_failure: names of the ``[pipcook] notifiers`` that are told when a run fails.
    :param description: what the list of DAGs says about the pipeline.
    :param runner: where stages run; ``None``: as the settings say.
    :param image: container images of the stages, by ``cpu`` and ``gpu``; of what is missing the launcher chooses one.
    :param network: whether stages reach the network, or the name of a container network; ``None``: the datasource does.
    :param gpus: how many GPUs a stage that gets some asks for.
    :param memory: bytes that the container of a stage may use; ``None``: as the settings say.
    :param stages: what single stages have otherwise, by task id or role.
    :param env: environment variables of the stages; values may hold Airflow's templates.
    """

    schedule: Schedule | None = None
    timezone: str | None = None
    start_date: datetime | None = None
    catchup: bool = False
    retries: int | None = None
    retry_delay: float | None = None
    tags: tuple[str, ...] = ()
    owner: str | None = None
    pool: str | None = None
    queue: str | None = None
    executor: str | None = None
    priority_weight: int | None = None
    max_active_runs: int | None = None
    execution_timeout: float | None = None
    on_failure: tuple[str, ...] = ()
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
    def script_paths(self) -> tuple[tuple[str | int, ...], ...]:
        """The keys under which the document has the URI of each script, in the same order."""
        datasource = "datasource" if "datasource" in self.document else "dataSource"
        return ((datasource,), *(("dataflow", index) for index in range(len(self.dataflow))), ("model",))

    @property
    def gpu(self) -> Gpu:
        """Whether the document asks to train on a GPU."""
        return _GPU.get(self.train.get("gpu"), Gpu.NO)
