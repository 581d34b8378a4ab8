"""What goes wrong with containers and engines: each is told with its cause and a remedy, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from docker.errors import APIError
from forwarder import Forwarder
from helpers import wait_until

from pipcook_provider.errors import (
    EngineError,
    ImageError,
    LaunchError,
    ProtocolError,
    ScriptError,
    StageCrashed,
    WorkspaceError,
)
from pipcook_provider.launchers import Needs
from pipcook_provider.launchers.docker import Engine
from pipcook_provider.launchers.docker import stream as stream_module
from pipcook_provider.settings import Settings

MiB = 2**20


def test_engine_that_is_down(settings, tmp_path) -> None:
    """An engine that does not answer is named, with what to do; trying again may help."""
    with pytest.raises(
        EngineError, match=r"engine unix://.*/none.sock .* cannot be reached: .* Start it, or name"
    ) as caught:
        Engine.connect(replace(settings, docker_url=f"unix://{tmp_path}/none.sock"))
    assert caught.value.retryable


def test_address_of_another_kind(settings) -> None:
    """An address that leads to no engine is to be corrected; trying again does not help."""
    with pytest.raises(EngineError, match=r"cannot be reached: .* Correct the address") as caught:
        Engine.connect(replace(settings, docker_url="foo://x"))
    assert not caught.value.retryable


@pytest.mark.parametrize("address", ["tcp://[::1", "tcp://host:99999"])
def test_address_that_is_none(settings, address: str) -> None:
    """An address that cannot be read is an engine that cannot be reached."""
    with pytest.raises(EngineError, match="cannot be reached: that is no address"):
        Engine.connect(replace(settings, docker_url=address))


@pytest.mark.parametrize("answer", [b"{}", b"[]", b"<html>"])
def test_address_of_something_else(settings, server, answer: bytes) -> None:
    """A web server that is no engine is told as none, whatever it answers."""
    server.put("/version", answer)
    with pytest.raises(EngineError, match="cannot be reached: "):
        Engine.connect(replace(settings, docker_url=f"tcp://{server.address}"))


@pytest.mark.skipif(find_spec("paramiko") is not None, reason="paramiko is installed")
def test_engine_behind_ssh_takes_a_package(settings) -> None:
    """Who names an engine behind SSH is told what has to be installed for it."""
    with pytest.raises(EngineError, match="pip install paramiko"):
        Engine.connect(replace(settings, docker_url="ssh://nobody@127.0.0.1"))


def test_address_is_told_without_its_password(settings) -> None:
    """A password in the engine's address is in no message."""
    with pytest.raises(EngineError, match="cannot be reached") as caught:
        Engine.connect(replace(settings, docker_url="tcp://user:secret@127.0.0.1:9"))
    assert "secret" not in str(caught.value)


def test_out_of_memory_names_the_limit(stages) -> None:
    """A stage that needs more memory than its container may use is told the limit and where it is set."""
    with pytest.raises(StageCrashed, match=r"more memory than its container may use, 105 MB, .*options.airflow.memory"):
        stages.run("print('filling'); filled = b'x' * 2**30", Needs(memory=100 * MiB))
    assert stages.containers() == []


def test_full_temporary_folder_is_told_from_a_full_disk(stages) -> None:
    """A script that fills /tmp is told that this lies in memory, and how much it holds."""
    body = "with open('/tmp/large', 'wb') as file:\n    for _ in range(200):\n        file.write(b'x' * 2**20)"
    with pytest.raises(ScriptError, match=r"No space left on device\n.* most likely /tmp: .* holds 134 MB, in memory"):
        stages.run(body, Needs(memory=256 * MiB))
    assert stages.containers() == []


def test_stage_without_network_is_told_so(stages) -> None:
    """A script that reaches no server since its container has no network is told that, and where it gets one."""
    body = "import urllib.request\nurllib.request.urlopen('http://192.0.2.1', timeout=5)"
    with pytest.raises(ScriptError, match=r'Network is unreachable.*\n.* has no network; .* "network": true'):
        stages.run(body, Needs(network=False))
    assert stages.containers() == []


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """The workspace on a disk of 8 MiB."""
    if os.geteuid():
        pytest.skip("mounting takes root")
    folder = tmp_path / "run"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk_of_the_workspace_is_named(stages, small_disk) -> None:
    """A script that fills the workspace's disk is told which disk that is."""
    body = "open('cache/large', 'wb').write(b'x' * 2**24)"
    with pytest.raises(
        ScriptError, match=rf"No space left on device(.|\n)*Full is the disk of the run's folder {small_disk}"
    ):
        stages.run(body)
    assert stages.containers() == []


