"""Pipeline documents as Airflow DAGs: ``prepare >> datasource >> dataflow_n >> model >> artifact_n``.

This is the DAG-parse path: it reads JSON, and nothing else happens here. No network, no child process, no connection,
nothing that changes from one parse to the next.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from airflow.sdk import DAG, Param, get_parsing_context

from pipcook_provider.errors import PipcookError
from pipcook_provider.operators.artifact import PipcookArtifactOperator
from pipcook_provider.operators.prepare import PipcookPrepareOperator
from pipcook_provider.operators.stage import PipcookStageOperator
from pipcook_provider.plan import PREPARE, Stage, plan
from pipcook_provider.spec import ArtifactSpec, PipelineSpec, is_pipeline_document, load_pipeline_spec
from pipcook_provider.spec.schema import at

#: Larger files in a dags folder are data, not pipeline documents; they are not even read.
MAXIMUM_DOCUMENT_BYTES = 1024 * 1024

_DEFAULTS_NAME = "pipcook.defaults.json"

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
    wanted = get_parsing_context().dag_id
    if wanted is not None:
        found = next((path for dag_id, path in _documents(folder) if dag_id == wanted and _is_pipeline(path)), None)
        return {} if found is None else {wanted: load_pipeline(found, wanted)}
    dags: dict[str, DAG] = {}
    sources: dict[str, Path] = {}
    for dag_id, path in _documents(folder):
        if not _is_pipeline(path):
            continue
        try:
            if dag_id in dags:
                raise PipcookError(
                    f"{path}: expected a dag_id of its own, found {dag_id!r}, which {sources[dag_id]} has already. "
                    "Rename one of the two files."
                )
            dags[dag_id] = load_pipeline(path, dag_id)
        except PipcookError as exc:
            stand_in = f"{dag_id}__{len(dags)}" if dag_id in dags else dag_id
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
    def of(cls, path: Path, folder: Path, dag_id: str, error: PipcookError) -> _BrokenPipeline:
        dag = cls(dag_id=dag_id, schedule=None)
        dag.__dict__["document"] = path.relative_to(folder)
        dag.__dict__["error"] = error
        return dag

    def validate(self) -> None:
        """Claim the document's path: called after the importer has noted the loader's."""
        if self.relative_fileloc:
            self.relative_fileloc = str(Path(self.relative_fileloc).parent / self.__dict__["document"])

    def get_serialized_fields(self) -> NoReturn:  # type: ignore[override]
        """Refuse to be serialized, with the reason that a person is to read."""
        raise self.__dict__["error"]


def _documents(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the JSON files in a folder that may be pipeline documents, each with its dag_id, in a stable order.

    Names only: a task's start finds its document among thousands without touching the others.
    """
    for current, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")) and name != "node_modules")
        prefix = "".join(f"{part}." for part in Path(current).relative_to(folder).parts)
        for name in sorted(names):
            if name.endswith(".json") and not name.startswith(".") and name != _DEFAULTS_NAME:
                yield _dag_id(prefix + name), Path(current, name)


def _is_pipeline(path: Path) -> bool:
    return path.stat().st_size <= MAXIMUM_DOCUMENT_BYTES and is_pipeline_document(
        path.read_text(encoding="utf-8", errors="replace")
    )


def _dag_id(name: str) -> str:
    """Return the dag_id of a document: its path, never its content, so that a task finds its file unread."""
    return re.sub(r"[^\w.-]", "_", name.removesuffix(".json"))


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
    previous: Any = PipcookPrepareOperator(task_id=PREPARE, document=path, dag=dag)
    for stage in plan(spec):
        task = _task(stage, dag)
        previous.set_downstream(task)
        previous = task
    # Now, not before: every task would deep-copy them, twice, which costs more than all else here.
    dag.params.update(dict(_params(spec.train)))
    return dag


def _task(stage: Stage, dag: DAG) -> PipcookStageOperator | PipcookArtifactOperator:
    if isinstance(stage.subject, ArtifactSpec):
        return PipcookArtifactOperator(
            task_id=stage.task_id, task_display_name=stage.title, artifact=stage.order + 1, dag=dag
        )
    return PipcookStageOperator(task_id=stage.task_id, task_display_name=stage.title, dag=dag)


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
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    type(None): ["null", "string", "number", "boolean"],
}


def _params(train: Mapping[str, Any], outer: str = "") -> Iterator[tuple[str, Param]]:
    """Yield a typed field of the trigger form for every value of ``options.train``; nested ones as ``outer.inner``."""
    for name, value in train.items():
        if isinstance(value, dict):
            yield from _params(value, f"{outer}{name}.")
        else:
            yield (
                f"{outer}{name}",
                Param(
                    value,
                    description=_description(outer + name),
                    type=_TYPES[type(value)],
                ),
            )


@lru_cache(maxsize=1024)
def _description(name: str) -> str | None:
    return at(("options", "train", *name.split("."))).get("description")


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
