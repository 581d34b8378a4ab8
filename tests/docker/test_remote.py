"""Stages on an engine that sees none of the worker's files: the same one, asked through TCP and TLS."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from forwarder import Forwarder

from pipcook_provider.errors import EngineError, ScriptError, SettingsError, WorkspaceError
from pipcook_provider.launchers.docker import Engine
from pipcook_provider.launchers.docker.transfer import Binds, Volumes, choose_transfer
from pipcook_provider.runtime.messages import Log
from pipcook_provider.settings import Settings


@pytest.fixture
def remote(stages, settings) -> Iterator:
    """A maker of stages that asks the engine through a TCP port."""
    forwarder = Forwarder(stages.engine.address.removeprefix("unix://"))
    settings = replace(settings, docker_url=f"tcp://127.0.0.1:{forwarder.port}")
    yield stages.through(Engine.connect(settings), settings)
    forwarder.close()


@pytest.fixture
def framework(stages, tmp_path: Path) -> Iterator[Path]:
    """A framework; its volumes are removed."""
    folder = tmp_path / "framework"
    (folder / "site-packages").mkdir(parents=True)
    (folder / "site-packages" / "only_here.py").write_text("ADDED = 100\n", encoding="utf-8")
    client = stages.engine.client
    before = {volume["Name"] for volume in client.volumes()["Volumes"] or ()}
    yield folder
    for volume in client.volumes()["Volumes"] or ():
        if volume["Name"] not in before and volume["Name"].startswith("pipcook-framework-"):
            client.remove_volume(volume["Name"])


BODY = """
import os, pathlib
print("writes", pathlib.Path("cache", "deep").mkdir(), os.access("scripts", os.R_OK))
pathlib.Path("cache", "deep", "large").write_bytes(b"x" * 3_000_000)
pathlib.Path("cache", "program").write_text("")
pathlib.Path("cache", "program").chmod(0o755)
pathlib.Path("cache", "link").symlink_to("deep/large")
"""


def volumes(engine: Engine) -> set[str]:
    return {volume["Name"] for volume in engine.client.volumes()["Volumes"] or ()}


def test_remote_engine_is_sent_what_it_reads(remote, heard) -> None:
    """What a stage reads goes to the engine, what it wrote comes back, and neither container nor volume stays."""
    assert remote.engine.is_remote
    before = volumes(remote.engine)
    assert remote.run(BODY) == {"samples": {"train": 1}}
    workspace = remote.folder / "run"
    assert list((workspace / "output").iterdir())
    assert (workspace / "cache" / "link").read_bytes() == b"x" * 3_000_000
    assert os.access(workspace / "cache" / "program", os.X_OK)
    assert {path.lstat().st_uid for path in workspace.rglob("*")} == {os.getuid()}
    assert remote.containers() == []
    assert volumes(remote.engine) == before


def test_remote_framework_travels_once(remote, heard, framework: Path) -> None:
    """A framework and data files go to the engine too; the framework stays there for the next stage."""
    before = volumes(remote.engine)
    (remote.folder / "a.csv").write_text("1,2", encoding="utf-8")
    body = 'import os, only_here\nprint(open("/elsewhere/a.csv").read(), os.access(only_here.__file__, os.W_OK))'
    for _ in range(2):
        remote.run(body, framework=framework, files={Path("/elsewhere/a.csv"): remote.folder / "a.csv"})
    assert heard.lines == ["1,2 False"] * 2
    told = [message.text for message in heard.messages if isinstance(message, Log)]
    assert len([text for text in told if text.startswith("copying the framework")]) == 1
    (name,) = (name for name in volumes(remote.engine) - before if name.startswith("pipcook-framework-"))
    left = remote.engine.client.containers(all=True, filters={"name": name})
    assert left == []


def test_remote_framework_is_copied_by_one_of_many(remote, heard, framework: Path) -> None:
    """Stages that begin at once wait for the one that copies the framework."""
    results: list[object] = []

    def run(folder: Path) -> None:
        results.append(replace(remote, folder=folder).run("import only_here", framework=framework))

    folders = [remote.folder / str(number) for number in range(3)]
    threads = [threading.Thread(target=run, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [{"samples": {"train": 1}}] * 3
    told = [message.text for message in heard.messages if isinstance(message, Log)]
    assert len([text for text in told if text.startswith("copied the framework")]) == 1


FILLER = """
import sys, time
from pathlib import Path
from pipcook_provider.launchers.docker import Engine
from pipcook_provider.launchers.docker.framework import FrameworkVolume
from pipcook_provider.settings import Settings

class Listener:
    def message(self, message):
        print("copying", flush=True)
        time.sleep(0.5)

def endless(sources, owner):
    while True:
        yield bytes(512)
        time.sleep(0.1)

