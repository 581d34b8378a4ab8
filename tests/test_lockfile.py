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
from pipcook_provider.lockfile import Lock, describe_scripts
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
    assert "pinnedFramework" in workspace.config.read_text()
    assert "pinnedFramework" not in (workspace.model / "pipeline.json").read_text()


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
    with pytest.raises(IntegrityError, match="the one that the lock names"):
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
    with pytest.raises(IntegrityError, match="the one that the lock names"):
        other.run(workspace, "datasource")


def test_removed_framework(locked, runner, tmp_path) -> None:
    """A document that names no framework any more does not run with the worker's own packages."""
    content = json.loads(locked.read_text())
    del content["options"]["framework"]
    locked.write_text(json.dumps(content))
    with pytest.raises(LockError, match="the document names none"):
        prepared(runner, locked, tmp_path / "run")


def test_other_modules(locked, runner, tmp_path) -> None:
    """Variables that bring other modules into a stage are refused."""
    content = json.loads(locked.read_text())
    content["options"]["airflow"] = {"env": {"PYTHONPATH": "/tmp/evil"}}
    locked.write_text(json.dumps(content))
    with pytest.raises(LockError, match="PYTHONPATH"):
        prepared(runner, locked, tmp_path / "run")


def test_linked_document(locked, runner, tmp_path) -> None:
    """A document that is a link is held to the lock beside what it leads to; a lock that leads nowhere is an error."""
    (tmp_path / "links").mkdir()
    link = tmp_path / "links/pipeline.json"
    link.symlink_to(locked)
    edit_script(locked)
    for script in ("datasource.py", "dataflow.py", "model.py", "layers.py"):
        (tmp_path / "links" / script).symlink_to(locked.parent / script)
    with pytest.raises(LockError, match=r"dataflow\.py"):
        prepared(runner, link, tmp_path / "run")
    lock_of(link).symlink_to("none")
    with pytest.raises(LockError, match="cannot be read"):
        prepared(runner, link, tmp_path / "run")


def test_moved_checkout(locked, runner, tmp_path) -> None:
    """A lock holds wherever the document and what it names are moved to."""
    content = json.loads(locked.read_text())
    write_toy(locked.parent)
    content["options"]["framework"] = "./toy-1.2.3.zip"
    locked.write_text(json.dumps(content))
    assert main(["lock", str(locked)]) == 0
    moved = locked.parent.rename(tmp_path / "moved") / locked.name
    prepared(runner, moved, tmp_path / "run")


@pytest.mark.parametrize("change", ["byte-code", "link"])
def test_directory(write_pipeline, runner, tmp_path, change: str) -> None:
    """All that a framework's directory can bring in is locked, byte-code too; what leads out of it cannot be."""
    folder = tmp_path / "toy"
    (folder / "site-packages").mkdir(parents=True)
    (folder / "framework.json").write_text('{"name": "toy", "version": "1"}')
    (folder / "site-packages/toy.py").write_text("")
    document = write_pipeline(options={"framework": str(folder), "train": {}})
    assert main(["lock", str(document)]) == 0
    prepared(runner, document, tmp_path / "a")
    if change == "link":
        (tmp_path / "elsewhere").mkdir()
        (folder / "site-packages/more").symlink_to(tmp_path / "elsewhere")
    else:
        (folder / "site-packages/__pycache__").mkdir()
        (folder / "site-packages/__pycache__/toy.cpython-311.pyc").write_bytes(b"evil")
    with pytest.raises(IntegrityError, match="leads out of it" if change == "link" else "contents with SHA-256"):
        prepared(runner, document, tmp_path / "b")


def test_edited_cache(locked, runner, tmp_path) -> None:
    """A cached framework that was edited in place is repaired before a locked document runs with it."""
    workspace = prepared(runner, locked, tmp_path / "a")
    index = (workspace.root / "framework").resolve() / "index.py"
    index.write_text("evil = True\n")
    workspace = prepared(runner, locked, tmp_path / "b")
    assert "evil" not in ((workspace.root / "framework").resolve() / "index.py").read_text()


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


def test_scripts_that_differ_by_query() -> None:
    """A server may answer differently by query: then both answers are named."""
    url = "https://example.com/get.py"
    text = f'{{"specVersion": "2.0", "datasource": "{url}?f=ds", "dataflow": ["{url}?f=df"], "model": "{url}?f=ds"}}'
    spec = parse_pipeline(text, "/p.json")
    digests = [{"sha256": letter * 64, "modules": {}} for letter in "aba"]
    assert describe_scripts(spec, digests) == {url: digests[0], f"{url}?f=df": digests[1]}
    lock = Lock(describe_scripts(spec, digests), {}, None)
    lock.check_scripts(spec, digests)
    with pytest.raises(LockError, match=r"f=df"):
        lock.check_scripts(spec, [digests[0]] * 3)


def test_document_from_the_network(settings: Settings) -> None:
    """Only a document on this machine has a place for a lock beside it."""
    text = '{"specVersion": "2.0", "datasource": "a.py", "model": "b.py"}'
    with pytest.raises(LockError, match="Save the document"):
        lock_pipeline(parse_pipeline(text, "https://example.com/p.json"), settings, LogReport())
