"""What a stage computed on, asked after its script ran and without importing anything that the script did not."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

_GPU_DEVICE = re.compile(r"/dev/(nvidia\d+|dxg)")
_ANSWER_TIME = 5
_LONGEST_NAME = 120


def describe_device(proc: Path = Path("/proc")) -> str:
    """Return the device that this process computed on: ``GPU: Tesla T4``, or ``CPU: ..., 2 cores``.

    It never raises, and initialises no GPU: one that the script did not touch does not count.

    :param proc: where Linux tells about processes and hardware.
    """
    for find in (_tensorflow_gpus, _torch_gpus, lambda: _opened_gpus(proc)):
        if gpus := _names(find):
            return f"GPU: {', '.join(gpus)}"[:_LONGEST_NAME]
    return f"CPU: {_processor(proc)[:_LONGEST_NAME]}, {_cores()}"


def _names(find: Callable[[], Iterable[Any]]) -> list[str]:
    """Return what was found, each name once with its number; nothing where a library fails over the question."""
    try:
        names = Counter(str(name) for name in find())
    except Exception:
        return []
    return [name if count == 1 else f"{count} x {name}" for name, count in names.items()]


def _tensorflow_gpus() -> Iterable[str]:
    """Return the GPUs that TensorFlow computes on wherever it can: all that it sees and that the script did not hide."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return []
    config = tensorflow.config
    devices = config.get_visible_devices("GPU")
    return [config.experimental.get_device_details(device).get("device_name") or "unknown" for device in devices]


def _torch_gpus() -> Iterable[str]:
    """Return the GPU that PyTorch holds since the script first put something on it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    return [torch.cuda.get_device_name(torch.cuda.current_device())]


def _opened_gpus(proc: Path) -> Iterable[str]:
    """Return the GPUs of the machine when this process has opened one, by whatever library."""
    if not any(_GPU_DEVICE.fullmatch(_target(descriptor)) for descriptor in (proc / "self" / "fd").iterdir()):
        return []
    told = "".join(file.read_text() for file in sorted(proc.glob("driver/nvidia/gpus/*/information")))
    return re.findall(r"^Model:\s*(.+?)\s*$", told, re.MULTILINE) or _ask_nvidia_smi() or ["unknown"]


def _ask_nvidia_smi() -> list[str]:
    import subprocess

    with suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=_ANSWER_TIME)
        return re.findall(r"^GPU \d+: (.+?)(?: \(UUID.*)?$", asked.stdout, re.MULTILINE)
    return []


def _target(link: Path) -> str:
    with suppress(OSError):
        return str(link.readlink())
    return ""


def _processor(proc: Path) -> str:
    # The first processor is enough; the kernel asks each one for its frequency when all of the file is read.
    with suppress(OSError, UnicodeDecodeError), (proc / "cpuinfo").open(encoding="utf-8") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    import platform

    return platform.machine() or "unknown"


def _cores() -> str:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{count} core{'s' if count > 1 else ''}"