import pipcook_provider.launchers.docker.framework as module
module.pack = endless
volume = FrameworkVolume(Engine.connect(Settings(docker_url=sys.argv[1])), Path(sys.argv[2]))
volume._copy(volume._helper(sys.argv[3]), Listener())
"""


def test_lost_process_keeps_nobody_waiting_for_a_framework(remote, heard, framework: Path) -> None:
    """When the process that copies a framework is killed, the next stage copies it."""
    command = [sys.executable, "-c", FILLER, remote.settings.docker_url, str(framework), remote.image]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as filler:
        assert filler.stdout
        assert filler.stdout.readline() == "copying\n"
        time.sleep(2)
        filler.kill()
    assert remote.run("import only_here", framework=framework) == {"samples": {"train": 1}}
    told = [message.text for message in heard.messages if isinstance(message, Log)]
    assert any(text.startswith("copied the framework") for text in told)


def test_failed_stage_brings_nothing_back(remote) -> None:
    """What a stage wrote that failed stays where it was, and goes with its container."""
    before = volumes(remote.engine)
    with pytest.raises(ScriptError, match="KeyError"):
        remote.run(f"{BODY}\n{{}}['x']")
    assert list((remote.folder / "run" / "cache").iterdir()) == []
    assert remote.containers() == []
    assert volumes(remote.engine) == before


@pytest.mark.parametrize("target", ["/etc/passwd", "../../.."])
def test_link_that_leaves_the_workspace_is_refused(remote, target: str) -> None:
    """A container cannot make the worker write, or read, outside of what the stage may write."""
    with pytest.raises(ScriptError, match="cannot be brought back from its container"):
        remote.run(f"import pathlib\npathlib.Path('cache', 'link').symlink_to({target!r})")
    assert remote.containers() == []


def test_what_is_only_read_stays_as_it_is_here(remote) -> None:
    """What a stage changes of what it may only read does not come back with what lies around it."""
    workspace = remote.folder / "run"
    (workspace / "cache" / "input").mkdir(parents=True)
    (workspace / "cache" / "input" / "data").write_text("true", encoding="utf-8")
    body = "import pathlib\npathlib.Path('cache/input/data').write_text('false')\npathlib.Path('cache/new').touch()"
    remote.run(body, reads=("scripts", "cache/input"), read_only=("scripts", "cache/input"))
    assert (workspace / "cache" / "input" / "data").read_text(encoding="utf-8") == "true"
    assert (workspace / "cache" / "new").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_disk_full_when_results_come_back(remote) -> None:
    """A worker without room for the results says so, naming the folder."""
    workspace = remote.folder / "run"
    (workspace / "cache").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", workspace / "cache"], check=True)
    try:
        with pytest.raises(WorkspaceError, match=r"cache was to be written .* No space left on device"):
            remote.run(BODY)
    finally:
        subprocess.run(["umount", workspace / "cache"], check=True)
    assert remote.containers() == []


def make_certificates(folder: Path) -> None:
    """Make an authority and the certificates of a server and a client."""
    folder.mkdir()

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=ca"
    )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1", encoding="utf-8")
    for name, certificate, key in (("server", "server.pem", "server-key.pem"), ("client", "cert.pem", "key.pem")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", certificate, *signed)


def test_engine_behind_tls(stages, settings, heard, tmp_path) -> None:
    """An engine that wants certificates gets those of the settings; without them it cannot be reached."""
    certificates = tmp_path / "certificates"
    make_certificates(certificates)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server-key.pem")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    forwarder = Forwarder(stages.engine.address.removeprefix("unix://"), context)
    try:
        url = f"tcp://127.0.0.1:{forwarder.port}"
        behind = replace(settings, docker_url=url, docker_cert_path=str(certificates))
        maker = stages.through(Engine.connect(behind), behind)
        assert maker.engine.address == f"https://127.0.0.1:{forwarder.port}"
        assert maker.run("import time; print('through TLS'); time.sleep(3)", launcher=maker.launcher(lease=1))
        assert "through TLS" in heard.lines
        with pytest.raises(EngineError, match="cannot be reached"):
            Engine.connect(replace(settings, docker_url=url))
        (certificates / "ca.pem").unlink()
        with pytest.raises(SettingsError, match=r"expected to hold ca.pem, cert.pem and key.pem"):
            Engine.connect(behind)
    finally:
        forwarder.close()


@pytest.mark.parametrize(("mounts", "local"), [("bind", True), ("volume", False), ("auto", False)])
def test_settings_say_how_files_travel(remote, mounts: str, local: bool) -> None:
    """With ``auto`` an engine in the network is sent copies; a setting wins."""
    chosen = choose_transfer(remote.engine, replace(remote.settings, docker_mounts=mounts))
    assert isinstance(chosen, Binds if local else Volumes)


def test_own_engine_sees_this_machines_files(engine) -> None:
    """The engine of this machine needs no copies, also where machine and engine are a container."""
    assert isinstance(choose_transfer(engine, Settings()), Binds)


@pytest.mark.parametrize("of", ["send", "fetch"])
def test_container_that_somebody_removes(remote, heard, monkeypatch, of: str) -> None:
    """A container that is gone is no stage that wrote nothing: its outputs are missed."""
    launcher = remote.launcher()
    launch = remote.launch(launcher, "pass")
    proceed = getattr(launcher._transfer, of)

    def remove_before(container: str, *arguments: object) -> None:
        remote.engine.client.remove_container(container, force=True, v=True)
        proceed(container, *arguments)

    monkeypatch.setattr(launcher._transfer, of, remove_before)
    with pytest.raises(EngineError, match="No such container"):
        launcher.run(launch, heard)


def test_file_that_cannot_be_read_is_no_fault_of_the_engine(remote, heard, monkeypatch) -> None:
    """A file that cannot be read is told as that."""
    launcher = remote.launcher()
    launch = remote.launch(launcher, "pass")
    monkeypatch.setattr(Path, "open", lambda path, *_: (_ for _ in ()).throw(PermissionError(13, "denied", str(path))))
    with pytest.raises(WorkspaceError, match=r"one of them cannot be read: .*denied: '.*/run/"):
        launcher.run(launch, heard)
    assert remote.containers() == []
