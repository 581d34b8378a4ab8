"""A real Airflow for tests: API server, scheduler, DAG processor and workers of one ``airflow standalone``."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
import sqlalchemy

from tools.demo.standalone import Setup, Standalone


class Airflow:
    """A running Airflow with a dags folder of its own.

    :param dags: the dags folder.
    :param workspaces: where runs get their folders.
    :param database: the SQLAlchemy URL of its database.
    """

    def __init__(self, standalone: Standalone, dags: Path, workspaces: Path, database: str) -> None:
        self.dags = dags
        self.workspaces = workspaces
        self.url = standalone.url
        self.last_words = standalone.last_words
        self._database = sqlalchemy.create_engine(database, poolclass=sqlalchemy.NullPool)
        self._session = requests.Session()

    def log_in(self) -> None:
        token = self._session.get(f"{self.url}/auth/token", timeout=30).json()["access_token"]
        self._session.headers["Authorization"] = f"Bearer {token}"

    def request(self, method: str, path: str, **details: Any) -> dict[str, Any]:
        """Return the API's answer."""
        answer = self._session.request(method, f"{self.url}/api/v2/{path}", timeout=30, **details)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        found: dict[str, Any] = answer.json()
        return found

    def count(self, path: str) -> int:
        """Return how many entries a list has."""
        return int(self.request("GET", path, params={"limit": 1})["total_entries"])

    def rows(self, query: str) -> Sequence[Sequence[Any]]:
        """Return what its database says, where the API does not tell."""
        with self._database.connect() as connection:
            return list(connection.execute(sqlalchemy.text(query)))

    def trigger(self, dag_id: str, **conf: Any) -> str:
        """Start a run; return its id."""
        self.request("PATCH", f"dags/{dag_id}", json={"is_paused": False})
        return str(
            self.request("POST", f"dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})["dag_run_id"]
        )

    def finished(self, dag_id: str, run_id: str) -> str:
        """Wait for a run's end; return its state."""
        run = wait_for(
            lambda: self.request("GET", f"dags/{dag_id}/dagRuns/{run_id}"),
            lambda run: run["state"] in ("success", "failed"),
        )
        return str(run["state"])

    def tasks(self, dag_id: str, run_id: str) -> dict[str, dict[str, Any]]:
        """Return a run's tasks by id."""
        found = self.request("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a task handed on."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        value = self.request("GET", path)["value"]
        return json.loads(value) if isinstance(value, str) else value

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int = 1) -> str:
        """Return a task's log as text."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        return json.dumps(self.request("GET", path)["content"], ensure_ascii=False)

    def import_errors(self) -> dict[str, str]:
        """Return the import errors by file."""
        found = self.request("GET", "importErrors")["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in found}


def wait_for(ask: Callable[[], Any], accept: Callable[[Any], bool], seconds: float = 120) -> Any:
    """Ask until the answer is accepted, and return it."""
    deadline = time.monotonic() + seconds
    while not accept(answer := ask()):
        assert time.monotonic() < deadline, f"not within {seconds} s; last answer: {answer}"
        time.sleep(0.3)
    return answer


@contextmanager
def running_airflow(
    home: Path, dags: Path, bundles: Sequence[Mapping[str, Any]] = (), database: str | None = None
) -> Iterator[Airflow]:
    """Run an Airflow in a folder, with a dags folder.

    :param home: the folder of its logs, frameworks and workspaces; an ``airflow.cfg`` in it is used.
    :param bundles: its DAG bundles; by default the dags folder as it is.
    :param database: the SQLAlchemy URL of its database; by default an SQLite file in ``home``.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    begin = datetime.now(UTC)
    with Standalone(Setup(home, dags, home / "cache", bundles, database, first_port=0)) as standalone:
        airflow = Airflow(standalone, dags, home / "workspace", database or f"sqlite:///{home}/airflow.db")
        wait_for(lambda: (standalone.check(), _is_up(standalone.url, begin))[1], bool)
        airflow.log_in()
        yield airflow
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _is_up(url: str, since: datetime) -> bool:
    try:
        health = requests.get(f"{url}/api/v2/monitor/health", timeout=5).json()
        beats = [health[name][f"latest_{name}_heartbeat"] for name in ("scheduler", "dag_processor")]
    except (requests.RequestException, ValueError, KeyError):
        return False
    return all(beat and datetime.fromisoformat(beat) > since for beat in beats)
