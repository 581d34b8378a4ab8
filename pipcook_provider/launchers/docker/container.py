"""A stage's container, as the engine is asked for it: closed by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipcook_provider import __version__
from pipcook_provider.launchers.base import Launch
from pipcook_provider.launchers.docker.engine import Engine
from pipcook_provider.launchers.docker.gpu import device_requests
from pipcook_provider.launchers.docker.options import ContainerOptions
from pipcook_provider.masking import masked
from pipcook_provider.runtime.messages import TOKEN_VARIABLE
from pipcook_provider.settings import Settings

if TYPE_CHECKING:
    from docker.types import LogConfig, Mount

#: Seconds; containers with this label that have not run for so long are removed.
LEASE_LABEL = "io.pipcook.lease"

#: The run's folder, as the worker knows it.
WORKSPACE_LABEL = "io.pipcook.workspace"

_HOME = "/tmp"  # noqa: S108 - the container's own
_SHARED_MEMORY = 2**30
_SHARE_OF_MEMORY = 0.8
_SHARES_OF_A_CPU = 1024
#: An engine's own limit of a log's size would cut off its beginning, which holds messages. (Of lines above 16 KiB,
#: json-file damages characters that lie across its pieces; messages are shorter, and ASCII.)
_LOG_SIZE = "1000g"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpecification:
    """All that is decided of a container.

    :param launch: what runs in it.
    :param options: what whoever configures the launcher wants.
    :param name: the container's name.
    :param token: the launch's token.
    :param user: as whom it runs, as ``UID:GID``, or by a name that the image knows.
    :param memory: bytes that it may use; a half of them for files in ``/tmp``.
    :param pids: processes and threads that it may have.
    :param mounts: what it sees of the worker.
    :param lease: seconds that it may lie there without running before it counts as left behind.
    """

    launch: Launch
    options: ContainerOptions
    name: str
    token: str
    user: str
    memory: int
    pids: int
    mounts: Sequence[Mount]
    lease: float

    def create(self, engine: Engine) -> str:
        """Create the container and return its id.

        :raises LaunchError: the engine refuses.
        """
        options = self.options
        with engine.translated(f"create the container of {masked(self.launch.subject)}"):
            created: dict[str, str] = engine.client.create_container(
                image=self.launch.site.image,
                name=self.name,
                entrypoint=options.entrypoint,
                command=self._command(),
                working_dir=options.working_dir or str(self.launch.workspace),
                user=self.user,
                hostname=options.hostname,
                environment={"HOME": _HOME, "USER": "pipcook", **options.environment, TOKEN_VARIABLE: self.token},
                labels=self._labels(),
                ports=list(options.port_bindings or ()) or None,
                host_config=engine.client.create_host_config(**self._host_config(), **self._hardening()),
                stdin_open=True,
                detach=True,
            )
        return created["Id"]

    def _command(self) -> list[str]:
        packages = [] if self.launch.framework else ["packages"]
        return [str(self.launch.workspace), self.launch.context.as_posix(), "lease", *packages]

    def _labels(self) -> dict[str, str]:
        lease = {LEASE_LABEL: f"{self.lease:g}"} if self.options.keep == "never" else {}
        own = {
            "io.pipcook.version": __version__,
            "io.pipcook.stage": masked(self.launch.subject),
            WORKSPACE_LABEL: str(self.launch.workspace),
        }
        return {**self.options.labels, **own, **lease}

    def _host_config(self) -> dict[str, Any]:
        options = self.options
        return {
            "mounts": [*self.mounts, *options.mounts],
            "network_mode": choose_network(self.launch, options),
            "mem_limit": self.memory,
            "memswap_limit": self.memory,
            "cpu_shares": round(options.cpus * _SHARES_OF_A_CPU) if options.cpus else None,
            "shm_size": options.shm_size or _SHARED_MEMORY,
            "device_requests": options.device_requests or device_requests(self.launch.site.gpus) or None,
            "log_config": options.log_config or _log_config(),
            "dns": options.dns,
            "dns_search": options.dns_search,
            "extra_hosts": options.extra_hosts,
            "ipc_mode": options.ipc_mode,
            "port_bindings": options.port_bindings,
            "ulimits": options.ulimits,
            "cap_add": options.cap_add,
        }

    def _hardening(self) -> dict[str, Any]:
        taken = {mount["Target"] for mount in (*self.mounts, *self.options.mounts)}
        hardening: dict[str, Any] = {"read_only": True, "pids_limit": self.pids}
        if _HOME not in taken:
            hardening["tmpfs"] = {_HOME: f"rw,exec,nosuid,nodev,mode=1777,size={temporary_size(self.memory)}"}
        if self.options.privileged:
            return {**hardening, "privileged": True}
        return {**hardening, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}


def temporary_size(memory: int) -> int:
    """Return the bytes that ``/tmp`` may hold; they count as memory of the container."""
    return memory // 2


def choose_network(launch: Launch, options: ContainerOptions) -> str:
    """Return the name of the network that a container is in; ``none`` isolates it."""
    needed = launch.site.needs.network
    return options.network or (needed if isinstance(needed, str) else "default" if needed else "none")


def choose_memory(launch: Launch, options: ContainerOptions, settings: Settings, engine: Engine) -> int:
    """Return the bytes that a container may use."""
    stated = options.memory or launch.site.needs.memory or settings.docker_memory
    return stated or int(engine.info["MemTotal"] * _SHARE_OF_MEMORY)


def choose_user(options: ContainerOptions, engine: Engine, worker: tuple[int, int]) -> str:
    """Return as whom a container runs: as this process, unless it is stated, or the engine's root is an ordinary user.

    What a stage writes is this process's then, and the paths of this machine, which are the container's too, lead where
    they lead here.

    :param worker: user and group id of this process.
    """
    if options.user:
        return options.user
    return "0:0" if engine.is_rootless else f"{worker[0]}:{worker[1]}"


def bind(source: Path, target: Path, *, read_only: bool) -> Mount:
    """Return a mount of a file or folder of the engine's machine."""
    from docker.types import Mount

    return Mount(str(target), str(source), type="bind", read_only=read_only)


