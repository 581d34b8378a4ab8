"""GPUs of an engine: whether it has them, how they are asked for, what its refusals mean. The engine is made up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from fake_engine import INFO, NVIDIA_RUNTIME, FakeEngine, image, running

from pipcook_provider import __version__
from pipcook_provider.errors import EngineError, GpuError
from pipcook_provider.launchers.base import Launch, Needs
from pipcook_provider.launchers.docker import DockerLauncher
from pipcook_provider.launchers.docker.gpu import device_requests, has_gpu, preflight, translate_refusal
from pipcook_provider.runtime.messages import Log
from pipcook_provider.settings import Settings

CPU_IMAGE, CUDA_IMAGE = f"pipcook-stage:{__version__}-cpu", f"pipcook-stage:{__version__}-cuda"

NO_DRIVER = 'could not select device driver "" with capabilities: [[gpu]]'


def cdi(*names: str) -> dict[str, Any]:
    """Return what an engine says that discovered these devices of NVIDIA's."""
    found = [{"Source": "cdi", "ID": f"nvidia.com/gpu={name}"} for name in names]
    return {"CDISpecDirs": ["/etc/cdi", "/var/run/cdi"], "DiscoveredDevices": [*found, {"ID": "vendor.com/net=0"}]}


def ask(needs: Needs, heard, **info: Any) -> int:
    """Return how many GPUs an engine that tells this of itself grants."""
    with running(FakeEngine(info={**INFO, **info})) as fake:
        return preflight(fake.connect(), needs, heard)


@pytest.mark.parametrize(
    ("info", "has"),
    [
        ({}, False),
        ({"Runtimes": None}, False),
        (NVIDIA_RUNTIME, True),
        (cdi("0", "all"), True),
        (cdi(), False),
        ({"CDISpecDirs": ["/etc/cdi"], "DiscoveredDevices": None}, False),
    ],
)
def test_engine_with_gpu(info: dict[str, Any], has: bool) -> None:
    """A runtime named nvidia or a discovered device of NVIDIA's means that containers can have a GPU."""
    with running(FakeEngine(info={**INFO, **info})) as fake:
        assert has_gpu(fake.connect()) is has


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize("info", [NVIDIA_RUNTIME, cdi("0", "1", "GPU-01", "GPU-02", "all"), cdi("all")])
def test_gpus_are_granted(heard, info: dict[str, Any], required: bool) -> None:
    """Where there are enough, or the engine does not tell how many, the stage gets what it asks for."""
    assert ask(Needs(gpus=2, gpu_required=required), heard, **info) == 2
    assert heard.messages == []


def test_stage_without_gpu_asks_nothing(heard) -> None:
    """A stage that asks for none costs no question to the engine."""
    with running(FakeEngine()) as fake:
        assert preflight(fake.connect(), Needs(), heard) == 0
        assert fake.requests("/info") == []


def test_required_gpu_that_is_missing(heard) -> None:
    """A required GPU that the engine lacks is an error: what is missing where, and the ways out."""
    with pytest.raises(GpuError) as caught:
        ask(Needs(gpus=1, gpu_required=True), heard)
    told = str(caught.value)
    assert not caught.value.retryable
    for part in (
        "asks for a GPU, but the Docker engine http://127.0.0.1:",
        "neither a runtime named nvidia nor CDI devices",
        "nvidia-container-toolkit",
        "nvidia-ctk runtime configure",
        '"auto"',
        "queue",
    ):
        assert part in told


def test_gpu_that_may_be_missing(heard) -> None:
    """With "auto" the CPU is used where there is no GPU, and a warning says so."""
    assert ask(Needs(gpus=1), heard) == 0
    (warning,) = heard.messages
    assert warning.level == "warning"
    assert warning.text.endswith("The CPU is used.")


