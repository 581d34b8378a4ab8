"""A pipeline as a list of stages. Light enough for the DAG-parse path; :mod:`pipcook_provider.stages` runs them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import quote

from pipcook_provider.spec import ArtifactSpec, Gpu, PipelineSpec, ScriptSpec, StageOptions

#: Characters of a script's or processor's name in titles; Airflow's database has room for 2000 in all.
_LONGEST_NAME = 250

#: Where a document names its framework; the last key is also the name by which a run is given another one.
FRAMEWORK = ("options", "framework")


@dataclass(frozen=True, slots=True)
class Stage:
    """One task of a pipeline after ``prepare``.

    :param task_id: ``datasource``, ``dataflow_1``, ``model``, ``artifact_1``; stable whatever the scripts are.
    :param role: ``datasource``, ``dataflow``, ``model`` or ``artifact``.
    :param subject: the script or the artifact's entry.
    :param order: place of a script among the scripts, of an artifact among the artifacts, counted from 0.
    :param source: task id of the stage whose dataset this one reads.
    """

    task_id: str
    role: str
    subject: ScriptSpec | ArtifactSpec
    order: int
    source: str | None = None

    @property
    def title(self) -> str:
        """What a person calls the stage: ``dataflow 1: resize.py``, ``artifact 1: pipcook-artifact-zip``."""
        name = self.subject.basename if isinstance(self.subject, ScriptSpec) else self.subject.processor
        return f"{self.task_id.replace('_', ' ')}: {name[:_LONGEST_NAME]}"


def plan(spec: PipelineSpec) -> tuple[Stage, ...]:
    """Return the stages that follow ``prepare``, in order."""
    stages = [Stage("datasource", "datasource", spec.datasource, 0)]
    for number, script in enumerate(spec.dataflow, start=1):
        stages.append(Stage(f"dataflow_{number}", "dataflow", script, number, stages[-1].task_id))
    stages.append(Stage("model", "model", spec.model, len(spec.dataflow) + 1, stages[-1].task_id))
    for number, artifact in enumerate(spec.artifacts, start=1):
        stages.append(Stage(f"artifact_{number}", "artifact", artifact, number - 1))
    return tuple(stages)


def stage_options(spec: PipelineSpec, stage: Stage) -> StageOptions:
    """Return how a stage is run: what the document says of its task id, else of its role, else of the whole pipeline."""
    airflow = spec.airflow
    options = StageOptions(
        image=airflow.image,
        network=airflow.network,
        memory=airflow.memory,
        pool=airflow.pool,
        queue=airflow.queue,
        executor=airflow.executor,
        priority_weight=airflow.priority_weight,
        retries=airflow.retries,
        retry_delay=airflow.retry_delay,
        execution_timeout=airflow.execution_timeout,
    )
    for name in (stage.role, stage.task_id):
        if name in airflow.stages:
            options = _overlaid(options, airflow.stages[name])
    return options


def gpus_of(spec: PipelineSpec, stage: Stage) -> int:
    """Return how many GPUs a stage asks for: that of the model, unless the document says otherwise."""
    asks = stage_options(spec, stage).gpu
    if asks is None:
        asks = stage.role == "model" and spec.gpu is not Gpu.NO
    return spec.airflow.gpus if asks else 0


def _overlaid(below: StageOptions, above: StageOptions) -> StageOptions:
    given = {option.name: getattr(above, option.name) for option in fields(above)}
    stated = {name: value for name, value in given.items() if value is not None}
    return replace(below, **{**stated, "image": {**below.image, **above.image}})


def dag_id_of(name: str) -> str:
    """Return the dag_id of a document: made of its path, never of its content, so that a task finds its file unread.

    :param name: the path below the folder with the DAGs, with ``/``.
    """
    return re.sub(r"[^\w.-]", "_", name.removesuffix(".json").replace("/", "."))


def dag_id_taken(dag_id: str, *others: object) -> str:
    """Return what is wrong with a document whose dag_id others have.

    :param others: their paths or URLs.
    """
    named = ", ".join(map(str, others))
    return (
        f'Expected a dag_id of its own, found "{dag_id}", which {named} has too: only one of them becomes a DAG. '
        "Rename one of the files."
    )


def model_asset(dag_id: str) -> str:
    """Return name and URI of the asset that a DAG's trained model is."""
    return f"pipcook://models/{quote(dag_id, safe='')}"


@dataclass(frozen=True, slots=True)
class RunParameter:
    """A value of a document that a run may be triggered with another one of.

    :param name: ``epochs`` and ``optimizer.rate`` of ``options.train``, ``datasource.url`` and ``dataflow_1.size`` of the
        scripts' queries, ``framework``; no two of a document have the same.
    :param section: what it belongs to: the title of a stage, or ``Framework``; None for ``options.train``.
    :param value: what the document says.
    :param path: keys of the value in the document, or of the script's URI.
    :param query: its key in the query of that URI; None for what is in no query.
    """

    name: str
    section: str | None
    value: Any
    path: tuple[str | int, ...]
    query: str | None = None


def run_parameters(spec: PipelineSpec) -> Iterator[RunParameter]:
    """Yield what a run may be triggered with: training parameters, then those of each script, then the framework.

    A training parameter whose name is taken is called ``train.NAME``.
    """
    queries = tuple(_query_parameters(spec))
    taken = {FRAMEWORK[-1], *(parameter.name for parameter in queries)}
    for keys, value in _leaves(spec.train):
        name = ".".join(keys)
        while name in taken:
            name = f"train.{name}"
        taken.add(name)
        yield RunParameter(name, None, value, ("options", "train", *keys))
    yield from queries
    yield RunParameter(FRAMEWORK[-1], "Framework", spec.framework, FRAMEWORK)


def _query_parameters(spec: PipelineSpec) -> Iterator[RunParameter]:
    for stage in plan(spec):
        if isinstance(stage.subject, ScriptSpec):
            path = spec.script_paths[stage.order]
            for key, value in stage.subject.parameters.items():
                yield RunParameter(f"{stage.task_id}.{key}", stage.title, value, path, key)


def _leaves(train: Mapping[str, Any], outer: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the values of ``options.train`` with their keys, those of nested objects one by one."""
    for key, value in train.items():
        keys = (*outer, key)
        if isinstance(value, dict) and value:
            yield from _leaves(value, keys)
        else:
            yield keys, value