def test_workspace_that_the_user_cannot_write(stages, heard) -> None:
    """A container whose user cannot write the workspace runs nothing, and says which user and which folder."""
    launcher = stages.launcher(user="12345:54321")
    with pytest.raises(WorkspaceError, match=r"(.|\n)*user 12345:54321 of .* folder .*/run\n.*chown") as caught:
        stages.run("print('ran')", launcher=launcher)
    assert not caught.value.retryable
    assert "ran" not in heard.lines
    assert stages.containers() == []


def test_source_that_the_engine_does_not_have(stages) -> None:
    """Files that the engine cannot see are told as such, with the setting that helps."""
    with pytest.raises(EngineError, match=r"was expected to have the files .* docker_mounts to volume") as caught:
        stages.run("pass", files={Path("/elsewhere"): Path("/nowhere/at/all")})
    assert not caught.value.retryable
    assert stages.containers() == []


@pytest.mark.parametrize("entrypoint", ["/no/such/program", "/etc/passwd", "/opt"])
def test_program_that_the_image_does_not_have(stages, entrypoint: str) -> None:
    """An entry point that cannot be executed is the image's fault."""
    with pytest.raises(ImageError, match="to hold the program that its container begins with"):
        stages.run("pass", launcher=stages.launcher(entrypoint=entrypoint))
    assert stages.containers() == []


def test_program_that_is_no_stage(stages) -> None:
    """An image whose program says nothing could not be started."""
    python = ["/opt/pipcook/bin/python", "-c", "print('I am another program')"]
    with pytest.raises(LaunchError, match=r"ended with exit code 0 before it was up\.\n.*\nI am another program"):
        stages.run("pass", launcher=stages.launcher(entrypoint=python))
    assert stages.containers() == []


@pytest.mark.parametrize(("protocol", "age"), [(0, "an older"), (999, "a newer")])
def test_runtime_of_another_version(stages, protocol: int, age: str) -> None:
    """A runtime that speaks another protocol is found out by its first message, and nothing is run."""
    opened = json.dumps({"kind": "opened", "sequence": 0, "protocol": protocol, "python": "3", "pid": 1})
    program = f"import os, time; print('\\x1e' + os.environ['PIPCOOK_CHANNEL'], {opened!r}); time.sleep(600)"
    launcher = stages.launcher(entrypoint=["/opt/pipcook/bin/python", "-u", "-c", program])
    with pytest.raises(ProtocolError, match=f"the image {stages.image} holds {age} pipcook-provider.*make images"):
        stages.run("pass", launcher=launcher)
    assert stages.containers() == []


UP = "import time\nprint('up', flush=True)\n"


def test_container_that_somebody_removed(stages, heard) -> None:
    """A container that is no longer there is told as gone; one that vanishes while it is followed is a crash."""
    launcher = stages.launcher()
    launch = stages.launch(launcher, f"{UP}time.sleep(600)")
    container = launcher.create(launch, heard)
    removing = threading.Thread(target=lambda: wait_until(lambda: "up" in heard.lines) and launcher.remove(container))
    removing.start()
    with pytest.raises(StageCrashed) as caught:
        launcher.follow(container, launch, heard)
    removing.join()
    assert caught.value.retryable
    with pytest.raises(StageCrashed, match="container is gone from the engine: somebody removed it"):
        launcher.follow(container, launch, heard)


@pytest.fixture
def forwarder(stages, settings) -> Iterator[Forwarder]:
    """An address of the engine whose connections can be cut."""
    made = Forwarder(stages.engine.address.removeprefix("unix://"))
    yield made
    made.close()


def through(stages, forwarder: Forwarder):
    settings = replace(stages.settings, docker_url=f"tcp://127.0.0.1:{forwarder.port}", docker_mounts="bind")
    return stages.through(Engine.connect(settings), settings)


def test_lost_connections_lose_nothing(stages, heard, forwarder) -> None:
    """When the connection to the engine breaks, again and again, the stage goes on and no line comes twice or never."""
    maker = through(stages, forwarder)
    body = f"{UP}for number in range(3_000):\n    print('line', number, flush=True)\n    time.sleep(0.001)"
    done = threading.Event()
    cuts: list[int] = []

    def cut() -> None:
        wait_until(lambda: "up" in heard.lines)
        while not done.wait(0.5):
            forwarder.refuses = True
            forwarder.cut()
            cuts.append(1)
            time.sleep(0.2)
            forwarder.refuses = False

    cutting = threading.Thread(target=cut)
    cutting.start()
    try:
        assert maker.run(body, launcher=maker.launcher(lease=20)) == {"samples": {"train": 1}}
    finally:
        done.set()
        cutting.join()
    assert len(cuts) > 1
    assert [line for line in heard.lines if line.startswith("line")] == [f"line {number}" for number in range(3_000)]


