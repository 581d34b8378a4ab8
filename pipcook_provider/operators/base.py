"""What Pipcook's operators share: a launcher that dies with the task, the task's log as listener, errors that Airflow
understands. No rule about pipelines lives here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.sdk import BaseOperator, Context
from airflow.sdk.log import redact  # type: ignore[attr-defined] # it comes from a private place

from pipcook_provider.errors import PipcookError, ScriptError
from pipcook_provider.launchers.base import Launcher
from pipcook_provider.operators.assets import publish_assets
from pipcook_provider.runtime.messages import Log, Message, Metric, Progress, describe_figures

if TYPE_CHECKING:
    from pipcook_provider.stages import StageRunner
    from pipcook_provider.store.workspace import Workspace

_PROGRESS_INTERVAL = 1.0


@contextmanager
def airflow_errors(log: Logger) -> Iterator[None]:
    """Let errors of this package leave as Airflow's: retries are spent only on those that may go away by themselves."""
    try:
        yield
    except PipcookError as exc:
        if isinstance(exc, ScriptError) and exc.details:
            log.error("%s", redact(exc.details.rstrip()))
        raise (AirflowException if exc.retryable else AirflowFailException)(redact(str(exc))) from None


def open_workspace(context: Context, prepare_task_id: str) -> Workspace:
    """Open the workspace that the task ``prepare_task_id`` of this run made.

    :raises AirflowFailException: that task has left no result.
    :raises WorkspaceError: it is not on this machine.
    """
    from pipcook_provider.store.workspace import Workspace

    prepared = context["ti"].xcom_pull(task_ids=prepare_task_id)
    if prepared is None:
        raise AirflowFailException(
            f"expected the task {prepare_task_id!r} to have made this run's workspace, found no result of it. "
            f"Clear {prepare_task_id!r} and run it first."
        )
    return Workspace.open(prepared["workspace"], made_by=prepared["host"])


class PipcookOperator(BaseOperator):
    """Base of the operators that run a part of a pipeline on this worker."""

    ui_color = "#e8f4fd"

    _launcher: Launcher | None = None

    def on_kill(self) -> None:
        """End the stage and all that it started."""
        if self._launcher is not None:
            self._launcher.stop()

    @contextmanager
    def _stage_runner(self, context: Context, runner: str | None = None) -> Iterator[StageRunner]:
        """Yield what runs stages, where the settings say unless ``runner`` is given; its errors leave as Airflow's."""
        from pipcook_provider.hooks.framework import PipcookFrameworkHook
        from pipcook_provider.launchers import open_launcher
        from pipcook_provider.operators.templates import templates_of
        from pipcook_provider.stages import StageRunner

        with airflow_errors(self.log):
            settings = PipcookFrameworkHook().settings()
            self._launcher = open_launcher(runner or settings.runner, settings)
            try:
                templates = templates_of(context, settings)
                yield StageRunner(settings, self._launcher, TaskLog(self.log), templates=templates)
            finally:
                self._launcher = None

    def _run_stage(self, context: Context, stage: str, prepare_task_id: str) -> dict[str, Any]:
        """Run a stage in the workspace that the task ``prepare_task_id`` of this run made; return its XCom."""
        with self._stage_runner(context, "process") as runner:
            workspace = open_workspace(context, prepare_task_id)
            result = asdict(runner.run(workspace, stage))
            publish_assets(self, context, workspace, result)
            return result


class Logger(Protocol):
    """What is needed of a task's logger."""

    def info(self, event: str, *arguments: Any) -> object:
        """Log a line."""

    def warning(self, event: str, *arguments: Any) -> object:
        """Log a warning."""

    def error(self, event: str, *arguments: Any) -> object:
        """Log an error."""


class TaskLog:
    """Writes what a stage tells into the task's log, as it happens.

    Secrets are masked here, not only by Airflow: what its executors write to their own output is not.
    """

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._progress_at = float("-inf")

    def message(self, message: Message) -> None:
        """Log a message; of quick successions of progress, one a second."""
        match message:
            case Log(level=level, text=text):
                (self._log.warning if level == "warning" else self._log.info)("%s", redact(text))
            case Metric(name=name, value=value, step=step):
                self._log.info("metric %s %.4g%s", name, value, "" if step is None else f" (step {step})")
            case Progress(value=value, extend_data=extend_data):
                now = time.monotonic()
                if value >= 1 or now - self._progress_at >= _PROGRESS_INTERVAL:
                    self._progress_at = now
                    self._log.info("progress %3.0f %% %s", 100 * value, describe_figures(extend_data))

    def output(self, line: str) -> None:
        """Log a line that user code printed."""
        self._log.info("%s", redact(line))
