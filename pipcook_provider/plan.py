"""A pipeline as a list of stages. Light enough for the DAG-parse path; :mod:`pipcook_provider.stages` runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pipcook_provider.spec import ArtifactSpec, Gpu, PipelineSpec, ScriptSpec, StageOptions

#: Task id of what goes before the stages.
PREPARE = "prepare"


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
        return f"{self.task_id.replace('_', ' ')}: {name}"


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


@dataclass(frozen=True, slots=True)
class TrainingParameter:
    """A value of ``options.train`` that a run may be triggered with another one of.

    :param name: its key; keys of nested objects are joined by dots.
    :param path: its keys from ``options.train`` on.
    :param value: what the document says.
    """

    name: str
    path: tuple[str, ...]
    value: Any


def training_parameters(train: Mapping[str, Any], outer: tuple[str, ...] = ()) -> Iterator[TrainingParameter]:
    """Yield the values of ``options.train``, those of nested objects one by one."""
    for key, value in train.items():
        path = (*outer, key)
        if isinstance(value, dict) and value:
            yield from training_parameters(value, path)
        else:
            yield TrainingParameter(".".join(path), path, value)
