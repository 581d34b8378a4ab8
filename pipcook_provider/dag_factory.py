"""Pipeline documents as Airflow DAGs: ``prepare >> datasource >> dataflow_n >> model >> artifact_n``.

This is the DAG-parse path: it reads JSON, and nothing else happens here. No network, no child process, no connection,
nothing that changes from one parse to the next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NoReturn

from airflow.sdk import DAG, BaseOperator, Param, get_parsing_context

from pipcook_provider.errors import PipcookError
from pipcook_provider.operators.artifact import PipcookArtifactOperator
from pipcook_provider.operators.prepare import PipcookPrepareOperator
from pipcook_provider.operators.stage import PipcookStageOperator
from pipcook_provider.plan import (
    PREPARE,
    Stage,
    TrainingParameter,
    gpus_of,
    plan,
    stage_options,
    training_parameters,
)
from pipcook_provider.settings import Settings
from pipcook_provider.spec import ArtifactSpec, Gpu, PipelineSpec, load_pipeline_spec
from pipcook_provider.spec.folder import find_json_files, is_pipeline_file
from pipcook_provider.spec.schema import at

#: A document with a schedule and no start_date starts now; this is the constant that Airflow needs for it.
_START_DATE = datetime(2020, 1, 1, tzinfo=UTC)


def load_pipeline(path: str | Path, dag_id: str | None = None) -> DAG:
    """Build the DAG of one pipeline document.

    :param path: the document.
    :param dag_id: by default the file's name without ``.json``.
    :raises SpecError: the document cannot be used; every problem is named with its place.
    """
    path = Path(path).absolute()
    return _build(load_pipeline_spec(path), path, dag_id or _dag_id(path.name))


def load_pipelines(folder: str | Path) -> dict[str, DAG]:
    """Build the DAGs of all pipeline documents in a folder and the folders below it.

    A ``.json`` file without a pipeline in it is left alone. A document that cannot be used harms no other: it stands
    in the result as a DAG without tasks, which Airflow shows as an import error of that document. When Airflow parses
    for one task, only the document of that task's DAG is read.

    :param folder: the folder, or a file in it: a loader passes its ``__file__``.
    :returns: DAGs by dag_id, ready for ``globals().update(...)``.
    """
    folder = Path(folder).absolute()
    folder = folder.parent if folder.is_file() else folder
    documents = ((_dag_id(name), path) for name, path in find_json_files(folder))
    wanted = get_parsing_context().dag_id
    if wanted is not None:
        found = next((path for dag_id, path in documents if dag_id == wanted and is_pipeline_file(path)), None)
        return {} if found is None else {wanted: load_pipeline(found, wanted)}
    dags: dict[str, DAG] = {}
    sources: dict[str, Path] = {}
    for dag_id, path in documents:
        try:
            if not is_pipeline_file(path):
                continue
            if dag_id in sources:
                raise PipcookError(
                    f"{path}: expected a dag_id of its own, found {dag_id!r}, which {sources[dag_id]} has already. "
                    "Rename one of the two files."
                )
            dags[dag_id] = load_pipeline(path, dag_id)
        except Exception as exc:  # whatever Airflow or the file system say of a document harms that document only
            stand_in = f"{dag_id[:200]}__{len(dags)}" if dag_id in dags or len(dag_id) > 200 else dag_id
            dags[stand_in] = _BrokenPipeline.of(path, folder, stand_in, exc)
        sources.setdefault(dag_id, path)
    return dags


class _BrokenPipeline(DAG):
    """Stands for a document that cannot be used.

    Airflow would show an exception of the loader as an import error of the loader, and take down every DAG with it.
    Errors of serialization, though, it files under the DAG's own path. So this DAG claims the document's path, and
    cannot be serialized.
    """

    @classmethod
    def of(cls, path: Path, folder: Path, dag_id: str, error: Exception) -> _BrokenPipeline:
        dag = cls(dag_id=dag_id, schedule=None)
        dag.__dict__["document"] = path.relative_to(folder)
        own = isinstance(error, PipcookError)
        dag.__dict__["problem"] = (
            str(error) if own else f"{path}: Airflow cannot take it: {type(error).__name__}: {error}"
        )
        return dag

    def validate(self) -> None:
        """Claim the document's path: called after the importer has noted the loader's."""
        if self.relative_fileloc:
            self.relative_fileloc = str(Path(self.relative_fileloc).parent / self.__dict__["document"])
            self.fileloc = self.relative_fileloc  # by which Airflow 3.1 still files the error

    def get_serialized_fields(self) -> NoReturn:  # type: ignore[override]
        """Refuse to be serialized, with the reason that a person is to read."""
        from airflow.exceptions import SerializationError

        raise SerializationError(self.__dict__["problem"])


def _dag_id(name: str) -> str:
    """Return the dag_id of a document: its path, never its content, so that a task finds its file unread."""
    return re.sub(r"[^\w.-]", "_", name.removesuffix(".json").replace("/", "."))


def _build(spec: PipelineSpec, path: Path, dag_id: str) -> DAG:
    airflow = spec.airflow
    optional = {
        "description": airflow.description,
        "max_active_runs": airflow.max_active_runs,
    }
    dag = DAG(
        dag_id=dag_id,
        schedule=airflow.schedule,
        start_date=airflow.start_date or (_START_DATE if airflow.schedule else None),
        catchup=airflow.catchup,
        tags=["pipcook", *airflow.tags],
        default_args=_default_args(spec),
        doc_md=_documentation(spec),
        **_given(optional),
    )
    settings = _settings()
    runner = airflow.runner or settings.runner
    make_task = _docker_task if runner == "docker" else _process_task
    previous: Any = PipcookPrepareOperator(task_id=PREPARE, document=path, runner=runner, dag=dag)
    for stage in plan(spec):
        task = make_task(stage, dag, _scheduling(spec, stage))
        previous.set_downstream(task)
        previous = task
    # Now, not before: every task would deep-copy them, twice, which costs more than all else here.
    dag.params.update({parameter.name: _param(parameter) for parameter in training_parameters(spec.train)})
    return dag


def _process_task(stage: Stage, dag: DAG, scheduling: Mapping[str, Any]) -> BaseOperator:
    common = {"task_id": stage.task_id, "task_display_name": stage.title, "dag": dag, **scheduling}
    if isinstance(stage.subject, ArtifactSpec):
        return PipcookArtifactOperator(artifact=stage.order + 1, **common)
    return PipcookStageOperator(**common)


def _docker_task(stage: Stage, dag: DAG, scheduling: Mapping[str, Any]) -> BaseOperator:
    from pipcook_provider.operators.docker import PipcookDockerOperator

    return PipcookDockerOperator(task_id=stage.task_id, task_display_name=stage.title, dag=dag, **scheduling)


def _scheduling(spec: PipelineSpec, stage: Stage) -> dict[str, Any]:
    """Return how a task is scheduled otherwise than the others of its DAG."""
    if not spec.airflow.stages and spec.gpu is Gpu.NO:
        return {}
    options = stage_options(spec, stage)
    shared = gpus_of(spec, stage) and not options.pool
    return _given({"pool": _settings().gpu_pool if shared else options.pool, "queue": options.queue})


@cache
def _settings() -> Settings:
    """Return this machine's settings; read once per process, since every document asks for them."""
    return Settings.load()


