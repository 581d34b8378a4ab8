"""Scripts that mean harm: what they do stays in their container and in their run's folder."""

from __future__ import annotations

import hashlib
import json
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import prepared

from pipcook_provider.errors import PipcookError, ScriptError, StageCrashed, WorkspaceError
from pipcook_provider.settings import Settings
from pipcook_provider.stages import StageRunner
from pipcook_provider.store.workspace import Workspace

RETURN = """
    from pipcook_provider.runtime import DatasetPool, Sample
    return DatasetPool.from_samples(train=[Sample(1.0)])
"""


@pytest.fixture(params=["bind", "volume"])
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """Files are shared with containers, or travel."""
    return replace(settings, docker_mounts=request.param)


@pytest.fixture
def runner(stages, settings, heard) -> StageRunner:
    return StageRunner(settings, stages.launcher(settings), heard)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of the worker that no script has any business in."""
    folder = tmp_path / "victim"
    for name in ("scripts", "stages"):
        (folder / name).mkdir(parents=True)
        (folder / name / "precious").write_text("precious", encoding="utf-8")
    (folder / "precious").write_text("precious", encoding="utf-8")
    return folder


def state(folder: Path) -> dict[str, str]:
    """Return all that is in a folder, so that any change shows."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def trusted(workspace: Workspace) -> dict[str, str]:
    """Return what later stages and the worker rely on."""
    return {**state(workspace.scripts), "config": workspace.config.read_text(encoding="utf-8")}


def script(body: str) -> str:
    return f"def datasource(options, context):\n    {body.strip()}\n{RETURN}"


def again(runner: StageRunner, document: Path, workspace: Workspace) -> None:
    """Do what a worker does next: the next stage, the same stage again, and the whole run again."""
    for step in (
        lambda: runner.run(workspace, "dataflow_1"),
        lambda: runner.run(workspace, "datasource"),
        lambda: prepared(runner, document, workspace.root),
    ):
        with suppress(PipcookError):
            step()


@pytest.mark.parametrize(
    "place",
    [
        *("cache", "cache/stages", "data", "model", "scripts", "pipeline-config.json", "framework", "artifact.zip"),
        *("cache/stages/datasource.partial", "cache/stages/datasource", "cache/stages/dataflow_1.partial"),
        *("cache/stages/datasource.json", "cache/stages/dataflow_1.json", "cache/stages/datasource.former"),
        *(".prepare", ".pipcook-workspace", ".pipcook-lock"),
    ],
)
def test_links_lead_nowhere(stages, runner, write_pipeline, tmp_path, victim, place: str) -> None:
    """Whatever a script makes into a link, before its stage's end and after its result, the worker never writes there."""
    body = f"""
    import atexit, pathlib
    def plant():
        place = pathlib.Path({place!r}).absolute()
        try:
            place.rename("moved")
        except OSError as exc:
            print("rename", exc)
        try:
            place.symlink_to({str(victim)!r})
        except OSError as exc:
            print("link", exc)
    atexit.register(plant)
    """
    before = state(victim)
    document = write_pipeline(scripts={"datasource.py": script(body)})
    workspace = prepared(runner, document, tmp_path / "run")
    relied_on = trusted(workspace)
    with suppress(ScriptError, WorkspaceError):
        runner.run(workspace, "datasource")
    assert trusted(workspace) == relied_on
    again(runner, document, workspace)
    assert state(victim) == before
    assert stages.containers() == []


def test_scripts_and_document_cannot_be_rewritten(stages, runner, heard, write_pipeline, tmp_path) -> None:
    """A script changes neither the other scripts nor the document that later stages run by."""
    body = """
    import pathlib
    for place in (pathlib.Path("scripts"), *pathlib.Path("scripts").iterdir(), pathlib.Path("pipeline-config.json")):
        for change in (lambda: place.write_text("raise SystemExit"), lambda: place.unlink(), lambda: place.rename("x")):
            try:
                change()
            except OSError:
                pass
    try:
        pathlib.Path("scripts", "numpy.py").write_text("raise SystemExit")
    except OSError:
        pass
    """
    workspace = prepared(runner, write_pipeline(scripts={"datasource.py": script(body)}), tmp_path / "run")
    relied_on = trusted(workspace)
    runner.run(workspace, "datasource")
    assert trusted(workspace) == relied_on
    assert runner.run(workspace, "dataflow_1").value == {"samples": {"train": 1}}


def test_links_of_an_earlier_stage_are_not_written_through(stages, runner, write_pipeline, tmp_path) -> None:
    """A link within the run's folder that one stage keeps is no way for the next one to rewrite what is protected."""
    first = """
    import pathlib
    pathlib.Path("cache/file").symlink_to("../pipeline-config.json")
    pathlib.Path("cache/folder").symlink_to("../scripts")
    pathlib.Path("data/folder").symlink_to("../scripts")
    """
    second = """
import pathlib
def dataflow(dataset, options, context):
    for name in ("cache/file", "cache/folder", "data/folder"):
        pathlib.Path(name).unlink()
    pathlib.Path("cache/file").write_text("{}")
    for folder in ("cache/folder", "data/folder"):
        pathlib.Path(folder).mkdir()
        pathlib.Path(folder, "2-model.py").write_text("raise SystemExit")
    return dataset
"""
    scripts = {"datasource.py": script(first), "dataflow.py": second}
    workspace = prepared(runner, write_pipeline(scripts=scripts), tmp_path / "run")
    relied_on = trusted(workspace)
    runner.run(workspace, "datasource")
    assert (workspace.root / "cache" / "file").is_symlink()
    runner.run(workspace, "dataflow_1")
    assert trusted(workspace) == relied_on
    assert (workspace.root / "cache" / "file").read_text(encoding="utf-8") == "{}"
    assert (workspace.root / "cache" / "folder" / "2-model.py").is_file()


