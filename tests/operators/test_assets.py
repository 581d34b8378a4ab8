"""What the events of a task's assets tell; real stages, and Airflow's own collection of events."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import AirflowFailException
from airflow.sdk import Asset, AssetAlias, BaseOperator
from airflow.sdk.execution_time.context import OutletEventAccessors
from helpers import prepared

from pipcook_provider import PipcookDockerOperator, PipcookStageOperator
from pipcook_provider.operators.assets import publish_assets
from pipcook_provider.store.workspace import Workspace

MODEL = Asset("pipcook://models/toy")

TRAIN = """
def train(runtime, options, context):
    runtime.log_metric("accuracy", 0.5)
    runtime.log_metric("ratio", float("inf"))
    runtime.save_model(b"weights", "deep/weights.bin")
"""

RESULT = {"task_id": "model", "seconds": 1.5, "value": {"digest": "0" * 64}, "metrics": {"accuracy": 0.5}}


def context_of(workspace: Workspace) -> Any:
    """Return as much of a task's context as operators look at."""
    handed_on = {"workspace": str(workspace.root), "host": "here"}
    task_instance = SimpleNamespace(dag_id="toy", run_id="manual", xcom_pull=lambda **_: handed_on)
    return {"ti": task_instance, "outlet_events": OutletEventAccessors()}


def told(context: Any) -> dict[str, Any]:
    """Return what the events tell, by the names of the assets."""
    return {asset.name: context["outlet_events"][asset].extra for asset in context["outlet_events"]}


def execute(workspace: Workspace, stage: str, *outlets: Any) -> tuple[Any, dict[str, Any]]:
    """Run a stage as its task would; return the context and the XCom."""
    context = context_of(workspace)
    return context, PipcookStageOperator(task_id=stage, outlets=list(outlets)).execute(context)


def trained(runner: Any, document: Path, folder: Path, **train: Any) -> tuple[Workspace, str]:
    """Train a model; return its run's folder and its digest."""
    workspace = prepared(runner, document, folder, train)
    execute(workspace, "datasource")
    _, result = execute(workspace, "model", MODEL)
    return workspace, result["value"]["digest"]


@pytest.fixture
def document(write_pipeline) -> Path:
    return write_pipeline(dataflow=[], artifact=[], scripts={"model.py": TRAIN})


def test_event_of_a_model(runner, document, tmp_path) -> None:
    """The model's event tells what was measured, the folder's digest, what it was made with, and where it is."""
    workspace = prepared(runner, document, tmp_path / "run")
    execute(workspace, "datasource")
    context, result = execute(workspace, "model", MODEL, Asset("other"))
    lines = [
        f"{hashlib.sha256((workspace.model / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("deep/weights.bin", "pipeline.json")
    ]
    extra = {
        "metrics": {"accuracy": 0.5, "ratio": None},
        "digest": hashlib.sha256("".join(lines).encode()).hexdigest(),
        "framework": None,
        "seconds": result["seconds"],
        "dag_id": "toy",
        "run_id": "manual",
        "workspace": str(workspace.root),
    }
    assert told(context) == {MODEL.name: extra, "other": extra}
    assert json.loads(json.dumps(extra, allow_nan=False)) == extra
    assert result["value"]["digest"] == extra["digest"]


def test_digest_is_that_of_the_model(runner, document, tmp_path) -> None:
    """The same model, made from the same, has the same digest in every run; another parameter is another one."""
    _, first = trained(runner, document, tmp_path / "first")
    workspace, second = trained(runner, document, tmp_path / "second")
    _, third = trained(runner, document, tmp_path / "third", epochs=7)
    assert first == second
    assert third != first
    (workspace.model / "deep" / "weights.bin").write_bytes(b"changed")
    _, result = execute(workspace, "model")
    assert result["value"]["digest"] == first


def test_stage_that_fails_tells_nothing(runner, write_pipeline, tmp_path) -> None:
    """A stage that fails leaves no figures to be told."""
    broken = write_pipeline(
        dataflow=[], artifact=[], scripts={"datasource.py": "def datasource(options, context):\n    x"}
    )
    context = context_of(prepared(runner, broken, tmp_path / "run"))
    with pytest.raises(AirflowFailException, match="NameError"):
        PipcookStageOperator(task_id="datasource", outlets=[MODEL]).execute(context)
    assert told(context) == {}


def test_assets_of_other_stages(runner, document, tmp_path) -> None:
    """The assets of any stage get its figures, those that make no model without a digest; aliases name no asset."""
    context, result = execute(
        prepared(runner, document, tmp_path / "run"), "datasource", Asset("rows"), AssetAlias("a")
    )
    ((name, extra),) = told(context).items()
    assert name == "rows"
    assert extra.keys() == {"metrics", "framework", "seconds", "dag_id", "run_id", "workspace"}
    assert (extra["metrics"], extra["seconds"]) == ({}, result["seconds"])


def test_extra_of_others_stays(write_pipeline, tmp_path) -> None:
    """What a hook of the task has put into the event before is still there."""
    workspace = Workspace.create(tmp_path / "run")
    workspace.config.write_bytes(write_pipeline().read_bytes())
    context = context_of(workspace)
    context["outlet_events"][MODEL].extra["team"] = "web"
    publish_assets(BaseOperator(task_id="model", outlets=[MODEL]), context, workspace, RESULT)
    extra = context["outlet_events"][MODEL].extra
    assert (extra["team"], extra["digest"], extra["seconds"]) == ("web", "0" * 64, 1.5)


def test_event_of_a_stage_in_a_container(write_pipeline, tmp_path, monkeypatch) -> None:
    """What ran in a container is told as what ran in a process, whoever followed it to its end."""
    workspace = Workspace.create(tmp_path / "run")
    workspace.config.write_bytes(write_pipeline().read_bytes())
    operator = PipcookDockerOperator(task_id="model", outlets=[MODEL])

    @contextmanager
    def opened(context: Any) -> Any:
        operator._session = SimpleNamespace(workspace=workspace)  # type: ignore[assignment]
        yield

    monkeypatch.setattr(operator, "_open_session", opened)
    monkeypatch.setattr(operator, "execute_resumable", lambda _: RESULT)
    context = context_of(workspace)
    assert operator.execute(context) == RESULT
    assert told(context)[MODEL.name]["digest"] == "0" * 64
