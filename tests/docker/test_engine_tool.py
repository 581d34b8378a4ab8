"""``python -m tools.engine``: an engine that is started for a while."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.engine.client import Client
from tools.engine.daemon import Daemon
from tools.errors import ToolError

pytestmark = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0 or not shutil.which("dockerd"), reason="only root starts an engine"
)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Return a client of the engine that the test starts."""
    found = Client.find({**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/docker.sock"})
    assert found is not None
    return found


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Return an engine that shares nothing with another one on this machine."""
    places = {"data-root": "data", "exec-root": "exec", "pidfile": "docker.pid"}
    daemon = Daemon(
        tmp_path / "engine",
        [
            # In a network namespace of its own: an engine without a bridge removes docker0, which may be another engine's.
            *("unshare", "--net", "dockerd"),
            *(f"--{option}={tmp_path / name}" for option, name in places.items()),
            f"--host=unix://{tmp_path}/docker.sock",
            "--bridge=none",
            "--iptables=false",
        ],
    )
    yield daemon
    daemon.stop()


def test_an_engine_starts_answers_and_ends(client: Client, daemon: Daemon) -> None:
    """It answers when start returns, and is found again to be ended by whoever looks at the same folder."""
    assert client.engine() is None
    daemon.start(client)
    assert client.engine() is not None
    assert Daemon(daemon.folder).stop() is True
    assert client.engine() is None
    assert daemon.stop() is False


def test_an_engine_that_ends_by_itself_is_told(client: Client, daemon: Daemon) -> None:
    """The error shows why, in the engine's own words."""
    with pytest.raises(ToolError, match=r"(?s)ended by itself.*unknown flag: --nonsense"):
        Daemon(daemon.folder, [*daemon.command, "--nonsense"]).start(client)