def volume(target: Path, *, name: str | None = None, read_only: bool = False) -> Mount:
    """Return a mount of a volume; one without a name goes with its container."""
    from docker.types import Mount

    return Mount(str(target), name, type="volume", read_only=read_only)


def _log_config() -> LogConfig:
    from docker.types import LogConfig

    return LogConfig(type=LogConfig.types.JSON, config={"max-size": _LOG_SIZE})


@dataclass(frozen=True, slots=True)
class ContainerState:
    """What the engine says of a container.

    :param status: ``created``, ``running``, ``exited`` ...
    :param exit_code: of its first process; 0 while it runs.
    :param out_of_memory: whether the kernel ended a process in it for want of memory.
    :param token: the launch's token, with which it was created.
    :param memory: bytes that it may use.
    :param has_network: whether it has any but its own.
    """

    status: str
    exit_code: int
    out_of_memory: bool
    token: str
    memory: int
    has_network: bool

    @property
    def is_running(self) -> bool:
        """Whether it may still write something."""
        return self.status in ("running", "paused", "restarting")

    @classmethod
    def inspect(cls, engine: Engine, container: str) -> ContainerState | None:
        """Return a container's state; None for one that is not there, or no more.

        :raises docker.errors.DockerException: the engine refuses.
        :raises OSError: the engine does not answer.
        """
        from docker.errors import NotFound

        try:
            found = engine.client.inspect_container(container)
        except NotFound:
            return None
        variables = dict(entry.partition("=")[::2] for entry in found["Config"].get("Env") or ())
        return cls(
            status=found["State"]["Status"],
            exit_code=found["State"]["ExitCode"],
            out_of_memory=found["State"]["OOMKilled"],
            token=variables.get(TOKEN_VARIABLE, ""),
            memory=found["HostConfig"]["Memory"],
            has_network=found["HostConfig"]["NetworkMode"] != "none",
        )