def test_engine_that_stays_lost(stages, heard, forwarder, monkeypatch) -> None:
    """An engine that is lost for too long is told; its containers end themselves, and the stage can be tried again."""
    monkeypatch.setattr(stream_module, "_LOST_FOR", 1)
    maker = through(stages, forwarder)

    def cut() -> None:
        wait_until(lambda: "up" in heard.lines)
        forwarder.refuses = True
        forwarder.cut()

    cutting = threading.Thread(target=cut)
    cutting.start()
    with pytest.raises(EngineError, match="was expected to follow the container, but it cannot be reached") as caught:
        maker.run(f"{UP}time.sleep(600)", launcher=maker.launcher(lease=2))
    cutting.join()
    assert caught.value.retryable
    (container,) = stages.containers()
    assert wait_until(lambda: not stages.engine.client.inspect_container(container)["State"]["Running"])
    assert wait_until(lambda: stages.launcher().reap() or stages.containers() == [])


class OwnEngine:
    """An engine of the test's own, which can be restarted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = f"unix://{folder}/engine.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # In a network namespace of its own: an engine without a bridge removes docker0, which may be another engine's.
        command = [
            "unshare",
            "--net",
            "dockerd",
            "-H",
            self.address,
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
        ]
        for option, name in (("data-root", "data"), ("exec-root", "exec"), ("pidfile", "pid")):
            command += [f"--{option}", str(self._folder / name)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        assert wait_until(self._answers, 60), (self._folder / "log").read_text(encoding="utf-8")[-2000:]

    def stop(self) -> None:
        assert self._process
        self._process.terminate()
        self._process.wait(60)

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()
        for left in ("pid", "exec/containerd/containerd.pid"):
            (self._folder / left).unlink(missing_ok=True)

    def unmount(self) -> None:
        """Take back what an engine that was killed has left mounted."""
        mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
        for place in reversed([place for place in mounted if place.startswith(f"{self._folder}/")]):
            subprocess.run(["umount", "-l", place], check=True)

    def load(self, image: str) -> None:
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
            subprocess.run(
                ["docker", "-H", self.address, "load", "-q"], stdin=saving.stdout, check=True, capture_output=True
            )

    def _answers(self) -> bool:
        return (
            subprocess.run(["docker", "-H", self.address, "version"], capture_output=True, check=False).returncode == 0
        )


@pytest.fixture(scope="module")
def own_engine(tmp_path_factory, stage_image) -> Iterator[OwnEngine]:
    """An engine with the stage image."""
    if os.geteuid():
        pytest.skip("starting an engine takes root")
    engine = OwnEngine(tmp_path_factory.mktemp("engine"))
    engine.start()
    engine.load(stage_image)
    yield engine
    engine.stop()
    engine.unmount()


@pytest.mark.parametrize(
    ("end", "told"),
    [(OwnEngine.stop, "stopped or restarted the engine"), (OwnEngine.kill, "most likely it was restarted")],
)
def test_engine_restarted_while_a_stage_runs(stages, heard, own_engine, end, told: str) -> None:
    """After a restart of the engine, which ends all containers, the stage is told so and can be tried again."""
    settings = replace(stages.settings, docker_url=own_engine.address)
    maker = stages.through(Engine.connect(settings), settings)

    def restart() -> None:
        wait_until(lambda: "up" in heard.lines)
        end(own_engine)
        time.sleep(1)
        own_engine.start()

    restarting = threading.Thread(target=restart)
    restarting.start()
    try:
        with pytest.raises(StageCrashed, match=told) as caught:
            maker.run(f"{UP}time.sleep(600)", launcher=maker.launcher())
    finally:
        restarting.join()
    assert caught.value.retryable
    for container in maker.containers():
        maker.engine.client.remove_container(container, force=True, v=True)


@pytest.mark.parametrize(
    ("status", "reason", "error", "told", "retryable"),
    [
        (500, "write /var/lib/docker/x: no space left on device", EngineError, "The disk of the engine is full", True),
        (500, "something else", EngineError, "asked to do it, but could not: something else", True),
        (400, "invalid mount config", EngineError, "invalid mount config", False),
        (
            400,
            'OCI runtime create failed: exec: "x": permission denied: unknown',
            ImageError,
            "cannot be executed",
            False,
        ),
    ],
)
def test_refusals_are_told(engine, status: int, reason: str, error, told: str, retryable: bool) -> None:
    """What the engine refuses is told in its words, and says whether trying again may help."""

    class Response:
        status_code = status

    with pytest.raises(error, match=told) as caught, engine.translated("do it"):
        raise APIError("x", response=Response(), explanation=reason)
    assert caught.value.retryable is retryable


def test_engine_of_this_machine_is_the_default(monkeypatch, engine) -> None:
    """Where nothing is said, the engine is this machine's own."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert Engine.connect(Settings()).address == "unix:///var/run/docker.sock"
