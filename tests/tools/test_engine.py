"""Finding an engine and asking it for images, as far as that needs no engine; tests/docker has the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from pipcook_provider import __version__
from tools.engine.client import Client
from tools.engine.daemon import Daemon, ensure_engine, install_missing, need_engine
from tools.engine.images import STAND_IN, Image, build, ensure_base
from tools.errors import ToolError


def write_program(folder: Path, body: str) -> Path:
    """Write a ``docker`` that runs some Python; return its folder."""
    folder.mkdir(exist_ok=True)
    program = folder / "docker"
    text = f"#!{sys.executable}\nimport json, os, pathlib, sys\narguments = sys.argv[1:]\n{textwrap.dedent(body)}"
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    return folder


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a ``docker`` on PATH that writes down how it is asked to build; return the file."""
    body = """
        if arguments[0] == "run":
            print("3.12")
        elif arguments[0] == "build" and "--help" not in arguments:
            secrets = [a.split("src=")[1] for a in arguments if a.startswith("--secret=")]
            told = {"arguments": arguments, "secrets": [pathlib.Path(s).read_text() for s in secrets]}
            pathlib.Path(__file__).with_name("told.json").write_text(json.dumps(told))
    """
    monkeypatch.setenv("PATH", str(write_program(tmp_path / "bin", body)), prepend=os.pathsep)
    return tmp_path / "bin" / "told.json"


def test_the_client_is_the_first_that_builds(tmp_path: Path) -> None:
    """A `docker` that comes first on PATH, and lacks what builds, is passed over."""
    lacking = write_program(tmp_path / "lacking", "sys.exit('ERROR: the buildx component is missing')")
    able = write_program(tmp_path / "able", "sys.exit(os.environ['DOCKER_BUILDKIT'] != '1')")
    found = Client.find({"PATH": f"{tmp_path}:{lacking}:{able}"})
    assert found is not None
    assert found.program == str(able / "docker")


def test_a_missing_client_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing builds, the error says what to install, and how to have that done."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"Install Docker Engine .* -m tools\.engine start"):
        need_engine()


def test_a_silent_engine_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no engine answers, the error says where it was expected."""
    monkeypatch.setenv("PATH", str(write_program(tmp_path, "sys.exit(arguments[0] == 'version')")))
    monkeypatch.setenv("DOCKER_HOST", "tcp://engine.example:2376")
    with pytest.raises(ToolError, match=r"engine at tcp://engine\.example:2376, but none answers"):
        need_engine()


def test_no_engine_is_started_in_the_place_of_one_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With DOCKER_HOST set, nothing is installed or started: it would not be the engine that was meant."""
    monkeypatch.setenv("PATH", str(write_program(tmp_path, "sys.exit(arguments[0] == 'version')")))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(ToolError, match="DOCKER_HOST names an engine, and it does not answer"):
        ensure_engine(Daemon(tmp_path / "daemon"))
    assert not (tmp_path / "daemon").exists()


def test_only_root_starts_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else is told to have one installed."""
    monkeypatch.setenv("PATH", str(write_program(tmp_path, "sys.exit(arguments[0] == 'version')")))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ToolError, match="only root on Linux can start one"):
        ensure_engine(Daemon(tmp_path / "daemon"))
    with pytest.raises(ToolError, match=r"Expected docker\.io, .* to be installed"):
        install_missing("dockerd", "debootstrap")


def test_an_engine_that_is_there_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was not started for this, and stop leaves it alone."""
    monkeypatch.setenv("PATH", str(write_program(tmp_path, "print('27.1.1')")))
    daemon = Daemon(tmp_path / "daemon")
    client, started = ensure_engine(daemon)
    assert (client.engine(), started) == ("27.1.1", False)
    assert daemon.stop() is False


def test_stop_ends_the_noted_process_only(tmp_path: Path) -> None:
    """A process that got the number of the engine after its end is none of ours; the noted one ends."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        began = psutil.Process(process.pid).create_time()
        note = tmp_path / "process.json"
        note.write_text(json.dumps({"pid": process.pid, "began": began - 60}), encoding="utf-8")
        assert Daemon(tmp_path).stop() is False
        assert process.poll() is None
        note.write_text(json.dumps({"pid": process.pid, "began": began}), encoding="utf-8")
        assert Daemon(tmp_path).stop() is True
        assert not psutil.pid_exists(process.pid) or process.wait() != 0
    finally:
        process.kill()
        process.wait()
    assert Daemon(tmp_path).stop() is False


def test_a_base_image_that_was_named_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that cannot be pulled is an error with the engine's words; the stand-in takes the default's place only."""
    body = f"""
        if arguments[0] == "pull":
            sys.exit("manifest unknown")
        sys.exit(arguments[0] == "image" and arguments[2] != {STAND_IN!r})
    """
    monkeypatch.setenv("PATH", str(write_program(tmp_path, body)))
    client = Client.find()
    assert client is not None
    with pytest.raises(ToolError, match=r"(?s)registry\.example/python:3\.11.*manifest unknown.*BASE_IMAGE="):
        ensure_base(client, "registry.example/python:3.11")
    assert ensure_base(client) == STAND_IN


@pytest.mark.parametrize(
    ("framework", "expected"),
    [("", f"pipcook-stage:{__version__}-cuda"), ("six@1.17.0", f"pipcook-stage:{__version__}-cuda-six-1.17.0")],
)
def test_a_tag_says_version_variant_and_framework(framework: str, expected: str) -> None:
    """An image with a framework does not take the place of the one that all stages run in."""
    assert Image("cuda", "base", framework).tag == expected


def test_a_build_gets_what_it_asks_for(recording: Path) -> None:
    """The Dockerfile's arguments state versions and base; the Python is asked of the base image."""
    client = Client.find()
    assert client is not None
    build(client, Image("cuda", "python:3.12", "six@1.17.0"))
    told = json.loads(recording.read_text())["arguments"]
    assert {
        f"--build-arg={argument}" for argument in ("PYTHON=3.12", "BASE_IMAGE=python:3.12", "FRAMEWORK=six@1.17.0")
    } <= {*told}
    assert f"--build-arg=VERSION={__version__}" in told
    assert "--target=cuda" in told


def test_a_build_keeps_passwords_off_the_command_line(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Index and certificates of this machine travel as secrets, a proxy by its variable's name."""
    certificates = tmp_path / "ca.pem"
    certificates.write_text("CERTIFICATE", encoding="utf-8")
    monkeypatch.setenv("PIP_CERT", str(certificates))
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:hidden@index.example/simple")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hidden@proxy.example")
    client = Client.find()
    assert client is not None
    build(client, Image("cpu", "python:3.11"))
    told = json.loads(recording.read_text())
    assert told["secrets"][0] == "CERTIFICATE"
    assert "index-url = https://user:hidden@index.example/simple" in told["secrets"][1]
    assert "--build-arg=HTTPS_PROXY" in told["arguments"]
    assert "hidden" not in " ".join(told["arguments"])
