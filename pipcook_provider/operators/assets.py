"""What a task's assets tell those who are scheduled on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator, Context

if TYPE_CHECKING:
    from pipcook_provider.store.workspace import Workspace


def publish_assets(task: BaseOperator, context: Context, workspace: Workspace, result: Mapping[str, Any]) -> None:
    """Let the events of a task's assets tell what its stage has made; a task that fails has no events.

    The ``extra`` of each event gets ``metrics`` (None for what is no finite number), ``digest`` (that of a model's folder),
    ``framework`` (the exact reference), ``seconds``, ``dag_id``, ``run_id`` and ``workspace`` (the run's folder).

    :param result: a stage's :class:`~pipcook_provider.stages.StageResult`, as its XCom has it.
    """
    assets = [outlet for outlet in task.outlets if isinstance(outlet, Asset)]
    if not assets:
        return
    from pipcook_provider.spec import load_pipeline_spec

    digest = result["value"].get("digest")
    extra = {
        "metrics": dict(result["metrics"]),
        **({"digest": digest} if digest else {}),
        "framework": load_pipeline_spec(workspace.config).framework,
        "seconds": result["seconds"],
        "dag_id": context["ti"].dag_id,
        "run_id": context["ti"].run_id,
        "workspace": str(workspace.root),
    }
    for asset in assets:
        context["outlet_events"][asset].extra.update(extra)