def _default_args(spec: PipelineSpec) -> dict[str, Any]:
    airflow = spec.airflow
    seconds = {"retry_delay": airflow.retry_delay, "execution_timeout": airflow.execution_timeout}
    names = ("owner", "pool", "queue", "priority_weight", "retries")
    return _given(
        {
            **{name: getattr(airflow, name) for name in names},
            **{name: None if value is None else timedelta(seconds=value) for name, value in seconds.items()},
        }
    )


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


_TYPES: dict[type, list[str] | str] = {
    bool: "boolean",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): ["null", "string", "number", "boolean"],
}


def _param(parameter: TrainingParameter) -> Param:
    """Return the field of the trigger form for a value of ``options.train``, typed by the document's value.

    A whole number may become a fraction unless the schema's example of that parameter is whole too.
    """
    value = parameter.value
    description, whole = _described(parameter.name)
    kind = ("integer" if whole else "number") if type(value) is int else _TYPES[type(value)]
    return Param(value, description=description, type=kind)


@lru_cache(maxsize=1024)
def _described(name: str) -> tuple[str | None, bool]:
    """Return what the schema says of a training parameter, and whether it is a whole number there."""
    part = at(("options", "train", *name.split(".")))
    return part.get("description"), type(next(iter(part.get("examples", ())), None)) is int


def _documentation(spec: PipelineSpec) -> str:
    """Return the pipeline as a table, which the DAG's page shows."""
    rows = ["| stage | what runs | parameters |", "| --- | --- | --- |"]
    for stage in plan(spec):
        if isinstance(stage.subject, ArtifactSpec):
            shown = {name: value for name, value in stage.subject.options.items() if name != "processor"}
            rows.append(_row(stage.task_id, stage.subject.processor, shown))
        else:
            parameters = (
                {**spec.train, **stage.subject.parameters} if stage.role == "model" else stage.subject.parameters
            )
            rows.append(_row(stage.task_id, stage.subject.uri, parameters))
    table = "\n".join(rows)
    kind = f"{spec.type} · " if spec.type else ""
    return f"{kind}framework: `{spec.framework or 'none'}`\n\n{table}\n"


def _row(name: str, what: str, parameters: Mapping[str, Any]) -> str:
    told = ", ".join(f"{key}={value}" for key, value in parameters.items())
    return f"| {name} | `{_cell(what)}` | {_cell(told)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'").replace("<", "&lt;").replace("\n", " ")
