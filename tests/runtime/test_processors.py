"""Artifact processors of installed packages."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from pipcook_provider.errors import ArtifactError
from pipcook_provider.runtime.processors import processor_files


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


def install(site: Path, module: str, files: Iterable[str]) -> None:
    """Install a distribution with a processor ``up``, of which no module can be imported."""
    info = site / "acme_up-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-up\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pipcook.artifacts]\nup = {module}:Up\n")
    for file in files:
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text("raise AssertionError")


PACKAGE = ["acme2/__init__.py", "acme2/artifacts/__init__.py", "acme2/artifacts/up.py", "acme2/work.py"]
SPACE = ["acme2/other/far.py", "acme2/up/__init__.py", "acme2/up/main.py", "acme2/up/inner/work.py", "acme2/one.py"]


@pytest.mark.parametrize(
    ("module", "installed", "expected"),
    [
        ("acme2.artifacts.up", PACKAGE, ["__init__.py", "artifacts/__init__.py", "artifacts/up.py", "work.py"]),
        ("acme2.up.main", SPACE, ["__init__.py", "inner/work.py", "main.py"]),
        ("acme2.up", SPACE, ["__init__.py", "inner/work.py", "main.py"]),
        ("acme2.one", SPACE, ["one.py"]),
        ("acme2", ["acme2.py", "acme3.py"], ["acme2.py"]),
    ],
)
def test_files(site: Path, module: str, installed: list[str], expected: list[str]) -> None:
    """All files of the outermost regular package are named, relative to it and in order, and none is imported."""
    install(site, module, installed)
    package, files = processor_files("up@1")
    assert (package, list(files)) == ("acme-up", expected)
    assert all(
        path.is_file() and path.is_relative_to(site) and path.as_posix().endswith(f"/{name}")
        for name, path in files.items()
    )
    assert "acme2" not in sys.modules


def test_space_in_two_places(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace package's part may lie in any of its folders."""
    install(site, "acme2.up.main", ["acme2/up/__init__.py", "acme2/up/main.py"])
    monkeypatch.syspath_prepend(tmp_path / "first")
    (tmp_path / "first" / "acme2" / "other").mkdir(parents=True)
    assert list(processor_files("up")[1]) == ["__init__.py", "main.py"]


@pytest.mark.parametrize(("module", "installed"), [("acme2.up", []), ("acme2.gone.up", SPACE)])
def test_damaged(site: Path, module: str, installed: list[str]) -> None:
    """An entry point without its module is told as a damaged installation."""
    install(site, module, installed)
    with pytest.raises(ArtifactError, match=f"'{module}', but there is no such module here.*acme-up is damaged"):
        processor_files("up")


def test_own_files() -> None:
    """Of this package the module's folder counts: its version is the installation's choice."""
    package, files = processor_files("pipcook-artifact-zip@0.0.2")
    assert "pipcook" in package
    assert list(files) == sorted(files)
    assert "zip.py" in files
    assert {path.parent.name for path in files.values()} == {"artifacts"}
