"""Locked documents run what their lock names, or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import prepared, write_toy, zipped
from http_server import serving

from pipcook_provider.cli import main
from pipcook_provider.errors import IntegrityError, LockError
from pipcook_provider.frameworks.report import LogReport
from pipcook_provider.settings import Settings
from pipcook_provider.spec import parse_pipeline
from pipcook_provider.spec.folder import is_pipeline_file
from pipcook_provider.stages import StageRunner, lock_pipeline


@pytest.fixture
def locked(write_pipeline, tmp_path) -> Path:
    """A document with a module beside its model script, a framework and a lock."""
    document = write_pipeline(
        scripts={
            "model.py": "import layers\ndef train(runtime, options, context):\n    runtime.save_model(b'', 'm')\n",
            "layers.py": "depth = 3\n",
        },
        options={"framework": write_toy(tmp_path), "train": {}},
    )
    assert main(["lock", str(document)]) == 0
    return document


def lock_of(document: Path) -> Path:
    return document.with_name("pipeline.lock.json")


def test_lock_names_everything(locked) -> None:
    """The lock has the digests of scripts, modules, processor and framework, and is no pipeline itself."""
    lock = json.loads(lock_of(locked).read_text())
    assert sorted(lock["scripts"]) == ["dataflow.py", "datasource.py", "model.py"]
    assert [*lock["scripts"]["model.py"]["modules"]] == ["layers.py"]
    assert lock["processors"]["pipcook-artifact-zip@0.0.2"]["package"] == "pipcook-provider"
    [pin] = lock["framework"]["platforms"].values()
    assert len(pin["archive"]) == 64
    assert not is_pipeline_file(lock_of(locked))


def test_locked_run(locked, runner, tmp_path) -> None:
    """What is as the lock names it runs to its end; the model's own document says nothing of the lock."""
    workspace = prepared(runner, locked, tmp_path / "run")
    for task in ("datasource", "dataflow_1", "model", "artifact_1"):
        runner.run(workspace, task)
    assert "lockedFramework" in workspace.config.read_text()
    assert "lockedFramework" not in (workspace.model / "pipeline.json").read_text()


def edit_script(document: Path) -> None:
    (document.parent / "dataflow.py").write_text("def dataflow(dataset, options, context):\n    return dataset\n")


def edit_module(document: Path) -> None:
    (document.parent / "layers.py").write_text("depth = 4\n")


def rename_script(document: Path) -> None:
    (document.parent / "other.py").write_bytes((document.parent / "model.py").read_bytes())
    document.write_text(document.read_text().replace("model.py", "other.py"))


def add_processor(document: Path) -> None:
    document.write_text(document.read_text().replace("zip@0.0.2", "zip@0.0.3"))


def edit_processor(document: Path) -> None:
    lock = json.loads(lock_of(document).read_text())
    lock["processors"]["pipcook-artifact-zip@0.0.2"]["sha256"] = "0" * 64
    lock_of(document).write_text(json.dumps(lock))


def choose_framework(document: Path) -> None:
    path = write_toy(document.parent, "9.9.9")
    content = json.loads(document.read_text())
    content["options"]["framework"] = path
    document.write_text(json.dumps(content))


def move_platform(document: Path) -> None:
    lock = json.loads(lock_of(document).read_text())
    lock["framework"]["platforms"] = {"py27-amiga-m68k": {"archive": "0" * 64}}
    lock_of(document).write_text(json.dumps(lock))


def break_lock(document: Path) -> None:
    lock_of(document).write_text('{"lockVersion": 2}')


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (edit_script, r"the script dataflow\.py .* its SHA-256 digest is [0-9a-f]{64}, not"),
        (edit_module, r"the script model\.py .* the module layers\.py beside it has changed"),
        (rename_script, r"the script other\.py .* not among those"),
        (add_processor, r"processor pipcook-artifact-zip@0\.0\.3 .* not among those"),
        (edit_processor, r"processor pipcook-artifact-zip@0\.0\.2 .* its files have changed"),
        (choose_framework, r"the framework .*toy-9\.9\.9\.zip .* it names .*toy-1\.2\.3\.zip"),
        (move_platform, "it names it for py27-amiga-m68k only, and this is py3"),
        (break_lock, "expected lockVersion 1, found 2"),
    ],
)
def test_refused(locked, runner, tmp_path, change: Callable[[Path], None], told: str) -> None:
    """Whatever is not as the lock names it is refused before anything runs, with what to do."""
    change(locked)
    with pytest.raises(LockError, match=told) as caught:
        prepared(runner, locked, tmp_path / "run")
    assert "pipcook lock" in str(caught.value)
    assert not (tmp_path / "run/pipeline-config.json").exists()


def test_replaced_framework(locked, runner, tmp_path) -> None:
    """Another zip under the same name is refused."""
    (tmp_path / "toy-1.2.3.zip").write_bytes(zipped(more=1))
    with pytest.raises(IntegrityError, match="was expected to be the locked one"):
        prepared(runner, locked, tmp_path / "run")


def test_locking_again(locked, runner, tmp_path) -> None:
    """A lock that is written again takes what is there now, and keeps what it said of the framework elsewhere."""
    edit_script(locked)
    lock = json.loads(lock_of(locked).read_text())
    lock["framework"]["platforms"]["py27-amiga-m68k"] = {"archive": "0" * 64}
    lock_of(locked).write_text(json.dumps(lock))
    assert main(["lock", str(locked)]) == 0
    prepared(runner, locked, tmp_path / "run")
    assert "py27-amiga-m68k" in lock_of(locked).read_text()


def test_later_stage_is_held_too(locked, runner, heard, settings, tmp_path) -> None:
    """A stage that gets the framework anew, on another worker, say, is held to the lock as well."""
    workspace = prepared(runner, locked, tmp_path / "run")
    (tmp_path / "toy-1.2.3.zip").write_bytes(zipped(more=1))
    other = StageRunner(replace(settings, home=tmp_path / "other"), runner.launcher, heard)
    with pytest.raises(IntegrityError, match="locked"):
        other.run(workspace, "datasource")


def test_script_from_the_network(write_pipeline, runner, tmp_path) -> None:
    """A script of a URL is named by the URL; when its server changes it, it is refused."""
    with serving() as server:
        url = server.put("/model.py", b"def train(runtime, options, context): ...\n")
        document = write_pipeline(model=f"{url}?epochs=3")
        assert main(["lock", str(document)]) == 0
        assert url in json.loads(lock_of(document).read_text())["scripts"]
        prepared(runner, document, tmp_path / "a")
        server.put("/model.py", b"def train(runtime, options, context): evil()\n")
        with pytest.raises(LockError, match=r"model\.py"):
            prepared(runner, document, tmp_path / "b")


def test_document_from_the_network(settings: Settings) -> None:
    """Only a document on this machine has a place for a lock beside it."""
    text = '{"specVersion": "2.0", "datasource": "a.py", "model": "b.py"}'
    with pytest.raises(LockError, match="Save the document"):
        lock_pipeline(parse_pipeline(text, "https://example.com/p.json"), settings, LogReport())
