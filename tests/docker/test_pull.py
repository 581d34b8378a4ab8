"""Images pulled by the real engine from a real registry."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from docker_images import build_image, remove_image

from pipcook_provider.errors import ImageError
from pipcook_provider.launchers.docker.engine import Engine
from pipcook_provider.launchers.docker.images import ensure_image
from pipcook_provider.runtime.messages import Log, Progress
from pipcook_provider.settings import Settings
from tools.demo.standalone import free_port

#: The registry's user "ours" with the password "secret".
USERS = "ours:$2b$04$CGM7lgqs0IX.kWwnqCIDZ.osnJCDDGQPBCbnkXbP/XT1hk7JAhDEG\n"


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.connect(Settings())


@contextmanager
def running_registry(folder: Path, *, with_users: bool = False) -> Iterator[str]:
    """Run a registry on loopback, where engines need no TLS; yield its address."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.fail(
            "docker-registry was expected on PATH, as the registry to pull from, but is not there. Install Debian's "
            "package docker-registry."
        )
    address = f"127.0.0.1:{free_port(5000)}"
    configuration = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
    }
    if with_users:
        (folder / "users").write_text(USERS)
        configuration["auth"] = {"htpasswd": {"realm": "registry", "path": str(folder / "users")}}
    (folder / "registry.yml").write_text(json.dumps(configuration))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(folder / "registry.yml")], stdout=log, stderr=log)
    try:
        _wait_for(address, process, folder / "registry.log")
        yield address
    finally:
        process.terminate()
        process.wait()


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            requests.get(f"http://{address}/v2/", timeout=5)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"the registry at {address} does not answer; its log: {log.read_text()}")


@contextmanager
def pushed(engine: Engine, address: str) -> Iterator[str]:
    """Have an image of three layers in a registry, not on the engine, for as long as the block lasts."""
    reference = f"{address}/ours/stage-{secrets.token_hex(4)}:1"
    build_image(engine, reference, layers=3, size=5_000_000)
    try:
        told = list(engine.client.push(reference, stream=True, decode=True))
        assert not [step for step in told if "error" in step], told
        remove_image(engine, reference)
        yield reference
    finally:
        remove_image(engine, reference)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


def test_missing_image_is_pulled(engine: Engine, registry: str, heard) -> None:
    """An image that only the registry has is there afterwards; a person is told a few lines, not each step."""
    with pushed(engine, registry) as reference:
        info = ensure_image(engine, reference, heard)
        first, *tenths, last = heard.messages
        assert first == Log("info", f"pulling image {reference}")
        assert last.text.startswith(f"pulled image {reference}: 3 layers, 15.0 MB in ")
        assert 1 <= len(tenths) <= 10
        assert all(isinstance(told, Progress) for told in tenths)
        assert tenths[-1].value == 1
        assert info.id == engine.client.inspect_image(reference)["Id"]
        heard.messages.clear()
        assert ensure_image(engine, reference, heard) == info
        assert heard.messages == []


def test_forced_pull_gets_what_is_new(engine: Engine, registry: str, heard) -> None:
    """With force_pull a tag that moved in the registry moves on the engine too."""
    with pushed(engine, registry) as reference:
        old = ensure_image(engine, reference, heard)
        build_image(engine, reference)
        list(engine.client.push(reference, stream=True, decode=True))
        new = engine.client.inspect_image(reference)["Id"]
        engine.client.tag(old.id, reference)
        assert ensure_image(engine, reference, heard).id == old.id
        assert ensure_image(engine, reference, heard, force_pull=True).id == new
        remove_image(engine, old.id)


@pytest.mark.parametrize("name", ["ours/nothing:1", "ours/stage:none"])
def test_image_that_the_registry_lacks(engine: Engine, registry: str, heard, name: str) -> None:
    """A repository or tag that is not there is an error that trying again does not mend."""
    with pytest.raises(ImageError, match=rf"The image {registry}/{name} .* not found.*Correct the name") as caught:
        ensure_image(engine, f"{registry}/{name}", heard)
    assert not caught.value.retryable


def test_registry_that_is_down(engine: Engine, tmp_path, heard) -> None:
    """A registry that is away fails a pull so that it can be tried again, and leaves an image that is there in use."""
    with running_registry(tmp_path) as address, pushed(engine, address) as reference:
        info = ensure_image(engine, reference, heard)
        heard.messages.clear()
        kept = f"{address}/ours/kept:1"
        engine.client.tag(reference, kept)
    try:
        with pytest.raises(ImageError, match="registry could not be reached: try again") as caught:
            ensure_image(engine, reference, heard)
        assert caught.value.retryable
        assert ensure_image(engine, kept, heard, force_pull=True).id == info.id
        assert [message.level for message in heard.messages if isinstance(message, Log)][-1] == "warning"
    finally:
        remove_image(engine, kept)


def test_registry_that_wants_a_login(tmp_path, heard) -> None:
    """Without a login the error says where to give one; a client that is logged in, as Airflow's is, pulls."""
    stranger, known = Engine.connect(Settings()), Engine.connect(Settings())
    with running_registry(tmp_path, with_users=True) as address:
        known.client.login("ours", "secret", registry=address)
        with pushed(known, address) as reference:
            with pytest.raises(ImageError, match=r"docker login.*docker_conn_id") as caught:
                ensure_image(stranger, reference, heard)
            assert not caught.value.retryable
            assert ensure_image(known, reference, heard).reference == reference
