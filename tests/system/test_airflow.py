"""Pipelines in a real Airflow: API server, scheduler, DAG processor and workers of one ``airflow standalone``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow_server import Airflow, running_airflow, wait_for
from http_server import Server, serving
from postgresql import PostgreSQL

REPOSITORY = Path(__file__).resolve().parents[2]

#: Files are read again and leftovers cleared every second, not every 30 and 300. The secret is one that Airflow would make
#: up for itself in a configuration file of its own.
CONFIGURATION = """
[dag_processor]
min_file_process_interval = 1
refresh_interval = 3
[api_auth]
jwt_secret = c2VjcmV0IG9mIGEgdGVzdCB0aGF0IGxpc3RlbnMgb24gbG9vcGJhY2sgb25seQ==
"""

DATASOURCE = b"""
from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    count = int(options["count"])
    return DatasetPool.from_samples(train=[Sample(float(number)) for number in range(count)])
"""

MODEL = """
def train(runtime, options, context):
    print("训练 with", options)
    for epoch in range(options["epochs"]):
        runtime.notify_progress((epoch + 1) / options["epochs"], epoch=epoch)
    runtime.log_metric("total", sum(sample.data for sample in runtime.dataset.train))
    runtime.save_model("done".encode(), "model.txt")
"""

SLOW = """
import os, subprocess, sys, time

def datasource(options, context):
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (context.workspace.data_dir / "pids.part").write_text(f"{os.getpid()} {grandchild.pid}")
    (context.workspace.data_dir / "pids.part").rename(context.workspace.data_dir / "pids")
    time.sleep(600)
"""

FLAKY = """
from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    marker = context.workspace.data_dir / "tried"
    if not marker.exists():
        marker.touch()
        raise ConnectionError("the server is away")
    return DatasetPool.from_samples(train=[Sample(1.0)])
"""

MISTAKEN = """
def datasource(options, context):
    return undefined_name
"""


def write_document(folder: Path, name: str, **parts: Any) -> None:
    """Write a pipeline document with an artifact and one training parameter."""
    document = {
        "specVersion": "2.0",
        "model": "scripts/model.py",
        "artifact": [{"processor": "pipcook-artifact-zip@0.0.2", "target": "model.zip"}],
        "options": {"train": {"epochs": 2}},
        **parts,
    }
    (folder / name).write_text(json.dumps(document, indent=2), encoding="utf-8")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL, server: Server) -> Iterator[Airflow]:
    """An Airflow whose dags folder holds the loader that users copy, and documents of all kinds."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    (dags / "scripts").mkdir(parents=True)
    shutil.copy(REPOSITORY / "dags" / "pipcook_dags.py", dags)
    for name, text in {"model": MODEL, "slow": SLOW, "flaky": FLAKY, "mistaken": MISTAKEN}.items():
        (dags / "scripts" / f"{name}.py").write_text(text, encoding="utf-8")
    urls = [server.put("/datasource.py", DATASOURCE), server.put("/model.py", MODEL.encode())]
    write_document(dags, "served.json", datasource=f"{urls[0]}?count=4", model=urls[1])
    write_document(dags, "slow.json", datasource="scripts/slow.py")
    retries = {"train": {"epochs": 1}, "airflow": {"retries": 1, "retry_delay": 0}}
    write_document(dags, "flaky.json", datasource="scripts/flaky.py", options=retries)
    write_document(dags, "mistaken.json", datasource="scripts/mistaken.py", options=retries)
    (dags / "broken.json").write_text('{\n  "specVersion": "2.0",\n  "datasource": 3\n}', encoding="utf-8")
    (home / "airflow.cfg").write_text(CONFIGURATION, encoding="utf-8")
    with running_airflow(home, dags, database=postgresql.database(home)) as airflow:
        wait_for(lambda: {dag["dag_id"] for dag in airflow.request("GET", "dags")["dags"]}, {"served", "slow"}.issubset)
        yield airflow


def test_pool_of_gpu_stages(airflow: Airflow) -> None:
    """The scheduler has made the pool of the stages that train on a GPU."""
    pool = airflow.request("GET", "pools/pipcook_gpu")
    assert (pool["slots"], pool["include_deferred"]) == (1, False)


