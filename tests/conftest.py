"""What all tests share: folders of their own, a pipeline on disk, and one real TensorFlow framework a session."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipcook_provider.frameworks import ensure_framework
from pipcook_provider.launchers.process import ProcessLauncher
from pipcook_provider.runtime.messages import Message
from pipcook_provider.settings import Settings
from pipcook_provider.stages import StageRunner


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.lines: list[str] = []

    def message(self, message: Message) -> None:
        self.messages.append(message)

    def output(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIPCOOK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIPCOOK_WORKSPACE_ROOT", str(tmp_path / "workspace"))
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", workspace_root=tmp_path / "workspace", stop_timeout=1.0)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def runner(settings: Settings, heard: Heard) -> StageRunner:
    return StageRunner(settings, ProcessLauncher(settings), heard)


DATASOURCE = """
from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    count = int(options.get("count", "10"))
    return DatasetPool.from_samples(train=[Sample(float(number), number % 2) for number in range(count)])
"""

DATAFLOW = """
from pipcook_provider.runtime import Sample

def dataflow(dataset, options, context):
    return dataset.transform(lambda sample: Sample(sample.data * 2, sample.label))
"""

MODEL = """
def train(runtime, options, context):
    total = sum(sample.data for sample in runtime.dataset.train)
    for epoch in range(int(options.get("epochs", 1))):
        runtime.notify_progress((epoch + 1) / int(options.get("epochs", 1)), epoch=epoch)
        runtime.log_metric("loss", 1 / (epoch + 1), epoch)
    runtime.save_model(str(total).encode(), "model.txt")
"""

WritePipeline = Callable[..., Path]


@pytest.fixture
def write_pipeline(tmp_path: Path) -> WritePipeline:
    """Write a pipeline with small scripts of its own; keyword arguments replace parts of the document or scripts."""

    def write(
        *,
        folder: str = "pipelines",
        name: str = "pipeline.json",
        scripts: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> Path:
        directory = tmp_path / folder
        directory.mkdir(exist_ok=True)
        texts = {"datasource.py": DATASOURCE, "dataflow.py": DATAFLOW, "model.py": MODEL, **(scripts or {})}
        for script, text in texts.items():
            (directory / script).write_text(text, encoding="utf-8")
        document = {
            "specVersion": "2.0",
            "datasource": "datasource.py?count=10",
            "dataflow": ["dataflow.py"],
            "model": "model.py",
            "artifact": [{"processor": "pipcook-artifact-zip@0.0.2", "target": "model.zip"}],
            "options": {"train": {"epochs": 2}},
            **changes,
        }
        path = directory / name
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def framework_home(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The home of the real framework, which all of pytest's workers share, so that it is built once."""
    base = tmp_path_factory.getbasetemp()
    return (base if worker_id == "master" else base.parent) / "framework-home"


@pytest.fixture(scope="session")
def tensorflow_framework(framework_home: Path) -> Path:
    """A real ``tensorflow@2.21``, built from the package registry."""
    return ensure_framework("tensorflow@2.21", Settings(home=framework_home)).path
