"""Pipcook pipelines on Apache Airflow: a pipeline JSON in a dags folder becomes a DAG that trains a model.

The names below are imported when they are first used, so that ``import pipcook_provider`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pipcook_provider.dag_factory import load_pipeline, load_pipelines
    from pipcook_provider.errors import PipcookError
    from pipcook_provider.hooks.framework import PipcookFrameworkHook
    from pipcook_provider.operators.artifact import PipcookArtifactOperator
    from pipcook_provider.operators.docker import PipcookDockerOperator
    from pipcook_provider.operators.prepare import PipcookPrepareOperator
    from pipcook_provider.operators.stage import PipcookStageOperator

_EXPORTS = {
    "PipcookArtifactOperator": "pipcook_provider.operators.artifact",
    "PipcookDockerOperator": "pipcook_provider.operators.docker",
    "PipcookError": "pipcook_provider.errors",
    "PipcookFrameworkHook": "pipcook_provider.hooks.framework",
    "PipcookPrepareOperator": "pipcook_provider.operators.prepare",
    "PipcookStageOperator": "pipcook_provider.operators.stage",
    "load_pipeline": "pipcook_provider.dag_factory",
    "load_pipelines": "pipcook_provider.dag_factory",
}

__all__ = [
    "PipcookArtifactOperator",
    "PipcookDockerOperator",
    "PipcookError",
    "PipcookFrameworkHook",
    "PipcookPrepareOperator",
    "PipcookStageOperator",
    "load_pipeline",
    "load_pipelines",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
