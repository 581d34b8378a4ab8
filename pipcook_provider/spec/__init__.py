"""Pipeline documents: text + origin, and defaults of folders -> frozen `PipelineSpec`, or errors with their places.

Importing this package costs next to nothing; jsonschema is loaded when a document turns out to be wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipcook_provider.spec.model import (
    AirflowOptions,
    ArtifactSpec,
    AssetCondition,
    AssetSpec,
    Duration,
    Gpu,
    Parameter,
    PipelineSpec,
    Schedule,
    ScriptSpec,
    StageOptions,
)
from pipcook_provider.spec.parse import is_pipeline_document, load_pipeline_spec, parse_pipeline
from pipcook_provider.spec.schema import DEFAULTS_SCHEMA_PATH, SCHEMA_PATH

if TYPE_CHECKING:
    from pipcook_provider.spec.lint import lint_pipeline

__all__ = [
    "DEFAULTS_SCHEMA_PATH",
    "SCHEMA_PATH",
    "AirflowOptions",
    "ArtifactSpec",
    "AssetCondition",
    "AssetSpec",
    "Duration",
    "Gpu",
    "Parameter",
    "PipelineSpec",
    "Schedule",
    "ScriptSpec",
    "StageOptions",
    "is_pipeline_document",
    "lint_pipeline",
    "load_pipeline_spec",
    "parse_pipeline",
]


def __getattr__(name: str) -> Any:
    if name == "lint_pipeline":
        from pipcook_provider.spec.lint import lint_pipeline

        return lint_pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
