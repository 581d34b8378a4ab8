"""The tasks of a pipeline's artifact processors."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context

from pipcook_provider.operators.base import PipcookOperator


class PipcookArtifactOperator(PipcookOperator):
    """Runs one artifact processor on the trained model, in a process of its own.

    Pushes the stage's :class:`~pipcook_provider.stages.StageResult` as its XCom: seconds and what was ``built``.

    :param artifact: which entry of the document's ``artifact`` list, counted from 1.
    :param prepare_task_id: the task that prepared the run.
    """

    ui_color = "#eaf7ea"

    def __init__(self, *, artifact: int = 1, prepare_task_id: str = "prepare", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.artifact = artifact
        self.prepare_task_id = prepare_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Build the artifact."""
        return self._run_stage(context, f"artifact_{self.artifact}", self.prepare_task_id)
