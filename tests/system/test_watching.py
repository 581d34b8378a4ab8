"""Pipelines that run when data change, and what their models tell, in a real Airflow with its triggerer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from airflow_server import Airflow, running_airflow, wait_for
from http_server import Server, serving
from postgresql import PostgreSQL

#: DAGs run as soon as they are there; the triggers of a triggerer that is gone are taken over soon.
CONFIGURATION = """
[core]
dags_are_paused_at_creation = False
[dag_processor]
min_file_process_interval = 5
refresh_interval = 1
[pipcook]
connections = data
[triggerer]
triggerer_health_check_threshold = 5
job_heartbeat_sec = 1
[api_auth]
jwt_secret = c2VjcmV0IG9mIGEgdGVzdCB0aGF0IGxpc3RlbnMgb24gbG9vcGJhY2sgb25seQ==
"""

SCRIPT = """
from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    return DatasetPool.from_samples(train=[Sample(1.0), Sample(2.0)])

def train(runtime, options, context):
    runtime.log_metric("total", sum(sample.data for sample in runtime.dataset.train))
    runtime.log_metric("ratio", float("nan"))
    runtime.save_model(b"done", "model.txt")
"""

#: What others schedule on the model of the document beside it.
DAGS = """
from airflow.sdk import DAG, Asset, task

from pipcook_provider import load_pipelines

globals().update(load_pipelines(__file__))

with DAG("follower", schedule=[Asset("pipcook://models/pipeline")]):
    task(lambda: None, task_id="deploy")()
"""


def document_on(url: str) -> str:
    """Return a document that runs when what lies at an address changes."""
    asset = {"name": "data", "uri": url, "watch": True, "interval": 10}
    options = {"train": {"epochs": 1}, "airflow": {"schedule": [asset]}}
    return json.dumps({"specVersion": "2.0", "datasource": "script.py", "model": "script.py", "options": options})


def serve(server: Server, tag: int) -> str:
    """Serve a version of the data; return their address."""
    return server.put("/data.csv", b"data", headers={"ETag": f'"{tag}"'}, ranges=True)


def looked_at(server: Server) -> bool:
    """Wait until the data were asked for once more."""
    seen = server.hits["/data.csv"]
    return bool(wait_for(lambda: server.hits["/data.csv"], lambda hits: hits > seen))


def runs(airflow: Airflow, dag_id: str) -> list[dict[str, Any]]:
    """Return a DAG's runs, the newest first."""
    found: list[dict[str, Any]] = airflow.request("GET", f"dags/{dag_id}/dagRuns?order_by=-run_after")["dag_runs"]
    return found


def next_run(airflow: Airflow, dag_id: str, number: int) -> dict[str, Any]:
    """Wait until a DAG's run of that number has succeeded; return it."""
    (newest, *earlier) = wait_for(lambda: runs(airflow, dag_id), lambda found: len(found) >= number)
    assert len(earlier) == number - 1
    assert airflow.finished(dag_id, newest["dag_run_id"]) == "success", airflow.tasks(dag_id, newest["dag_run_id"])
    return newest


def test_pipeline_runs_when_its_data_change(tmp_path: Path, postgresql: PostgreSQL) -> None:
    """One change is one run, also when nobody looked as it came; the model's event tells others what was trained.

    The data are asked for with what Airflow's database says of their host.
    """
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "script.py").write_text(SCRIPT, encoding="utf-8")
    (dags / "dags.py").write_text(DAGS, encoding="utf-8")
    (tmp_path / "airflow.cfg").write_text(CONFIGURATION, encoding="utf-8")
    with serving() as server:
        url = serve(server, 1)
        with running_airflow(tmp_path, dags, database=postgresql.database(tmp_path)) as airflow:
            connection = {"connection_id": "data", "conn_type": "http", "host": server.url, "password": "s3cret"}
            airflow.request("POST", "connections", json=connection)
            (dags / "pipeline.json").write_text(document_on(url), encoding="utf-8")
            assert looked_at(server)
            assert server.authorizations["/data.csv"] == "Bearer s3cret"
            assert runs(airflow, "pipeline") == []
            serve(server, 2)
            trained = next_run(airflow, "pipeline", 1)
            assert next_run(airflow, "follower", 1)["run_type"] == "asset_triggered"
            check_events(airflow, url, trained["dag_run_id"])
            assert looked_at(server)
            assert len(runs(airflow, "pipeline")) == 1
        serve(server, 3)
        with running_airflow(tmp_path, dags, database=postgresql.database(tmp_path)) as airflow:
            next_run(airflow, "pipeline", 2)
            assert looked_at(server)
            assert len(runs(airflow, "pipeline")) == 2
    assert "s3cret" not in (tmp_path / "standalone.log").read_text(encoding="utf-8", errors="replace")


def check_events(airflow: Airflow, url: str, run_id: str) -> None:
    """Compare the events of the data and of the model with what happened."""
    events = airflow.request("GET", "assets/events?order_by=timestamp")["asset_events"]
    assert [event["uri"] for event in events] == [url, "pipcook://models/pipeline"]
    assert events[0]["extra"] == {
        "from_trigger": True,
        "payload": {"uri": url, "from": {"etag": '"1"', "length": 4}, "to": {"etag": '"2"', "length": 4}},
    }
    told = events[1]["extra"]
    workspace = Path(told["workspace"])
    lines = [
        f"{hashlib.sha256((workspace / 'model' / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("model.txt", "pipeline.json")
    ]
    assert told["digest"] == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert told["metrics"] == {"total": 3.0, "ratio": None}
    assert (told["dag_id"], told["run_id"], told["framework"]) == ("pipeline", run_id, None)
    assert told["seconds"] == airflow.result("pipeline", run_id, "model")["seconds"]