def test_pipeline_with_scripts_served_over_http(airflow: Airflow) -> None:
    """Scripts from a server pass through the DAG; what the trigger changed is what trains; figures are in XCom."""
    run_id = airflow.trigger("served", epochs=3)
    assert airflow.finished("served", run_id) == "success", airflow.tasks("served", run_id)
    states = {task_id: task["state"] for task_id, task in airflow.tasks("served", run_id).items()}
    assert states == dict.fromkeys(("prepare", "datasource", "model", "artifact_1"), "success")
    workspace = Path(airflow.result("served", run_id, "prepare")["workspace"])
    assert workspace.is_relative_to(airflow.workspaces / "served")
    assert json.loads((workspace / "pipeline-config.json").read_text())["options"]["train"] == {"epochs": 3}
    assert (workspace / "model" / "model.txt").read_text() == "done"
    assert (workspace / "model.zip").is_file()
    assert airflow.result("served", run_id, "datasource")["value"] == {"samples": {"train": 4}}
    assert airflow.result("served", run_id, "model")["metrics"] == {"total": 6.0}
    assert airflow.result("served", run_id, "artifact_1")["value"]["built"] == str(workspace / "model.zip")
    log = airflow.log("served", run_id, "model")
    assert "训练 with {'epochs': 3}" in log
    assert "progress 100 % epoch 2" in log
    assert "metric total 6" in log


def test_value_of_a_wrong_type_is_refused_by_airflow(airflow: Airflow) -> None:
    """The trigger form's fields are typed: Airflow itself refuses text where a number belongs."""
    with pytest.raises(AssertionError, match="400"):
        airflow.trigger("served", epochs="many")


def test_broken_document_is_its_own_import_error(airflow: Airflow) -> None:
    """A broken document shows its line and remedy under its own name; its neighbours stay; mended, it is a DAG."""
    errors = wait_for(airflow.import_errors, bool)
    assert list(errors) == ["broken.json"]
    assert "broken.json:3:17: $.datasource: Expected" in errors["broken.json"]
    assert 'broken.json:1:1: $: Expected the key "model"' in errors["broken.json"]
    listed = {dag["dag_id"]: dag for dag in airflow.request("GET", "dags")["dags"]}
    assert set(listed) == {"served", "slow", "flaky", "mistaken"}
    assert not any(dag["has_import_errors"] or dag["is_stale"] for dag in listed.values())
    write_document(airflow.dags, "broken.json", datasource="scripts/flaky.py")
    wait_for(lambda: {dag["dag_id"] for dag in airflow.request("GET", "dags")["dags"]}, lambda ids: "broken" in ids)
    wait_for(airflow.import_errors, lambda found: not found)


def test_killed_task_leaves_no_process(airflow: Airflow) -> None:
    """Marking a running task as failed ends the script's process and what that has started."""
    run_id = airflow.trigger("slow")
    prepared = wait_for(lambda: airflow.tasks("slow", run_id), lambda tasks: tasks["prepare"]["state"] == "success")
    assert prepared
    data = Path(airflow.result("slow", run_id, "prepare")["workspace"]) / "data"
    wait_for((data / "pids").exists, bool)
    pids = [int(word) for word in (data / "pids").read_text().split()]
    assert all(map(psutil.pid_exists, pids))
    path = f"dags/slow/dagRuns/{run_id}/taskInstances/datasource"
    airflow.request("PATCH", path, json={"new_state": "failed"})
    wait_for(lambda: [pid for pid in pids if psutil.pid_exists(pid)], lambda left: not left, 60)
    assert airflow.finished("slow", run_id) == "failed"


def test_passing_trouble_is_tried_again(airflow: Airflow) -> None:
    """A connection that fails once costs one of the retries, and the run succeeds."""
    run_id = airflow.trigger("flaky")
    assert airflow.finished("flaky", run_id) == "success"
    assert airflow.tasks("flaky", run_id)["datasource"]["try_number"] == 2
    assert "ConnectionError: the server is away" in airflow.log("flaky", run_id, "datasource", 1)


def test_mistake_in_a_script_spends_no_retries(airflow: Airflow) -> None:
    """What cannot go away by itself fails at once, with the script's file, line and text in the log."""
    run_id = airflow.trigger("mistaken")
    assert airflow.finished("mistaken", run_id) == "failed"
    assert airflow.tasks("mistaken", run_id)["datasource"]["try_number"] == 1
    log = airflow.log("mistaken", run_id, "datasource")
    assert "scripts/mistaken.py, line 3 (in the run: scripts/0-mistaken.py)" in log
    assert "return undefined_name" in log
    assert "NameError: name 'undefined_name' is not defined" in log
