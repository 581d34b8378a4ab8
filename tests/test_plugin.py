"""The plugin in a real Airflow's database: which processes make the pool, and what they leave alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., dict[str, Any]]

#: Starts what the test says as Airflow itself starts it, and tells which pools there are.
PROGRAM = """
import json, sys
from airflow.sdk.execution_time.task_runner import TaskRunnerMarker
from airflow.listeners.listener import get_listener_manager
from airflow.jobs.job import Job
from airflow.models.pool import Pool
from airflow.utils.session import create_session

{steps}

with create_session() as session:
    pools = {{pool.pool: (pool.slots, pool.include_deferred) for pool in session.query(Pool)}}
print(json.dumps(pools))
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An empty database of Airflow's."""
    home = tmp_path_factory.mktemp("airflow")
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], env=environment(home), check=True, capture_output=True)
    return (home / "airflow.db").read_bytes()


@pytest.fixture
def start(database: bytes, tmp_path: Path) -> Start:
    """Run some lines in a process of Airflow's; return the pools afterwards by name, and what was logged."""
    home = tmp_path / "airflow-home"
    home.mkdir()
    (home / "airflow.db").write_bytes(database)

    def run(steps: str, **changes: str) -> dict[str, Any]:
        told = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(steps=steps)],
            env={**environment(home), **changes},
            check=True,
            capture_output=True,
            text=True,
        )
        return {"pools": json.loads(told.stdout.splitlines()[-1]), "log": told.stdout + told.stderr}

    return run


def environment(home: Path) -> dict[str, str]:
    """Return the environment of an Airflow that takes nothing from this process's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PIPCOOK"))}
    return {**kept, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}


def test_scheduler_makes_the_missing_pool(start: Start) -> None:
    """The first process with the database makes the pool that the settings name, with one slot; a later one finds it."""
    found = start("Job()\nJob()", PIPCOOK_GPU_POOL="cards")
    assert set(found["pools"]) == {"default_pool", "cards"}
    assert found["pools"]["cards"] == [1, False]
    assert found["log"].count("made the pool cards") == 1


def test_existing_pool_is_left_alone(start: Start) -> None:
    """Whoever made the pool otherwise keeps it as it is."""
    found = start('Pool.create_or_update_pool("pipcook_gpu", 4, "ours", True)\nJob()')
    assert found["pools"]["pipcook_gpu"] == [4, True]


def test_task_makes_no_pool(start: Start) -> None:
    """A task's process, which has no database, does not ask for it."""
    found = start("get_listener_manager().hook.on_starting(component=TaskRunnerMarker())")
    assert set(found["pools"]) == {"default_pool"}
    assert "gpu_pool" not in found["log"]


def test_scheduler_starts_without_the_pool(start: Start) -> None:
    """A setting that cannot be used is a warning that says what to do; the scheduler starts."""
    found = start("Job()", PIPCOOK_FETCH_TIMEOUT="soon")
    assert set(found["pools"]) == {"default_pool"}
    assert "PIPCOOK_FETCH_TIMEOUT is 'soon'" in found["log"]
    assert "Make it under Admin > Pools" in found["log"]


def test_database_that_refuses_is_a_warning(start: Start) -> None:
    """A database that cannot be written does not keep a scheduler from starting."""
    steps = """
from sqlalchemy import text
with create_session() as session:
    session.execute(text("ALTER TABLE slot_pool RENAME TO elsewhere"))
Job()
with create_session() as session:
    session.execute(text("ALTER TABLE elsewhere RENAME TO slot_pool"))
"""
    found = start(steps)
    assert set(found["pools"]) == {"default_pool"}
    assert "could not (OperationalError" in found["log"]


def test_plugin_is_light() -> None:
    """Every Airflow process imports the plugin: beside what Airflow itself has loaded by then, it loads only itself."""
    program = """
import sys
import airflow.listeners, airflow.plugins_manager, pipcook_provider
before = set(sys.modules)
import pipcook_provider.plugin
print(sorted(set(sys.modules) - before))
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "['pipcook_provider.plugin']"
