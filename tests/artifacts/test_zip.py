"""The zip processor."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from pipcook_provider.artifacts.zip import ZipArtifact
from pipcook_provider.errors import ArtifactError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "assets").mkdir(parents=True)
    (folder / "model.keras").write_bytes(os.urandom(1000))
    (folder / "assets" / "labels.txt").write_text("label\n" * 1000, encoding="utf-8")
    return folder


def test_zip_holds_the_contents_without_a_top_folder(model: Path, tmp_path: Path) -> None:
    """Paths in the zip are relative to the model's folder; missing folders of the target are made."""
    target = ZipArtifact().build(model, {"processor": "x", "target": str(tmp_path / "new" / "model.zip")})
    with zipfile.ZipFile(target) as archive:
        assert archive.namelist() == ["assets/labels.txt", "model.keras"]
        assert archive.read("model.keras") == (model / "model.keras").read_bytes()
        assert archive.getinfo("assets/labels.txt").compress_size < 1000


def test_failed_build_leaves_the_former_zip(model: Path, tmp_path: Path) -> None:
    """A build that fails half-way changes nothing, and leaves nothing behind."""
    target = tmp_path / "out" / "model.zip"
    target.parent.mkdir()
    target.write_bytes(b"former")
    (model / "zz").symlink_to("/proc/self/mem")
    with pytest.raises(OSError, match=r"Input/output error"):
        ZipArtifact().build(model, {"processor": "x", "target": str(target)})
    assert target.read_bytes() == b"former"
    assert [path.name for path in target.parent.iterdir()] == ["model.zip"]


@pytest.mark.parametrize(
    "target",
    [
        None,
        3,
        "",
        "  ",
        ".",
        "model/a/b.zip",
        "./pipeline-config.json",
        "cache",
        ".pipcook-lock",
        "framework/a.zip",
        "a/../model/b.zip",
    ],
)
def test_useless_target_is_refused_before_training(target: object) -> None:
    """initialize says what is wrong with the target."""
    with pytest.raises(ArtifactError, match="target"):
        ZipArtifact().initialize({"processor": "x", "target": target})