@pytest.mark.parametrize("required", [True, False])
def test_macos_has_no_gpu(heard, monkeypatch, required: bool) -> None:
    """On macOS a GPU that was asked for is a warning, never an error."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert ask(Needs(gpus=1, gpu_required=required), heard) == 0
    (warning,) = heard.messages
    assert warning.level == "warning"
    assert "macOS" in warning.text


def test_too_few_gpus(heard) -> None:
    """Fewer than required are an error with both numbers; with "auto" those that are there are used."""
    with pytest.raises(GpuError, match=r"asks for 4 GPUs, but .* has 2\. Ask for at most 2"):
        ask(Needs(gpus=4, gpu_required=True), heard, **cdi("0", "1", "all"))
    assert ask(Needs(gpus=4), heard, **cdi("0", "1", "all")) == 2
    assert [message.text.endswith("Those are used.") for message in heard.messages] == [True]


def test_engine_that_does_not_answer(heard) -> None:
    """An engine that is away is an error of the engine, not of the GPU."""
    with running(FakeEngine()) as fake:
        engine = fake.connect()
    with pytest.raises(EngineError):
        preflight(engine, Needs(gpus=1), heard)


def test_device_requests() -> None:
    """GPUs are asked for as docker run --gpus does; none are not asked for."""
    (request,) = device_requests(2)
    assert (request.count, request.capabilities, request.driver) == (2, [["gpu"]], "")
    assert device_requests(0) == []


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (NO_DRIVER, "nvidia-ctk runtime configure"),
        ("nvidia-container-cli: initialization error: nvml error: driver not loaded", "install NVIDIA's driver"),
        ("unknown or invalid runtime name: nvidia", "nvidia-ctk runtime configure"),
        ("CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=0", "nvidia-container-toolkit"),
        ("nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.5", "update NVIDIA's driver"),
    ],
)
def test_refusal_about_a_gpu(message: str, told: str) -> None:
    """What an engine says when it cannot give a GPU is told with what to do."""
    error = translate_refusal(message)
    assert isinstance(error, GpuError)
    assert message in str(error)
    assert told in str(error)
    assert not error.retryable


@pytest.mark.parametrize("message", ["no such image", "port is already allocated", "No such container: gpu-training"])
def test_refusal_about_something_else(message: str) -> None:
    """Other refusals are not about a GPU, whatever words they hold."""
    assert translate_refusal(message) is None


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def run_stage(fake: FakeEngine, workspace: Path, needs: Needs, heard) -> Any:
    """Run a stage on an engine; return its result."""
    launcher = DockerLauncher(fake.connect(), Settings(docker_mounts="bind", stop_timeout=1.0))
    site = launcher.open(needs, heard)
    launch = Launch(site=site, workspace=workspace, context=Path("context.json"), subject="model script model.py")
    return launcher.run(launch, heard)


def created(fake: FakeEngine) -> dict[str, Any]:
    """Return what the engine was asked to create."""
    (asked,) = fake.requests("/containers/create")
    body: dict[str, Any] = asked.body
    return body


def gpu_engine(**changes: Any) -> FakeEngine:
    """Return an engine with GPUs and both images."""
    images = {CPU_IMAGE: image(), CUDA_IMAGE: image(labels={"variant": "cuda"})}
    return FakeEngine(info={**INFO, **NVIDIA_RUNTIME}, images=images, **changes)


def assert_closed(host: dict[str, Any]) -> None:
    """Check what keeps a container from harming its host."""
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["ReadonlyRootfs"] is True
    assert host["NetworkMode"] == "none"
    assert host["PidsLimit"] > 0
    assert host["Memory"] == host["MemorySwap"] > 0
    assert not host.get("Privileged")
    assert "docker.sock" not in str(host)


def test_model_stage_gets_its_gpu(heard, workspace: Path) -> None:
    """A stage that needs GPUs runs in the CUDA image and asks the engine for them, closed like any other."""
    with running(gpu_engine(result={"device": "GPU: Tesla T4"})) as fake:
        assert run_stage(fake, workspace, Needs(gpus=2, gpu_required=True), heard) == {"device": "GPU: Tesla T4"}
        body = created(fake)
        assert [asked.method for asked in fake.requests(f"/containers/{'c' * 64}/start")] == ["POST"]
    assert body["Image"] == CUDA_IMAGE
    (request,) = body["HostConfig"]["DeviceRequests"]
    assert (request["Count"], request["Capabilities"], request["DeviceIDs"]) == (2, [["gpu"]], [])
    assert_closed(body["HostConfig"])


def test_other_stages_get_none(heard, workspace: Path) -> None:
    """On the same engine a stage that needs no GPU runs in the CPU image and asks for none."""
    with running(gpu_engine()) as fake:
        run_stage(fake, workspace, Needs(), heard)
        body = created(fake)
    assert body["Image"] == CPU_IMAGE
    assert not body["HostConfig"].get("DeviceRequests")
    assert_closed(body["HostConfig"])


def test_stage_that_takes_the_cpu_instead(heard, workspace: Path) -> None:
    """With "auto" and no GPU the stage runs in the CPU image."""
    with running(FakeEngine(images={CPU_IMAGE: image()})) as fake:
        run_stage(fake, workspace, Needs(gpus=1), heard)
        body = created(fake)
    assert body["Image"] == CPU_IMAGE
    assert not body["HostConfig"].get("DeviceRequests")
    assert "warning" in [message.level for message in heard.messages if isinstance(message, Log)]


def test_missing_gpu_costs_no_pull(heard, workspace: Path) -> None:
    """The GPU is looked for before the image: an engine without one is asked for nothing else."""
    with running(FakeEngine()) as fake:
        with pytest.raises(GpuError):
            run_stage(fake, workspace, Needs(gpus=1, gpu_required=True, images={"gpu": "ours:gpu"}), heard)
        assert {asked.path for asked in fake.asked} <= {"/_ping", "/info", "/version"}


def test_engine_refuses_at_start(heard, workspace: Path) -> None:
    """An engine that finds out only at the start that it has no GPU to give: the same error, and no container stays."""
    with running(gpu_engine(start_refusal=NO_DRIVER)) as fake:
        with pytest.raises(GpuError, match="could not select device driver"):
            run_stage(fake, workspace, Needs(gpus=1, gpu_required=True), heard)
        assert [asked.path for asked in fake.asked if asked.method == "DELETE"] == [f"/containers/{'c' * 64}"]