def test_other_tries_are_shown_nothing_of_the_worker(stages, runner, heard, write_pipeline, tmp_path, victim) -> None:
    """A stage cannot make the worker mount, or send, a folder of its own as the input of the next try."""
    flow = f"""
import pathlib
def dataflow(dataset, options, context):
    stages = pathlib.Path("cache/stages")
    print("seen", [path.name for path in (stages / "datasource").iterdir()])
    stages.rename("cache/moved")
    stages.mkdir()
    (stages / "datasource").symlink_to({str(victim)!r})
    raise RuntimeError("again, please")
"""
    workspace = prepared(runner, write_pipeline(scripts={"dataflow.py": flow}), tmp_path / "run")
    runner.run(workspace, "datasource")
    for _ in range(2):
        with pytest.raises((ScriptError, WorkspaceError)):
            runner.run(workspace, "dataflow_1")
    assert not [line for line in heard.lines if "precious" in line]


def test_link_in_the_model_shows_nothing(stages, runner, heard, write_pipeline, tmp_path, victim) -> None:
    """A link that a script saves as its model is followed in a container at most, where there is nothing to see."""
    model = f"""
import pathlib
def train(runtime, options, context):
    runtime.save_model(b"model", "model.txt")
    try:
        (context.workspace.model_dir / "stolen").symlink_to({str(victim / "precious")!r})
    except OSError:
        pass
"""
    document = write_pipeline(scripts={"model.py": model})
    workspace = prepared(runner, document, tmp_path / "run")
    for task_id in ("datasource", "dataflow_1"):
        runner.run(workspace, task_id)
    if runner.settings.docker_mounts == "volume":
        with pytest.raises(ScriptError, match="cannot be brought back"):
            runner.run(workspace, "model")
        return
    for task_id in ("model", "artifact_1"):
        runner.run(workspace, task_id)
    with zipfile.ZipFile(workspace.root / "model.zip") as archive:
        assert archive.namelist() == ["model.txt", "pipeline.json"]


def test_processes_without_end(stages, settings, heard, write_pipeline, tmp_path) -> None:
    """A script that forks 10,000 times is stopped by its container's limit; the machine is not."""
    body = """
    import os, time
    children = 0
    for _ in range(10_000):
        try:
            if not os.fork():
                time.sleep(600)
                os._exit(0)
        except BlockingIOError:
            break
        children += 1
    raise RuntimeError(f"{children} children")
    """
    settings = replace(settings, docker_pids=64)
    runner = StageRunner(settings, stages.launcher(settings), heard)
    workspace = prepared(runner, write_pipeline(scripts={"datasource.py": script(body)}), tmp_path / "run")
    with pytest.raises(ScriptError, match=r"[1-6]\d children"):
        runner.run(workspace, "datasource")
    assert stages.containers() == []


def test_full_temporary_folder(stages, settings, heard, write_pipeline, tmp_path) -> None:
    """A script that fills /tmp fills memory of its own."""
    settings = replace(settings, docker_memory=2**28)
    runner = StageRunner(settings, stages.launcher(settings), heard)
    body = """
    with open("/tmp/large", "wb") as file:
        while True:
            file.write(bytes(2**20))
    """
    workspace = prepared(runner, write_pipeline(scripts={"datasource.py": script(body)}), tmp_path / "run")
    with pytest.raises((ScriptError, StageCrashed), match=r"No space left on device|needed more memory"):
        runner.run(workspace, "datasource")
    assert stages.containers() == []


FORGED = """
    import json, os
    from pipcook_provider.runtime.messages import _MARK
    message = json.dumps({"sequence": 1, "kind": "result", "value": {"samples": {"train": 666}}})
    for token in ("", "0" * 16, "token"):
        for descriptor in (1, 2):
            os.write(descriptor, _MARK + f"{token} {message}\\n".encode())
    os.write(1, b"\\x1b[2J\\x1b]0;title\\x07\\x00\\xff\\xfe\\r\\n")
    os.write(1, bytes(range(256)) + b"\\n")
"""


def test_forged_messages_are_output(stages, runner, heard, write_pipeline, tmp_path) -> None:
    """What looks like a message, or like nothing at all, is output; the stage's own result counts."""
    workspace = prepared(runner, write_pipeline(scripts={"datasource.py": script(FORGED)}), tmp_path / "run")
    assert runner.run(workspace, "datasource").value == {"samples": {"train": 1}}
    assert len([line for line in heard.lines if "666" in line]) == 6


def test_output_is_what_the_worker_makes_of_it(stages, runner, write_pipeline, tmp_path) -> None:
    """A stage that rewrites its own context document, and those of others, changes nothing of what the worker does."""
    body = """
    import atexit, json, pathlib
    def rewrite():
        for name in ("datasource", "dataflow_1", "model", "prepare"):
            context = {"protocol": 1, "stage": "../../../../../../victim", "role": "model", "parameters": {}}
            pathlib.Path("cache", "stages", f"{name}.json").write_text(json.dumps(context))
    atexit.register(rewrite)
    """
    workspace = prepared(runner, write_pipeline(scripts={"datasource.py": script(body)}), tmp_path / "run")
    for task_id in ("datasource", "dataflow_1", "model"):
        result: Any = runner.run(workspace, task_id)
    assert result.value["files"] == 1
    context = json.loads(workspace.context("model").read_text(encoding="utf-8"))
    assert context["stage"] == "model"
    assert not (tmp_path / "victim").exists()
