"""A stage that is under way, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipcook_provider.launchers import Launch
from pipcook_provider.plan import Stage
from pipcook_provider.spec import PipelineSpec
from pipcook_provider.store.workspace import Workspace


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a finished stage tells: small figures and references.

    :param task_id: the stage.
    :param seconds: wall time.
    :param value: what the stage's role reports: ``samples`` per split, the model's ``files``, ``bytes`` and ``digest`` (of its
        folder), what an artifact processor ``built``.
    :param metrics: what the script measured for the whole run, or else the last value of each metric of its steps; None
        for what is no finite number.
    """

    task_id: str
    seconds: float
    value: Mapping[str, Any]
    metrics: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageJob:
    """A stage that is ready to be launched, or was launched by a process that is gone.

    :param spec: the document as it runs.
    :param launch: what its launcher is given.
    """

    spec: PipelineSpec
    stage: Stage
    workspace: Workspace
    launch: Launch
