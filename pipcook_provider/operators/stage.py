"""The tasks of a pipeline's scripts."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context

from pipcook_provider.operators.base import PipcookOperator


class PipcookStageOperator(PipcookOperator):
    """Runs the script of one stage in a process of its own, beside the pipeline's framework.

    Pushes the stage's :class:`~pipcook_provider.stages.StageResult` as its XCom: seconds, samples, metrics.

    :param stage: ``datasource``, ``dataflow_1``, ``model``; the task id by default.
    :param prepare_task_id: the task that prepared the run.
    """

    def __init__(self, *, stage: str | None = None, prepare_task_id: str = "prepare", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stage = stage or self.task_id
        self.prepare_task_id = prepare_task_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the stage to its end."""
        return self._run_stage(context, self.stage, self.prepare_task_id)
