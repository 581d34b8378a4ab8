"""Whether an engine has GPUs to give, and how they are asked for.

An engine gives NVIDIA's GPUs to containers in one of two ways, both of the nvidia-container-toolkit: a runtime named
``nvidia``, or devices of the Container Device Interface (CDI), which newer engines list.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pipcook_provider.errors import GpuError
from pipcook_provider.launchers.base import Listener, Needs
from pipcook_provider.runtime.messages import Log

if TYPE_CHECKING:
    from docker.types import DeviceRequest

    from pipcook_provider.launchers.docker.engine import Engine

_CDI_KIND = "nvidia.com/gpu="

_INSTALL = (
    "install NVIDIA's driver and the nvidia-container-toolkit there, run `nvidia-ctk runtime configure --runtime=docker` "
    "and restart docker"
)
_AVOID = (
    'to train without a GPU where there is none, set options.train.gpu to "auto", or to false; to train on the workers '
    "that have one, name their queue in options.airflow.stages.model.queue"
)

#: What engines and NVIDIA's tools say when a container cannot have the GPU that it asks for.
_REFUSALS = (
    *("could not select device driver", "nvidia-container-cli", "nvidia-container-runtime", "nvidia.com/gpu"),
    *("runtime name: nvidia", "runtime specified nvidia", "nvml"),
)


def has_gpu(engine: Engine) -> bool:
    """Tell whether containers could use a GPU on this engine.

    :raises EngineError: the engine does not answer.
    """
    return "nvidia" in (engine.info.get("Runtimes") or {}) or bool(_cdi_devices(engine))


def preflight(engine: Engine, needs: Needs, listener: Listener) -> int:
    """Return how many GPUs a stage gets, before anything is pulled or trained.

    :raises GpuError: it requires more than the engine has.
    :raises EngineError: the engine does not answer.
    """
    if not needs.gpus:
        return 0
    count = _count(engine)
    if count is None or count >= needs.gpus:
        return needs.gpus
    found = f"has {count}" if count else "has none: neither a runtime named nvidia nor CDI devices nvidia.com/gpu"
    told = f"options.train.gpu asks for {_gpus(needs.gpus)}, but the Docker engine {engine.address} {found}."
    if sys.platform == "darwin":
        listener.message(Log("warning", f"{told} On macOS containers cannot have any: the CPU is used."))
        return 0
    if needs.gpu_required:
        raise GpuError(f"{told} {_remedy(count)}")
    listener.message(
        Log("warning", f"{told} {'That is' if count == 1 else 'Those are' if count else 'The CPU is'} used.")
    )
    return count


def device_requests(count: int) -> list[DeviceRequest]:
    """Return what a container's host configuration says to get so many GPUs; nothing for 0."""
    from docker.types import DeviceRequest

    return [DeviceRequest(count=count, capabilities=[["gpu"]])] if count else []


def translate_refusal(message: str) -> GpuError | None:
    """Return the error that an engine's refusal to start a container means; None where it is about no GPU."""
    known = message.lower()
    if not any(words in known for words in _REFUSALS):
        return None
    if "unsatisfied condition" in known or "driver version" in known:
        remedy = (
            "The image's CUDA is newer than the driver there: update NVIDIA's driver, or name an image with an older CUDA "
            "in options.airflow.image or [pipcook] images."
        )
    else:
        remedy = _remedy(0)
    return GpuError(
        f"A GPU was expected for the container, but the Docker engine could not give it: {message}. {remedy}"
    )


def _remedy(count: int) -> str:
    if count:
        return f"Ask for at most {count} in options.airflow.gpus, or give the engine more."
    return f"To give it one, {_INSTALL}; {_AVOID}."


def _gpus(count: int) -> str:
    return "a GPU" if count == 1 else f"{count} GPUs"


def _count(engine: Engine) -> int | None:
    """Return how many GPUs the engine has; None where it has some and does not tell how many."""
    if devices := _cdi_devices(engine):
        # A GPU is listed by its number and again by its UUID, and all of them together as "all".
        return len([device for device in devices if device.isdecimal()]) or None
    return None if has_gpu(engine) else 0


def _cdi_devices(engine: Engine) -> list[str]:
    """Return what follows ``nvidia.com/gpu=`` in the names of the devices that the engine has discovered."""
    discovered: list[dict[str, Any]] = engine.info.get("DiscoveredDevices") or []
    names = [str(device.get("ID", "")) for device in discovered]
    return [name.removeprefix(_CDI_KIND) for name in names if name.startswith(_CDI_KIND)]
