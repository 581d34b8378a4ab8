from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipcook_provider.errors import FrameworkError
from pipcook_provider.frameworks.platform import Node, Platform

PYTHON = Platform("linux", "x64", "py311")
NODE = Platform("linux", "x64", "py311", Node(20, 9))


def test_key() -> None:
    """A platform is told by its Python, and where JavaScript is used by its Node.js as well."""
    assert PYTHON.key == "py311-linux-x64"
    assert NODE.key == "node20-py311-linux-x64-v9"


def test_mirror_paths() -> None:
    """Files of mirrors are spelled as Pipcook spells them; its own have another Python in the folder's name."""
    assert PYTHON.mirror_paths("tensorflow", "2.21.0", "cpu") == ("py311/tensorflow%402.21.0-linux-x64.zip",)
    assert PYTHON.mirror_paths("torch", "2.9.1+cpu", "gpu") == ("py311/torch%402.9.1%2Bcpu-linux-x64-gpu.zip",)
    assert NODE.mirror_paths("tfjs", "3.8", None) == (
        "node20-py311/tfjs%403.8-linux-x64-v9.zip",
        "node20-py37/tfjs%403.8-linux-x64-v9.zip",
    )


def test_cuda() -> None:
    """macOS has no CUDA."""
    assert PYTHON.has_cuda
    assert not Platform("darwin", "arm64", "py311").has_cuda


def test_current() -> None:
    """This machine is spelled as mirrors spell it; Node.js is asked about itself, once."""
    here = Platform.current().with_node()
    asked = subprocess.run(
        ["node", "-p", "process.version + ' ' + process.versions.napi + ' ' + process.arch + ' ' + process.platform"],
        capture_output=True,
        text=True,
        check=True,
    )
    version, napi, arch, system = asked.stdout.split()
    assert here.node is Node.current()
    assert here.node == Node(int(version[1:].partition(".")[0]), int(napi))
    assert (here.arch, here.os) == (arch, system)
    assert Platform.current().node is None


def test_broken_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is no Node.js is named, as is its absence."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FrameworkError, match="PATH leads to no program node"):
        Platform.current().with_node()
    program = tmp_path / "node"
    program.write_text("#!/bin/sh\necho no\n")
    program.chmod(0o755)
    with pytest.raises(FrameworkError, match=r"node was expected to be Node\.js and to tell its version"):
        Platform.current().with_node()
