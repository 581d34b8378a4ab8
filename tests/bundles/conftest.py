from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from http_server import impatient, server

from pipcook_provider.bundles import PipcookDagBundle

__all__ = ["impatient", "server"]

WriteDocument = Callable[..., Path]
MakeBundle = Callable[..., PipcookDagBundle]


@pytest.fixture(autouse=True)
def _impatient(impatient: None) -> None:
    pass


@pytest.fixture(autouse=True)
def _storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "storage"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The folder that users write into."""
    folder = tmp_path / "pipelines"
    folder.mkdir()
    return folder


@pytest.fixture
def write_document(source: Path) -> WriteDocument:
    """Write a small pipeline document; keyword arguments replace parts of it."""

    def write(name: str = "digits.json", *, modified: int | None = None, **changes: Any) -> Path:
        document = {"specVersion": "2.0", "datasource": "datasource.py", "model": "model.py", "artifact": [], **changes}
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")
        if modified is not None:
            os.utime(path, (modified, modified))
        return path

    return write


@pytest.fixture
def make_bundle(source: Path) -> MakeBundle:
    """Make a bundle over the folder, as each of Airflow's processes does for itself."""

    def make(**options: Any) -> PipcookDagBundle:
        if "bundle" not in options:
            options.setdefault("path", str(source))
        return PipcookDagBundle(**{"name": "pipelines", **options})

    return make
