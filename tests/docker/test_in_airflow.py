"""Pipelines whose stages run in containers, in a real Airflow."""

from __future__ import annotations

import json
import os
import shutil
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airflow.sdk as airflow_sdk
import docker
import psutil
import pytest
from airflow_server import Airflow, running_airflow, wait_for

RETRIES_RESUME = hasattr(airflow_sdk, "ResumableJobMixin")

PASSWORD = "open-sesame-8"

REPOSITORY = Path(__file__).resolve().parents[2]

#: A lost worker is noticed after seconds, not minutes. The secret is one that Airflow would make up for itself.
CONFIGURATION = """
[dag_processor]
min_file_process_interval = 5
refresh_interval = 5
[scheduler]
task_instance_heartbeat_timeout = 10
task_instance_heartbeat_timeout_detection_interval = 2
task_instance_heartbeat_sec = 2
[pipcook]
template_connections = shop
[api_auth]
jwt_secret = c2VjcmV0IG9mIGEgdGVzdCB0aGF0IGxpc3RlbnMgb24gbG9vcGJhY2sgb25seQ==
"""

DATASOURCE = """
from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    lines = context.download("numbers.txt").read_text().split()
    return DatasetPool.from_samples(train=[Sample(float(line)) for line in lines])
"""

#: Waits for the test in the middle of its training.
SLOW = """
import os, time

def train(runtime, options, context):
    began = context.workspace.data_dir / "began"
    with began.open("a") as file:
        file.write(os.uname().nodename + "\\n")
    print("训练 has begun as", os.environ["SHOP"])
    deadline = time.monotonic() + 240
    while not (context.workspace.data_dir / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    runtime.log_metric("total", sum(sample.data for sample in runtime.dataset.train))
    print("training is over")
    runtime.save_model(b"done", "model.txt")
"""

MISTAKEN = """
def train(runtime, options, context):
    return undefined_name
"""


def write_document(folder: Path, name: str, model: str, target: str = "model.zip", **airflow: Any) -> None:
    document = {
        "specVersion": "2.0",
        "datasource": "datasource.py?url=numbers.txt",
        "model": model,
        "artifact": [{"processor": "pipcook-artifact-zip@0.0.2", "target": target}],
        "options": {"train": {"epochs": 2}, "airflow": {"runner": "docker", "retry_delay": 1, **airflow}},
    }
    (folder / name).write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, framework_home: Path, tensorflow_framework: Path
) -> Iterator[Airflow]:
    """An Airflow with pipelines for containers, and the session's TensorFlow."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    dags.mkdir()
    (home / "cache").symlink_to(framework_home)
    (home / "airflow.cfg").write_text(CONFIGURATION, encoding="utf-8")
    shutil.copy(REPOSITORY / "dags" / "pipcook_dags.py", dags)
    for name, text in {"datasource": DATASOURCE, "slow": SLOW, "mistaken": MISTAKEN}.items():
        (dags / f"{name}.py").write_text(text, encoding="utf-8")
    (dags / "numbers.txt").write_text("1 2 3 4", encoding="utf-8")
    env = {"SHOP": "{{ conn.shop.login }}:{{ conn.shop.password }}"}
    write_document(dags, "slow.json", "slow.py", target=str(home / "published" / "slow.zip"), retries=2, env=env)
    write_document(dags, "mistaken.json", "mistaken.py", retries=1)
    digits = json.loads((REPOSITORY / "dags" / "digits-image-classification.json").read_text())
    scripts = REPOSITORY / "pipcook_provider" / "scripts" / "image_classification"
    digits["datasource"] = f"{scripts}/datasource.py?url=data/digits.zip"
    digits["dataflow"] = [f"{scripts}/dataflow.py?size=32&size=32"]
    digits["model"] = f"{scripts}/model.py"
    digits["options"]["airflow"] = {"runner": "docker"}
    (dags / "digits.json").write_text(json.dumps(digits), encoding="utf-8")
    shutil.copytree(REPOSITORY / "dags" / "data", dags / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PIPCOOK_HOME", raising=False)
        patch.setenv("AIRFLOW_CONN_SHOP", f"postgres://reader:{PASSWORD}@db.example.com/shop")
        with running_airflow(home, dags) as airflow:
            wait_for(
                lambda: {dag["dag_id"] for dag in airflow.request("GET", "dags")["dags"]},
                {"slow", "mistaken", "digits"}.issubset,
            )
            yield airflow


@pytest.fixture
def engine() -> Iterator[docker.APIClient]:
    client = docker.APIClient()
    yield client
    client.close()


def containers(engine: docker.APIClient, dag_id: str) -> list[dict[str, Any]]:
    """Return the containers of a DAG, those that have ended among them."""
    found: list[dict[str, Any]] = engine.containers(all=True, filters={"label": f"io.pipcook.dag={dag_id}"})
    return found


def begun(airflow: Airflow, run_id: str) -> Path:
    """Wait until the slow model trains; return the run's workspace."""
    wait_for(lambda: airflow.tasks("slow", run_id), lambda tasks: tasks["prepare"]["state"] == "success")
    workspace = Path(airflow.result("slow", run_id, "prepare")["workspace"])
    wait_for((workspace / "data" / "began").exists, bool)
    return workspace


