"""One pipeline document as a DAG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, BaseOperator

from pipcook_provider.dag_factory.documentation import documentation
from pipcook_provider.dag_factory.executors import check_executors
from pipcook_provider.dag_factory.notifications import notifiers
from pipcook_provider.dag_factory.parameters import trigger_form
from pipcook_provider.dag_factory.refusal import refusal
from pipcook_provider.dag_factory.schedules import schedule_arguments
from pipcook_provider.errors import PipcookError
from pipcook_provider.operators.artifact import PipcookArtifactOperator
from pipcook_provider.operators.prepare import PipcookPrepareOperator
from pipcook_provider.operators.stage import PipcookStageOperator
from pipcook_provider.plan import Stage, dag_id_of, gpus_of, model_asset, plan, stage_options
from pipcook_provider.settings import Settings
from pipcook_provider.spec import AirflowOptions, ArtifactSpec, Gpu, PipelineSpec, StageOptions, load_pipeline_spec
from pipcook_provider.spec.stages import PREPARE


@dataclass(frozen=True, slots=True)
class DocumentSource:
    """Where a document comes from.

    :param origin: the URL that it was fetched from; None for a file.
    :param shown: what people call it: its path in the dags folder or bundle, or its URL.
    """

    origin: str | None
    shown: str


def load_pipeline(path: str | Path, dag_id: str | None = None, *, source: DocumentSource | None = None) -> DAG:
    """Build the DAG of one pipeline document.

    :param path: the document.
    :param dag_id: by default the file's name without ``.json``.
    :param source: where the document comes from; by default it is that file, and called by its name.
    :raises SpecError: the document cannot be used; every problem is named with its place.
    :raises PipcookError: Airflow cannot take what the document says.
    """
    path = Path(path).absolute()
    source = source or DocumentSource(None, path.name)
    spec = load_pipeline_spec(path, source.origin)
    try:
        return _build(spec, path, dag_id or dag_id_of(path.name), source)
    except (PipcookError, AssertionError, AttributeError, ImportError, NameError):
        raise  # the latter are mistakes of the code, no document's
    except Exception as exc:  # what Airflow does not like, it says in many ways
        raise PipcookError(
            f"{source.origin or path}: Airflow cannot take it: {type(exc).__name__}: {str(exc).rstrip('.')}. There is no DAG "
            "of it. Correct the document, in most cases its options.airflow."
        ) from exc


class _PipelineDAG(DAG):
    """A DAG that is shown by its document, not by the file that loads it."""

    _document: str

    def validate(self) -> None:
        """Be valid, and show the document: called after the importer has noted the loader's path."""
        super().validate()  # type: ignore[no-untyped-call]
        self.fileloc = self._document


def _build(spec: PipelineSpec, path: Path, dag_id: str, source: DocumentSource) -> DAG:
    airflow = spec.airflow
    refuse = partial(refusal, path, source.origin)
    check_executors(spec, refuse)
    optional = {
        "description": airflow.description,
        "max_active_runs": airflow.max_active_runs,
        "on_failure_callback": notifiers(airflow, _settings().notifiers, refuse) or None,
    }
    dag = _PipelineDAG(
        dag_id=dag_id,
        **schedule_arguments(airflow),
        tags=["pipcook", *airflow.tags],
        default_args=_given({"owner": airflow.owner, **_task_arguments(airflow)}),
        doc_md=documentation(spec, path, source.shown),
        **_given(optional),
    )
    dag._document = str(path)
    if airflow.schedule:
        dag.timetable.validate()  # later, Airflow would blame the file that loads the document
    settings = _settings()
    runner = airflow.runner or settings.runner
    make_task = _docker_task if runner == "docker" else _process_task
    previous: Any = PipcookPrepareOperator(task_id=PREPARE, document=path, origin=source.origin, runner=runner, dag=dag)
    for stage in plan(spec):
        arguments = _stage_arguments(spec, stage)
        if stage.role == "model":
            arguments["outlets"] = [Asset(model_asset(dag_id))]
        task = make_task(stage, dag, arguments)
        previous.set_downstream(task)
        previous = task
    # Now, not before: every task would deep-copy them, twice, which costs more than all else here.
    dag.params.update(trigger_form(spec))
    return dag


def _process_task(stage: Stage, dag: DAG, arguments: Mapping[str, Any]) -> BaseOperator:
    common = {"task_id": stage.task_id, "task_display_name": stage.title, "dag": dag, **arguments}
    if isinstance(stage.subject, ArtifactSpec):
        return PipcookArtifactOperator(artifact=stage.order + 1, **common)
    return PipcookStageOperator(**common)


def _docker_task(stage: Stage, dag: DAG, arguments: Mapping[str, Any]) -> BaseOperator:
    from pipcook_provider.operators.docker import PipcookDockerOperator

    return PipcookDockerOperator(task_id=stage.task_id, task_display_name=stage.title, dag=dag, **arguments)


def _stage_arguments(spec: PipelineSpec, stage: Stage) -> dict[str, Any]:
    """Return how a task is scheduled otherwise than the others of its DAG."""
    if not spec.airflow.stages and spec.gpu is Gpu.NO:
        return {}
    options = stage_options(spec, stage)
    arguments = _task_arguments(options)
    if gpus_of(spec, stage) and not options.pool:
        arguments["pool"] = _settings().gpu_pool
    return arguments


def reload_settings() -> None:
    """Read this machine's settings anew.

    :raises SettingsError: they cannot be used.
    """
    _settings.cache_clear()
    _settings()


@cache
def _settings() -> Settings:
    """Return this machine's settings; read once per process, since every document asks for them."""
    return Settings.load()


def _task_arguments(options: AirflowOptions | StageOptions) -> dict[str, Any]:
    """Return arguments of operators: what a pipeline, or a stage of it, has in common with any DAG of Airflow."""
    return _given(
        {
            "pool": options.pool,
            "queue": options.queue,
            "executor": options.executor,
            "priority_weight": options.priority_weight,
            "retries": options.retries,
            "retry_delay": _duration(options.retry_delay),
            "execution_timeout": _duration(options.execution_timeout),
        }
    )


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
