"""What the demo asks of Airflow's REST API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from .errors import DemoError

_SECONDS_TO_ANSWER = 30
_UNFINISHED = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Task:
    """A task of a run.

    :param task_id: its id.
    :param title: what a person calls it.
    :param state: Airflow's name of its state; ``""`` before the scheduler has seen it.
    :param seconds: how long it has been running, or ran.
    :param attempt: number of the current try, counted from 1; 0 before the first.
    """

    task_id: str
    title: str
    state: str
    seconds: float
    attempt: int


class Airflow:
    """The API of an Airflow in all-admins mode.

    :param url: its address, without a path.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        # Probing fails fast; all other requests are repeated: SQLite may be locked for a moment, which gives a 500.
        self._probe, self._session = requests.Session(), requests.Session()
        retry = Retry(total=5, backoff_factor=0.2, status_forcelist=(500, 502, 503), allowed_methods=("GET", "PATCH"))
        self._session.mount(url, HTTPAdapter(max_retries=retry))
        for session in (self._probe, self._session):
            session.trust_env = False  # No proxy stands between this machine and itself.

    def missing(self, since: datetime) -> list[str]:
        """Return the names of the services that have not reported since a moment."""
        try:
            answer = self._probe.get(f"{self._url}/api/v2/monitor/health", timeout=_SECONDS_TO_ANSWER)
            health = answer.json() if answer.ok else {}
        except (requests.RequestException, ValueError):
            return ["API server", "scheduler", "DAG processor"]
        services = {"scheduler": "scheduler", "dag_processor": "DAG processor"}
        beats = {name: (health.get(name) or {}).get(f"latest_{name}_heartbeat") for name in services}
        return [services[name] for name, beat in beats.items() if beat is None or datetime.fromisoformat(beat) < since]

    def import_errors(self, since: datetime) -> dict[str, str]:
        """Return what was found wrong, since a moment, with files of the dags folder that cannot be loaded."""
        found = self._request("GET", "/api/v2/importErrors")["import_errors"]
        recent = [error for error in found if datetime.fromisoformat(error["timestamp"]) >= since]
        return {error["filename"]: error["stack_trace"].strip() for error in recent}

    def parsed_at(self, dag_id: str) -> datetime | None:
        """Return when a DAG was read last; None when there is none of that name."""
        dag = self._request("GET", f"/api/v2/dags/{quote(dag_id)}", absent={})
        parsed = dag.get("last_parsed_time")
        return datetime.fromisoformat(parsed) if parsed and not dag["is_stale"] else None

    def unpause(self, dag_id: str) -> None:
        """Let a DAG's runs be scheduled."""
        self._request("PATCH", f"/api/v2/dags/{quote(dag_id)}", json={"is_paused": False})

    def give_up_unfinished_runs(self) -> None:
        """Mark as failed what an interrupted demo left unfinished; it would go on beside the new run."""
        for run in self._request("GET", _runs("~"), params={"state": _UNFINISHED})["dag_runs"]:
            self._request("PATCH", _runs(run["dag_id"], run["dag_run_id"]), json={"state": "failed"})

    def trigger(self, dag_id: str) -> str:
        """Start a run and return its id."""
        return str(self._request("POST", _runs(dag_id), json={"logical_date": None})["dag_run_id"])

    def state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run: ``queued``, ``running``, ``success`` or ``failed``."""
        return str(self._request("GET", _runs(dag_id, run_id))["state"])

    def order(self, dag_id: str) -> list[str]:
        """Return the ids of a DAG's tasks, each after those it waits for."""
        tasks = self._request("GET", f"/api/v2/dags/{quote(dag_id)}/tasks")["tasks"]
        backwards = TopologicalSorter({task["task_id"]: task["downstream_task_ids"] for task in tasks})
        return list(backwards.static_order())[::-1]

    def tasks(self, dag_id: str, run_id: str) -> dict[str, Task]:
        """Return the tasks of a run by id."""
        found = self._request("GET", f"{_runs(dag_id, run_id)}/taskInstances")["task_instances"]
        return {task["task_id"]: _task(task) for task in found}

    def log(self, dag_id: str, run_id: str, task: Task) -> list[str]:
        """Return the log of a task's current try, line by line; what is not written yet is missing."""
        path = f"{_runs(dag_id, run_id)}/taskInstances/{quote(task.task_id)}/logs/{max(task.attempt, 1)}"
        content = self._request("GET", path, absent={"content": []})["content"]
        events = [entry if isinstance(entry, str) else _event(entry) for entry in content]
        return [line for event in events for line in event.splitlines()]

    def result(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return what a task handed on."""
        path = f"{_runs(dag_id, run_id)}/taskInstances/{quote(task_id)}/xcomEntries/return_value"
        value = self._request("GET", path, absent={"value": {}})["value"]
        found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
        return found

    def _request(
        self, method: str, path: str, *, absent: dict[str, Any] | None = None, **details: Any
    ) -> dict[str, Any]:
        """Return the answer; ``absent`` when there is nothing at ``path``.

        :raises DemoError: there is no usable answer.
        """
        try:
            answer = self._session.request(method, self._url + path, timeout=_SECONDS_TO_ANSWER, **details)
            if answer.status_code == requests.codes.not_found and absent is not None:
                return absent
            answer.raise_for_status()
            found: dict[str, Any] = answer.json()
        except requests.HTTPError as exc:
            raise DemoError(f"Airflow refused {method} {path}: {exc.response.status_code} {exc.response.text}") from exc
        except (requests.RequestException, ValueError) as exc:
            raise DemoError(f"Airflow does not answer {method} {path}: {exc}") from exc
        return found


def _runs(dag_id: str, run_id: str | None = None) -> str:
    return f"/api/v2/dags/{quote(dag_id)}/dagRuns" + (f"/{quote(run_id)}" if run_id else "")


def _task(found: dict[str, Any]) -> Task:
    start = found["start_date"]
    return Task(
        task_id=found["task_id"],
        title=found.get("task_display_name") or found["task_id"],
        state=found["state"] or "",
        seconds=found["duration"]
        or ((datetime.now(UTC) - datetime.fromisoformat(start)).total_seconds() if start else 0),
        attempt=found["try_number"] or 0,
    )


def _event(entry: dict[str, Any]) -> str:
    """Return a log entry as text, with the exception that it carries."""
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or []]
    return "\n".join([str(entry["event"]), *errors])
