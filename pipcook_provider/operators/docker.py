"""The tasks of pipelines whose stages run in containers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cached_property, partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowException, AirflowSkipException, ResumableJobMixin, conf
from airflow.providers.docker.hooks.docker import DockerHook
from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk import Context
from docker.types import LogConfig
from docker.utils import parse_bytes

from pipcook_provider.errors import EngineError, StageCrashed, StageKilled
from pipcook_provider.launchers.docker import ContainerOptions, DockerLauncher, Engine
from pipcook_provider.launchers.docker.engine import client_arguments
from pipcook_provider.operators.assets import publish_assets
from pipcook_provider.operators.base import TaskLog, airflow_errors, open_workspace

if TYPE_CHECKING:
    from pipcook_provider.settings import Settings
    from pipcook_provider.stages import StageJob, StageRunner
    from pipcook_provider.store.workspace import Workspace

#: Seconds that a container goes on without a worker when nobody can come to take it over.
_SHORT_LEASE = 30.0
#: Seconds that Airflow may take, beside the times that are configured, until a retry has taken a container over.
_MARGIN = 120.0
_HEARTBEAT_TIMEOUT = 300
#: Seconds that Airflow waits at most for a retry, whatever the exponential back-off says.
_LONGEST_DELAY = 24 * 3600.0

_AIRFLOWS_ENGINE = "unix://var/run/docker.sock"

#: Which containers stay, by what ``auto_remove`` says of removing them.
_KEPT: Mapping[str, Literal["never", "failed", "always"]] = {"never": "always", "success": "failed", "force": "never"}

#: Arguments of Airflow's operator that would break what a stage tells, and what to use in their place.
_REFUSED = {
    "command": "the stage is the command; an entrypoint may stand before it",
    "tty": "a terminal mixes the stage's messages with its output",
    "xcom_all": "the stage's result is the XCom, not its output",
    "retrieve_output": "it unpickles what a container wrote; the stage's result is the XCom",
    "retrieve_output_path": "it unpickles what a container wrote; the stage's result is the XCom",
}


class PipcookDockerOperator(ResumableJobMixin, DockerOperator):
    """Runs a stage (a script, or an artifact processor) in a container.

    It is Airflow's ``DockerOperator``: network, memory, environment, volumes, engine, TLS and registry are configured as
    there. Image, command, mounts of the run, GPUs, user and labels are decided when the task runs, from the stage and the
    ``[pipcook]`` settings; what is given here goes before. Beyond that, containers are hardened (see the README), and a
    retry takes over the container of a worker that was lost (Airflow 3.3 and later, ``durable``).

    Pushes the stage's :class:`~pipcook_provider.stages.StageResult` as its XCom.

    :param stage: ``datasource``, ``dataflow_1``, ``model``, ``artifact_1``; the task id by default.
    :param prepare_task_id: the task that prepared the run.
    :param image: by default the one that fits the framework and the GPU. (templated)
    :param auto_remove: ``force`` (default): a container never outlasts its stage; ``success``: one that failed stays, for a
        look at it; ``never``: all stay.
    :param kwargs: those of ``DockerOperator``, without ``command``, ``tty``, ``xcom_all`` and ``retrieve_output``.
    """

    external_id_key = "pipcook_container"
    template_fields = tuple(name for name in DockerOperator.template_fields if name != "command")
    ui_color = "#e8f4fd"

    _session: _Session | None = None
    _killed = False

    def __init__(
        self,
        *,
        stage: str | None = None,
        prepare_task_id: str = "prepare",
        image: str | None = None,
        auto_remove: Literal["never", "success", "force"] = "force",
        mount_tmp_dir: bool = False,
        **kwargs: Any,
    ) -> None:
        for name in _REFUSED.keys() & kwargs.keys():
            raise ValueError(f"PipcookDockerOperator takes no {name!r}: {_REFUSED[name]}. Leave it out.")
        super().__init__(image=image or "", auto_remove=auto_remove, mount_tmp_dir=mount_tmp_dir, **kwargs)
        # Airflow's operator fills in its own default, and the DAG's default_args may have stated another.
        is_default = self.docker_url in (os.environ.get("DOCKER_HOST"), _AIRFLOWS_ENGINE)
        self._has_own_engine = bool(kwargs.get("docker_url") or self.tls_ca_cert or not is_default)
        self.stage = stage or self.task_id
        self.prepare_task_id = prepare_task_id

    @cached_property
    def hook(self) -> DockerHook:
        """Airflow's hook for the engine: that of the arguments, else that of the ``[pipcook]`` settings."""
        if self._has_own_engine:
            return super().hook
        settings = self._settings
        arguments = client_arguments(settings)
        return DockerHook(
            docker_conn_id=self.docker_conn_id or settings.docker_conn_id or None,
            base_url=arguments["base_url"],
            version=self.api_version,
            tls=arguments.get("tls"),
            timeout=self.timeout,
        )

    def execute(self, context: Context) -> Any:
        """Run the stage to its end, or take over the container of an earlier try that still runs it."""
        with airflow_errors(self.log), self._open_session(context):
            result = self.execute_resumable(context)
            publish_assets(self, context, self._opened.workspace, result)
            return result

    def on_kill(self) -> None:
        """End and remove the container; let none begin, where there is none yet."""
        self._killed = True
        if self._session is not None:
            self._session.launcher.stop()

    def submit_job(self, context: Context) -> str:
        """Create the container of the stage; what earlier tries have left is ended first."""
        session = self._opened
        # A name that is stated can be given again only when nobody has it.
        give_way = session.launcher.remove if self.container_name else session.launcher.end
        for container in session.launcher.find(_identity(context, session.workspace)):
            give_way(container)
        session.job = session.runner.begin(session.workspace, self.stage)
        return session.launcher.create(session.job.launch, session.listener)

    def get_job_status(self, external_id: Any, context: Context) -> str:  # noqa: ARG002 - the mixin's signature
        """Return the state of a container of an earlier try; ``stale`` when the run was prepared anew since."""
        session = self._opened
        if external_id not in session.launcher.find(session.labels):
            return "stale"
        return session.launcher.state(external_id) or "gone"

    def is_job_active(self, status: str) -> bool:
        """Tell whether a container can be taken over: one whose stage came to its end meanwhile still has its log."""
        return status in ("running", "exited")

    def is_job_succeeded(self, status: str) -> bool:  # noqa: ARG002 - what a container has to tell is in its log
        """Return False: whether it succeeded is told by its log, which is read when it is taken over."""
        return False

    def poll_until_complete(self, external_id: Any, context: Context) -> Any:
        """Start the container, or take it over; return the XCom when it has ended."""
        session = self._opened
        job = session.job or session.runner.resume(session.workspace, self.stage, outlives=self._lease(context))
        try:
            result = session.runner.complete(job, partial(session.launcher.complete, external_id))
        except StageCrashed as exc:
            if exc.exit_code in self.skip_on_exit_code:
                raise AirflowSkipException(str(exc)) from None
            raise
        finally:
            if store := context.get("task_state_store"):
                store.delete(self.external_id_key)
        session.result = asdict(result)
        return session.result

    def get_job_result(self, external_id: Any, context: Context) -> Any:  # noqa: ARG002 - the mixin's signature
        """Return the XCom."""
        return self._opened.result

    @property
    def _opened(self) -> _Session:
        assert self._session is not None
        return self._session

    @cached_property
    def _settings(self) -> Settings:
        from pipcook_provider.hooks.framework import PipcookFrameworkHook

        return PipcookFrameworkHook().settings()

    @contextmanager
    def _open_session(self, context: Context) -> Iterator[None]:
        from pipcook_provider.operators.templates import templates_of
        from pipcook_provider.stages import StageRunner

        workspace = open_workspace(context, self.prepare_task_id)
        labels = {**_identity(context, workspace), "io.pipcook.prepared": str(workspace.config.stat().st_mtime_ns)}
        listener = TaskLog(self.log)
        with self._temporary_folder() as folder:
            launcher = DockerLauncher(self._engine(), self._settings, self._options(context, labels, folder))
            templates = templates_of(context, self._settings)
            runner = StageRunner(self._settings, launcher, listener, templates=templates)
            self._session = _Session(runner, launcher, workspace, labels, listener)
            try:
                if self._killed:
                    raise StageKilled("The stage was stopped from outside before it began.")
                yield
            finally:
                self._session = None

    def _engine(self) -> Engine:
        try:
            return Engine(self.cli)
        except AirflowException as exc:
            raise EngineError(
                f"a Docker engine was expected at {self.docker_url if self._has_own_engine else 'the configured address'}, "
                f"but none answers: {exc} Nothing was run. Start it, or correct docker_url ([pipcook] docker_url)."
            ) from exc

    def _temporary_folder(self) -> Any:
        if not self.mount_tmp_dir:
            return nullcontext()
        return TemporaryDirectory(prefix="airflowtmp", dir=self.host_tmp_dir)

    def _options(self, context: Context, labels: Mapping[str, str], folder: str | None) -> ContainerOptions:
        self._normalize_mounts()
        environment = dict(self.unpack_environment_variables(self.env_file)) if self.env_file is not None else {}
        environment.update(self.environment)
        mounts: list[Any] = list(self.mounts)
        if folder is not None:
            environment["AIRFLOW_TMP_DIR"] = self.tmp_dir
            mounts.append({"Target": self.tmp_dir, "Source": folder, "Type": "bind", "ReadOnly": False})
        own_labels = dict.fromkeys(self.labels, "") if isinstance(self.labels, list) else self.labels or {}
        log_options = {"max-size": self.log_opts_max_size, "max-file": self.log_opts_max_file}
        log_options = {name: value for name, value in log_options.items() if value is not None}
        return ContainerOptions(
            image=self.image or None,
            network=self.network_mode,
            memory=None if self.mem_limit is None else parse_bytes(self.mem_limit),
            cpus=self.cpus,
            user=None if self.user is None else str(self.user),
            environment=environment,
            private_environment=self._private_environment,
            mounts=tuple(mounts),
            entrypoint=self.format_command(self.entrypoint),
            working_dir=self.working_dir,
            labels={**own_labels, **labels},
            name=self.container_name,
            dns=self.dns,
            dns_search=self.dns_search,
            shm_size=self.shm_size,
            hostname=self.hostname,
            privileged=self.privileged,
            cap_add=list(self.cap_add) if self.cap_add else None,
            extra_hosts=self.extra_hosts,
            device_requests=self.device_requests,
            log_config=LogConfig(type=LogConfig.types.JSON, config=log_options) if log_options else None,
            ipc_mode=self.ipc_mode,
            port_bindings=self.port_bindings or None,
            ulimits=self.ulimits or None,
            keep=_KEPT[self.auto_remove],
            force_pull=self.force_pull,
            lease=self._lease(context),
        )

    def _lease(self, context: Context) -> float:
        """Return for how many seconds a container goes on without its worker: as long as a retry can still come."""
        task_instance = context["ti"]
        if not (self.durable and context.get("task_state_store")) or task_instance.try_number > task_instance.max_tries:
            return _SHORT_LEASE
        delay = _seconds(self.retry_delay)
        if self.retry_exponential_backoff:
            longest = _seconds(self.max_retry_delay) if self.max_retry_delay else _LONGEST_DELAY
            # True means 2, which Airflow 3.1 takes for every number. Up to as much again is added, by a digest of the task.
            multiplier = max(2.0, self.retry_exponential_backoff)
            delay = min(longest, 2 * delay * multiplier ** (task_instance.try_number - 1))
        timeout = conf.getint("scheduler", "task_instance_heartbeat_timeout", fallback=_HEARTBEAT_TIMEOUT)
        return float(timeout + delay + _MARGIN)


@dataclass(slots=True)
class _Session:
    """What one try of the task works with."""

    runner: StageRunner
    launcher: DockerLauncher
    workspace: Workspace
    labels: Mapping[str, str]
    listener: TaskLog
    job: StageJob | None = None
    result: dict[str, Any] | None = None


def _seconds(duration: timedelta | float) -> float:
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


def _identity(context: Context, workspace: Workspace) -> dict[str, str]:
    """Return the labels by which every try of a task finds the containers of the others.

    Several Airflows may share an engine, and scheduled runs have the same ids everywhere: the folder tells them apart.
    """
    task_instance = context["ti"]
    return {
        "io.pipcook.dag": task_instance.dag_id,
        "io.pipcook.run": task_instance.run_id,
        "io.pipcook.task": task_instance.task_id,
        "io.pipcook.map_index": str(task_instance.map_index),
        "io.pipcook.workspace": str(workspace.root),
    }
