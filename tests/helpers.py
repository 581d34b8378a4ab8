"""Steps that many tests begin with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipcook_provider.spec import PipelineSpec, load_pipeline_spec
from pipcook_provider.stages import StageRunner
from pipcook_provider.store.workspace import Workspace


def prepared(
    runner: StageRunner, document: Path | PipelineSpec, folder: Path, train: Mapping[str, Any] | None = None
) -> Workspace:
    """Prepare a run of a document in a folder and return its workspace."""
    spec = load_pipeline_spec(document) if isinstance(document, Path) else document
    workspace = Workspace.create(folder)
    runner.prepare(spec, workspace, train)
    return workspace
