"""Which device a model stage says that it computed on. GPUs are made up: no machine of the tests has one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import prepared

from pipcook_provider.runtime.devices import describe_device

CPU = r"CPU: .+, \d+ cores?"

INFORMATION = "Model: \t\t Tesla T4\nIRQ:   \t\t 11\nGPU UUID: \t GPU-01234567\n"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """What Linux tells of a machine with a GPU that this process has opened."""
    descriptors = tmp_path / "proc" / "self" / "fd"
    descriptors.mkdir(parents=True)
    (descriptors / "0").symlink_to("/dev/null")
    (descriptors / "7").symlink_to("/dev/nvidia0")
    gpu = tmp_path / "proc" / "driver" / "nvidia" / "gpus" / "0000:00:1e.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text(INFORMATION)
    return tmp_path / "proc"


def tensorflow_with(*names: str | None, hidden: bool = False) -> Any:
    """Return what stands for TensorFlow on a machine with GPUs of these names."""
    return SimpleNamespace(
        config=SimpleNamespace(
            get_visible_devices=lambda kind: [] if hidden or kind != "GPU" else list(names),
            experimental=SimpleNamespace(get_device_details=lambda name: {"device_name": name} if name else {}),
        )
    )


def torch_with(name: str, *, used: bool) -> Any:
    """Return what stands for PyTorch on a machine with a GPU."""
    return SimpleNamespace(
        cuda=SimpleNamespace(
            is_initialized=lambda: used, current_device=lambda: 0, get_device_name=lambda device: f"{name} {device}"
        )
    )


def test_this_machine() -> None:
    """Where no GPU is used it is the CPU, by its name and the cores that may be used."""
    assert re.fullmatch(CPU, describe_device())
    cores = len(os.sched_getaffinity(0))
    assert describe_device().endswith(f", {cores} core{'s' if cores > 1 else ''}")


def test_nothing_is_imported() -> None:
    """Asking imports no framework and starts no program."""
    program = """
import sys
from pipcook_provider.runtime.devices import describe_device
describe_device()
print(sorted({"tensorflow", "torch", "numpy", "subprocess"} & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("tensorflow", "told"),
    [
        (tensorflow_with("Tesla T4"), "GPU: Tesla T4"),
        (tensorflow_with("Tesla T4", "Tesla T4", "A100"), "GPU: 2 x Tesla T4, A100"),
        (tensorflow_with(None), "GPU: unknown"),
        (tensorflow_with(), CPU),
        (tensorflow_with("Tesla T4", hidden=True), CPU),
        (SimpleNamespace(), CPU),
        (None, CPU),
    ],
)
def test_tensorflow(monkeypatch, tensorflow: Any, told: str) -> None:
    """TensorFlow that was imported names the GPUs that it sees; one that fails over the question counts as without."""
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    assert re.fullmatch(told, describe_device())


@pytest.mark.parametrize(("used", "told"), [(True, "GPU: Tesla T4 0"), (False, CPU)])
def test_torch(monkeypatch, used: bool, told: str) -> None:
    """PyTorch names its GPU if the script put something on it."""
    monkeypatch.setitem(sys.modules, "torch", torch_with("Tesla T4", used=used))
    assert re.fullmatch(told, describe_device())


def test_opened_device(proc: Path) -> None:
    """Whatever library opened a GPU: the driver says its name."""
    assert describe_device(proc) == "GPU: Tesla T4"


def test_device_that_nobody_opened(proc: Path) -> None:
    """A GPU of the machine that the process did not open was not used."""
    (proc / "self" / "fd" / "7").unlink()
    (proc / "self" / "fd" / "8").symlink_to("/dev/nvidiactl")
    (proc / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Xeon\n")
    assert describe_device(proc).startswith("CPU: Xeon, ")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("echo 'GPU 0: Tesla T4 (UUID: GPU-0123)'", "GPU: Tesla T4"),
        ("exit 9", "GPU: unknown"),
    ],
)
def test_name_from_nvidia_smi(monkeypatch, tmp_path, proc: Path, body: str, told: str) -> None:
    """Where the driver's files are not shown, nvidia-smi is asked; if it fails the GPU has no name."""
    (proc / "driver" / "nvidia" / "gpus" / "0000:00:1e.0" / "information").unlink()
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    assert describe_device(proc) == told


def test_machine_that_tells_nothing(tmp_path) -> None:
    """Without what Linux tells there is still an answer."""
    assert re.fullmatch(CPU, describe_device(tmp_path))


def test_model_stage_tells_its_device(runner, write_pipeline, tmp_path) -> None:
    """The model stage's result names the device, whatever a script leaves in the place of a framework."""
    script = """
import sys, types

class Broken(types.ModuleType):
    def __getattr__(self, name):
        raise RuntimeError(name)

def train(runtime, options, context):
    sys.modules["tensorflow"] = sys.modules["torch"] = Broken("broken")
    runtime.save_model(b"12345", "model")
"""
    workspace = prepared(runner, write_pipeline(scripts={"model.py": script}), tmp_path / "run")
    value = [runner.run(workspace, stage).value for stage in ("datasource", "dataflow_1", "model")][-1]
    assert (value["files"], value["bytes"]) == (1, 5)
    assert re.fullmatch(CPU, value["device"])
