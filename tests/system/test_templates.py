"""Templates of documents in a real Airflow: backfills train on each day's data, and connections are kept where they belong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow_server import Airflow, running_airflow, wait_for
from http_server import Server, serving
from postgresql import PostgreSQL

REPOSITORY = Path(__file__).resolve().parents[2]
PASSWORD = "open-sesame-7"

CONFIGURATION = """
[dag_processor]
min_file_process_interval = 5
refresh_interval = 5
[pipcook]
template_connections = shop
[api_auth]
jwt_secret = c2VjcmV0IG9mIGEgdGVzdCB0aGF0IGxpc3RlbnMgb24gbG9vcGJhY2sgb25seQ==
"""

DATASOURCE = """
from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    lines = context.download(options["url"]).read_text().split()
    return DatasetPool.from_samples(train=[Sample(float(line)) for line in lines])
"""

MODEL = """
import os

def train(runtime, options, context):
    print("connected as", os.environ["SHOP"])
    runtime.log_metric("total", sum(sample.data for sample in runtime.dataset.train))
    runtime.log_metric("day", float(os.environ["DAY"]))
    runtime.log_metric("secret", len(os.environ["SHOP"]))
    runtime.save_model(b"done", "model.txt")
"""

#: What each day's data add up to.
TOTALS = {"2026-01-01": 3.0, "2026-01-02": 30.0, "2026-01-03": 300.0}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        for day, total in TOTALS.items():
            running.put(f"/{day}.csv", f"{total / 3}\n{2 * total / 3}\n".encode())
        yield running


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL, server: Server) -> Iterator[Airflow]:
    """An Airflow with a connection that documents may use, and one that they may not."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    dags.mkdir()
    shutil.copy(REPOSITORY / "dags" / "pipcook_dags.py", dags)
    (dags / "datasource.py").write_text(DATASOURCE, encoding="utf-8")
    (dags / "model.py").write_text(MODEL, encoding="utf-8")
    hostile = f"{{{{ macros.uuid.os.system('touch {home}/planted') }}}}"
    airflow: dict[str, Any] = {"schedule": "@daily", "start_date": "2026-01-01"}
    env = {"DAY": "{{ ds_nodash }}", "SHOP": "{{ conn.shop.login }}:{{ conn.shop.password }}@{{ conn.shop.host }}"}
    write(dags / "daily.json", server, {"train": {"note": hostile}, "airflow": {**airflow, "env": env}})
    options = {"airflow": {"retries": 2, "env": {"SHOP": "{{ conn.bank.host }}"}}}
    write(dags / "refused.json", server, options, day="{{ ds | default('2026-01-01') }}")
    (home / "airflow.cfg").write_text(CONFIGURATION, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_SHOP", f"postgres://reader:{PASSWORD}@db.example.com/shop")
        patch.setenv("AIRFLOW_CONN_BANK", "postgres://reader:other@bank.example.com/bank")
        with running_airflow(home, dags, database=postgresql.database(home)) as airflow_:
            ids = {"daily", "refused"}
            wait_for(lambda: {dag["dag_id"] for dag in airflow_.request("GET", "dags")["dags"]}, ids.issubset)
            yield airflow_


def write(path: Path, server: Server, options: dict[str, Any], day: str = "{{ ds }}") -> None:
    document = {
        "specVersion": "2.0",
        "datasource": f"datasource.py?url={server.url}/{day}.csv",
        "model": "model.py",
        "options": options,
    }
    path.write_text(json.dumps(document), encoding="utf-8")


def backfill(airflow: Airflow, dag_id: str) -> dict[str, str]:
    """Backfill the days that have data; return the runs by day when all have succeeded."""
    request = {
        "dag_id": dag_id,
        "from_date": "2026-01-01T00:00:00Z",
        "to_date": "2026-01-03T00:00:00Z",
        "max_active_runs": 3,
        "reprocess_behavior": "none",
        "run_on_latest_version": False,
        "dag_run_conf": {},
    }
    airflow.request("PATCH", f"dags/{dag_id}", json={"is_paused": False})
    airflow.request("POST", "backfills", json=request)

    def runs() -> dict[str, dict[str, Any]]:
        found = airflow.request("GET", f"dags/{dag_id}/dagRuns")["dag_runs"]
        return {run["logical_date"][:10]: run for run in found if run["run_type"] == "backfill"}

    done = wait_for(
        runs, lambda runs: len(runs) == 3 and all(run["state"] in ("success", "failed") for run in runs.values())
    )
    assert {run["state"] for run in done.values()} == {"success"}, done
    return {day: run["dag_run_id"] for day, run in done.items()}


def files_with(folder: Path, text: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_backfill_trains_on_each_days_data(airflow: Airflow, server: Server) -> None:
    """Each run of a backfill reads its own day's file, knows its day, and gets the password into its script's environment
    only: neither a log nor any other file of Airflow, cache or workspace has it.
    """
    runs = backfill(airflow, "daily")
    assert set(runs) == set(TOTALS)
    for day, run_id in runs.items():
        metrics = airflow.result("daily", run_id, "model")["metrics"]
        secret = len(f"reader:{PASSWORD}@db.example.com")
        assert metrics == {"total": TOTALS[day], "day": float(day.replace("-", "")), "secret": secret}
        url = f"{server.url}/{day}.csv"
        workspace = Path(airflow.result("daily", run_id, "prepare")["workspace"])
        assert json.loads((workspace / "pipeline-config.json").read_text())["datasource"] == f"datasource.py?url={url}"
        assert f"datasource.url: {server.url}/{{{{ ds }}}}.csv -> {url}" in airflow.log("daily", run_id, "prepare")
        assert "connected as ***" in airflow.log("daily", run_id, "model")
    home = airflow.workspaces.parent
    assert files_with(home, PASSWORD) == []
    assert not (home / "planted").exists()
    again(airflow, runs["2026-01-02"])


def again(airflow: Airflow, run_id: str) -> None:
    """A stage that is cleared and run again is still of its own run's day."""
    cleared = {
        "dry_run": False,
        "dag_run_id": run_id,
        "task_ids": ["model"],
        "only_failed": False,
        "reset_dag_runs": True,
    }
    airflow.request("POST", "dags/daily/clearTaskInstances", json=cleared)
    wait_for(
        lambda: airflow.tasks("daily", run_id)["model"],
        lambda task: task["try_number"] == 2 and task["state"] == "success",
    )
    assert airflow.result("daily", run_id, "model")["metrics"]["day"] == 20260102.0


@pytest.mark.parametrize(
    ("dag_id", "expected"),
    [
        (
            "daily",
            ["The parameter datasource.url is the template", "this run has no logical date", "dag_run.run_after"],
        ),
        ("refused", ["[pipcook] template_connections allows (shop), found 'bank'"]),
    ],
)
def test_template_that_cannot_be_rendered_fails_the_run(airflow: Airflow, dag_id: str, expected: list[str]) -> None:
    """What cannot be rendered fails the first task at once, without retries, and its log has the remedy."""
    run_id = airflow.trigger(dag_id)
    assert airflow.finished(dag_id, run_id) == "failed"
    assert airflow.tasks(dag_id, run_id)["prepare"]["try_number"] == 1
    log = airflow.log(dag_id, run_id, "prepare")
    for part in expected:
        assert part in log
