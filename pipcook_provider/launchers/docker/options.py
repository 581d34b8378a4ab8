"""What whoever configures the Docker launcher adds to what stages need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

#: Seconds that a container runs on when nobody asks for it: a worker's process may pause for as long.
DEFAULT_LEASE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerOptions:
    """What whoever configures the launcher adds, or wants otherwise; None leaves it to the launcher.

    What has no description means what it means in ``docker run``.

    :param image: for all stages, whatever the document says.
    :param network: the container network's name, or ``none``, ``bridge``, ``host``, for all stages.
    :param memory: bytes.
    :param cpus: weight among containers when all processors are busy, 1 for that of others; as Airflow's operator has it.
    :param environment: variables that whoever may ask the engine can read.
    :param private_environment: variables that only the stage can read.
    :param mounts: beside the launcher's own.
    :param labels: beside the launcher's own, by which :meth:`DockerLauncher.find` finds a container.
    :param shm_size: bytes of ``/dev/shm``.
    :param keep: which containers stay behind, stopped, for a person to look at.
    :param force_pull: ask the registry for the image although the engine has one of that name.
    :param lease: seconds that a container runs on after its worker is lost, for another one to take over.
    """

    image: str | None = None
    network: str | None = None
    memory: int | None = None
    cpus: float | None = None
    user: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    private_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    mounts: Sequence[Mount] = ()
    entrypoint: str | Sequence[str] | None = None
    working_dir: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    dns: Sequence[str] | None = None
    dns_search: Sequence[str] | None = None
    shm_size: int | None = None
    hostname: str | None = None
    privileged: bool = False
    cap_add: Sequence[str] | None = None
    extra_hosts: Mapping[str, str] | None = None
    device_requests: Sequence[DeviceRequest] | None = None
    log_config: LogConfig | None = None
    ipc_mode: str | None = None
    port_bindings: Mapping[Any, Any] | None = None
    ulimits: Sequence[Ulimit] | None = None
    keep: Literal["never", "failed", "always"] = "never"
    force_pull: bool = False
    lease: float = DEFAULT_LEASE
