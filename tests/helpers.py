"""Steps that many tests begin with."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

from pipcook_provider.spec import PipelineSpec, load_pipeline_spec
from pipcook_provider.stages import StageRunner
from pipcook_provider.store.workspace import Workspace


def prepared(
    runner: StageRunner, document: Path | PipelineSpec, folder: Path, train: Mapping[str, Any] | None = None
) -> Workspace:
    """Prepare a run of a document in a folder and return its workspace."""
    spec = load_pipeline_spec(document) if isinstance(document, Path) else document
    workspace = Workspace.create(folder)
    runner.prepare(spec, workspace, train)
    return workspace


def zipped(name: str = "toy", version: str = "1.2.3", **more: object) -> bytes:
    """Return a framework's zip with one module in it; the same bytes whenever it is asked for."""
    files = {
        "framework.json": json.dumps({"name": name, "version": version, "packages": [], **more}),
        "index.py": "def initialize(options): ...\n",
        "site-packages/toy.py": f"version = {version!r}\n",
    }
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as bundle:
        for path, text in files.items():
            entry = ZipInfo(path)  # of 1980; what is given by its name gets the time
            entry.external_attr = 0o600 << 16
            bundle.writestr(entry, text)
    return buffer.getvalue()


def write_toy(folder: Path, version: str = "1.2.3") -> str:
    """Write the zip of a framework and return its path."""
    path = folder / f"toy-{version}.zip"
    path.write_bytes(zipped(version=version))
    return str(path)


def wait_until(condition: Callable[[], object], seconds: float = 30) -> bool:
    """Wait until something holds; return whether it does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False