def test_digits_are_learnt_in_containers(airflow: Airflow, engine: docker.APIClient) -> None:
    """The shipped pipeline reads as many digits right as with processes, and leaves its zip and no container."""
    run_id = airflow.trigger("digits")
    assert airflow.finished("digits", run_id) == "success", airflow.tasks("digits", run_id)
    result = airflow.result("digits", run_id, "model")
    assert result["metrics"]["accuracy"] >= 0.95
    assert result["value"]["device"].startswith("CPU")
    workspace = Path(airflow.result("digits", run_id, "prepare")["workspace"])
    with zipfile.ZipFile(workspace / "digits-model.zip") as archive:
        assert {"model.keras", "categories.json", "pipeline.json"} <= set(archive.namelist())
    assert {path.stat().st_uid for path in workspace.rglob("*")} == {os.getuid()}
    assert containers(engine, "digits") == []


def test_artifact_is_published_on_the_worker(airflow: Airflow, engine: docker.APIClient) -> None:
    """Prints arrive while the container runs; the zip is where the document says, beside the workspace."""
    run_id = airflow.trigger("slow")
    workspace = begun(airflow, run_id)
    wait_for(lambda: airflow.log("slow", run_id, "model"), lambda log: "训练 has begun" in log, 30)
    (workspace / "data" / "go").touch()
    assert airflow.finished("slow", run_id) == "success"
    target = workspace.parents[2] / "published" / "slow.zip"
    assert airflow.result("slow", run_id, "artifact_1")["value"]["built"] == str(target)
    with zipfile.ZipFile(target) as archive:
        assert archive.read("model.txt") == b"done"
    assert not list(workspace.glob("cache/stages/*.partial"))
    assert containers(engine, "slow") == []


def test_password_reaches_the_script_only(airflow: Airflow, engine: docker.APIClient) -> None:
    """A variable with a connection's password is in the script's environment, and neither in what the engine tells of the
    container, nor in a log, nor in a file of the run.
    """
    run_id = airflow.trigger("slow")
    workspace = begun(airflow, run_id)
    (container,) = containers(engine, "slow")
    assert PASSWORD not in json.dumps(engine.inspect_container(container["Id"]))
    (workspace / "data" / "go").touch()
    assert airflow.finished("slow", run_id) == "success"
    assert "训练 has begun as ***" in airflow.log("slow", run_id, "model")
    folders = (workspace, airflow.dags.parent / "logs")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []


def test_lost_worker_costs_no_training(airflow: Airflow, engine: docker.APIClient) -> None:
    """After SIGKILL of the worker the retry takes over the container that still trains, with its whole log.

    Below Airflow 3.3, where a retry knows nothing of the try before, it ends that container and trains anew.
    """
    run_id = airflow.trigger("slow")
    workspace = begun(airflow, run_id)
    (first,) = containers(engine, "slow")
    task = psutil.Process(airflow.tasks("slow", run_id)["model"]["pid"])
    for process in (task.parent(), task):
        os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: airflow.tasks("slow", run_id)["model"], lambda task: task["try_number"] == 2)
    wait_for(lambda: airflow.tasks("slow", run_id)["model"], lambda task: task["state"] == "running")
    began = workspace / "data" / "began"
    if not RETRIES_RESUME:
        wait_for(lambda: len(began.read_text().split()), lambda count: count == 2)
    (second,) = containers(engine, "slow")
    assert (second["Id"] == first["Id"]) is RETRIES_RESUME
    (workspace / "data" / "go").touch()
    assert airflow.finished("slow", run_id) == "success", airflow.log("slow", run_id, "model", 2)
    assert len(began.read_text().split()) == (1 if RETRIES_RESUME else 2)
    assert airflow.result("slow", run_id, "model")["metrics"] == {"total": 10.0}
    log = airflow.log("slow", run_id, "model", 2)
    assert "训练 has begun" in log
    assert "training is over" in log
    assert containers(engine, "slow") == []


def test_finished_task_that_is_cleared_runs_again(airflow: Airflow, engine: docker.APIClient) -> None:
    """Clearing the model's task after its success trains anew."""
    run_id = airflow.trigger("slow")
    workspace = begun(airflow, run_id)
    (workspace / "data" / "go").touch()
    assert airflow.finished("slow", run_id) == "success"
    airflow.request(
        "POST",
        "dags/slow/clearTaskInstances",
        json={
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": ["model"],
            "only_failed": False,
            "reset_dag_runs": True,
        },
    )
    wait_for(lambda: len((workspace / "data" / "began").read_text().split()), lambda count: count == 2)
    assert airflow.finished("slow", run_id) == "success"
    assert containers(engine, "slow") == []


def test_task_that_is_marked_failed_leaves_no_container(airflow: Airflow, engine: docker.APIClient) -> None:
    """A person who marks the running task as failed ends and removes its container within a minute."""
    run_id = airflow.trigger("slow")
    begun(airflow, run_id)
    assert len(containers(engine, "slow")) == 1
    airflow.request("PATCH", f"dags/slow/dagRuns/{run_id}/taskInstances/model", json={"new_state": "failed"})
    wait_for(lambda: containers(engine, "slow"), lambda found: found == [], 60)
    assert airflow.finished("slow", run_id) == "failed"


def test_mistake_in_a_script_spends_no_retries(airflow: Airflow, engine: docker.APIClient) -> None:
    """What cannot go away by itself fails at once, with the script's file and line, and leaves no container."""
    run_id = airflow.trigger("mistaken")
    assert airflow.finished("mistaken", run_id) == "failed"
    assert airflow.tasks("mistaken", run_id)["model"]["try_number"] == 1
    log = airflow.log("mistaken", run_id, "model")
    assert "mistaken.py, line 3 (in the run: scripts/1-mistaken.py)" in log
    assert "NameError: name 'undefined_name' is not defined" in log
    assert containers(engine, "mistaken") == []
