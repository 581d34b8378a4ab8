"""One run of a DAG: triggered, shown while it happens, told when it is over."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .api import Airflow, Task
from .board import FAILURES, RUNNING, SUCCESS, Row
from .errors import DemoError

POLL = 1.0

_UNFINISHED = frozenset({"queued", "running"})
_PROGRESS = re.compile(r"progress\s+(\d+) %\s*(.*)")
_SHOWN_LOG_LINES = 30


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is over.

    :param airflow: where it ran.
    :param dag_id: of which DAG.
    :param run_id: its id.
    :param state: ``success`` or ``failed``.
    :param tasks: its tasks, each after those it waited for.
    """

    airflow: Airflow
    dag_id: str
    run_id: str
    state: str
    tasks: Sequence[Task]

    def figures(self) -> dict[str, str]:
        """Return what came of it, as a person reads it: test accuracy, workspace, artifacts, framework."""
        results = {task.task_id: self.airflow.result(self.dag_id, self.run_id, task.task_id) for task in self.tasks}
        metrics = results.get("model", {}).get("metrics", {})
        built = [result["value"]["built"] for result in results.values() if (result.get("value") or {}).get("built")]
        figures = {"test accuracy": f"{metrics['accuracy']:.4f}"} if "accuracy" in metrics else {}
        figures["workspace"] = results.get("prepare", {}).get("workspace", "")
        figures["artifact"] = ", ".join(built)
        figures["framework"] = self._framework()
        return {name: figure for name, figure in figures.items() if figure}

    def failures(self) -> list[str]:
        """Return what went wrong, with the end of the log of each task that failed."""
        if self.state == SUCCESS:
            return []
        failed = [task for task in self.tasks if task.state == "failed"]
        return [self._failure(task) for task in failed] or [f"The run {self.run_id} ended as {self.state}."]

    def _failure(self, task: Task) -> str:
        log = self.airflow.log(self.dag_id, self.run_id, task)[-_SHOWN_LOG_LINES:]
        return "\n  ".join([f"The task {task.task_id} failed after {task.seconds:.1f} s. The end of its log:", *log])

    def _framework(self) -> str:
        """Return which framework the model was trained with, and where it lies, as the model's task has logged it."""
        for task in self.tasks:
            if task.task_id == "model":
                for line in self.airflow.log(self.dag_id, self.run_id, task):
                    if found := re.match(r"framework (\S+ at .+)", line):
                        return found[1]
        return ""


def follow(
    airflow: Airflow, dag_id: str, show: Callable[[list[Row]], None], check: Callable[[], None], timeout: float
) -> Run:
    """Trigger a run and show it until it is over.

    :param show: takes the tasks as they are now.
    :param check: raises when Airflow is no longer there.
    :param timeout: seconds that the run may take.
    :raises DemoError: the run takes longer, or Airflow does not answer.
    """
    airflow.give_up_unfinished_runs()
    airflow.unpause(dag_id)
    run_id = airflow.trigger(dag_id)
    order = airflow.order(dag_id)
    deadline = time.monotonic() + timeout
    while True:
        state = airflow.state(dag_id, run_id)
        found = airflow.tasks(dag_id, run_id)
        tasks = [found[task_id] for task_id in order if task_id in found]
        show([_row(task, airflow.log(dag_id, run_id, task) if task.state == RUNNING else []) for task in tasks])
        if state not in _UNFINISHED:
            return Run(airflow, dag_id, run_id, state, tasks)
        check()
        if time.monotonic() > deadline:
            states = ", ".join(f"{task.task_id} {task.state or 'waiting'}" for task in tasks)
            raise DemoError(
                f"Expected the run to be over within {timeout:.0f} s (--timeout), found it {state}: {states}."
            )
        time.sleep(POLL)


def _row(task: Task, log: Sequence[str]) -> Row:
    progress, told = latest(log)
    if task.state not in (RUNNING, SUCCESS, *FAILURES):
        told = task.state
    return Row(task.title, task.state, task.seconds, progress, told)


def latest(log: Sequence[str]) -> tuple[float | None, str]:
    """Return a task's last word on its progress, from 0 to 1, and what it told with it; else its last line."""
    said = list(_own_lines(log))
    for line in reversed(said):
        if found := _PROGRESS.match(line):
            return int(found[1]) / 100, found[2]
    return None, said[-1] if said else ""


def _own_lines(log: Sequence[str]) -> Iterator[str]:
    """Yield the lines that the task itself wrote: Airflow's own stand in groups."""
    depth = 0
    for line in log:
        if line.startswith("::group::"):
            depth += 1
        elif line.startswith("::endgroup::"):
            depth -= 1
        elif depth == 0:
            yield line
