"""``pipcook train`` with containers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipcook_provider.launchers.docker import Engine

COMMAND = [sys.executable, "-m", "pipcook_provider.cli", "train"]


@pytest.fixture
def train(write_pipeline, tmp_path, stage_image) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a process of its own, in the folder ``work``."""
    (tmp_path / "work").mkdir()
    images = json.dumps({"cpu": stage_image})

    def run(*arguments: str, runner: str = "docker", **document: object) -> subprocess.CompletedProcess[str]:
        path = write_pipeline(**document)
        return subprocess.run(
            [*COMMAND, str(path), "-o", str(tmp_path / "out"), "--runner", runner, *arguments],
            cwd=tmp_path / "work",
            env={**os.environ, "PIPCOOK_IMAGES": images},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def containers(engine: Engine, folder: Path) -> list[str]:
    """Return the containers that work in a folder: those of one run."""
    found = engine.client.containers(all=True, filters={"label": "io.pipcook.stage"})
    described = [engine.client.inspect_container(entry["Id"]) for entry in found]
    return [entry["Id"] for entry in described if entry["Config"]["WorkingDir"] == str(folder)]


def test_result_is_as_with_processes(train, engine, tmp_path) -> None:
    """A run in containers prints what a run in processes prints, and leaves the same, but no container."""
    told = train()
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == [
        "loss: 0.5",
        f"artifact: {tmp_path}/out/model.zip",
        f"model: {tmp_path}/out/model",
    ]
    assert re.search(r"^\[model\] finished in \d+\.\d s: loss 0\.5$", told.stderr, re.MULTILINE)
    names = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
    assert names == {"pipeline-config.json", "cache", "data", "model", "scripts", "model.zip"}
    assert (tmp_path / "out" / "model" / "model.txt").read_text(encoding="utf-8") == "90.0"
    with zipfile.ZipFile(tmp_path / "out" / "model.zip") as archive:
        assert sorted(archive.namelist()) == ["model.txt", "pipeline.json"]
    assert {path.lstat().st_uid for path in (tmp_path / "out").rglob("*")} == {os.getuid()}
    assert containers(engine, tmp_path / "out") == []


def test_result_as_json(train, tmp_path) -> None:
    """With --json, stdout is one JSON object, whatever scripts print; both runners tell the same."""
    model = """
def train(runtime, options, context):
    print("noise {")
    runtime.log_metric("accuracy", 0.75)
    runtime.save_model(b"model", "model.txt")
"""
    results = [
        json.loads(train("--json", runner=runner, scripts={"model.py": model}).stdout)
        for runner in ("docker", "process")
    ]
    for result in results:
        for stage in result["stages"]:
            assert stage.pop("seconds") >= 0
            stage["value"].pop("device", None)
    assert results[0] == results[1]
    assert results[0]["metrics"] == {"accuracy": 0.75}
    assert results[0]["stages"][-1]["value"]["built"] == str(tmp_path / "out" / "model.zip")


def test_artifact_outside_of_the_run(train, tmp_path) -> None:
    """A target anywhere on this machine gets its file, in folders that are made for it."""
    targets = [str(tmp_path / "new" / "folder" / "model.zip"), "../beside.zip", "inside/model.zip"]
    artifacts = [{"processor": "pipcook-artifact-zip@0.0.2", "target": target} for target in targets]
    told = train(artifact=artifacts)
    assert told.returncode == 0, told.stderr
    places = [
        tmp_path / "new" / "folder" / "model.zip",
        tmp_path / "beside.zip",
        tmp_path / "out" / "inside" / "model.zip",
    ]
    assert [line for line in told.stdout.splitlines() if line.startswith("artifact")] == [
        f"artifact: {p}" for p in places
    ]
    for place in places:
        assert zipfile.ZipFile(place).read("model.txt") == b"90.0"


LOOKING = """
import os, pathlib
from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    here = pathlib.Path(context.download(options["url"]))
    print("data", here.read_text().strip())
    print("hidden", [os.path.exists(options[name]) for name in ("other", "beside")])
    print("interfaces", sorted(os.listdir("/sys/class/net")))
    return DatasetPool.from_samples(train=[Sample(1.0)])
"""

LISTENING = """
import os

def train(runtime, options, context):
    print("interfaces of the model", os.listdir("/sys/class/net"))
    print("scripts", os.path.exists(options["beside"]))
    runtime.save_model(b"model", "model.txt")
"""


def test_what_stages_see(train, tmp_path) -> None:
    """Data that lies with the document is seen by the stage that names it, other files of the worker by none; of those
    there is a warning. The datasource has a network, the model none.
    """
    pipelines = tmp_path / "pipelines"
    pipelines.mkdir()
    (pipelines / "numbers.csv").write_text("1 2 3\n", encoding="utf-8")
    other = tmp_path / "other.csv"
    other.write_text("secret", encoding="utf-8")
    told = train(
        scripts={"datasource.py": LOOKING, "model.py": LISTENING},
        datasource=f"datasource.py?url=numbers.csv&other={other}&beside={pipelines}/unnamed",
        model=f"model.py?beside={pipelines}/numbers.csv.not",
        dataflow=[],
    )
    assert told.returncode == 0, told.stderr
    assert "data 1 2 3" in told.stderr
    assert "hidden [False, False]" in told.stderr
    assert "interfaces ['eth0', 'lo']" in told.stderr
    assert "interfaces of the model ['lo']" in told.stderr
    assert f"'{other}' names {other}, which lies neither in the document's folder" in told.stderr
    assert told.stderr.count("docker_data") == 1


def test_mistake_in_a_script(train, engine, tmp_path) -> None:
    """A script that fails is told with its file, its line and what stands there; the status is 1."""
    told = train(scripts={"model.py": "def train(runtime, options, context):\n    return undefined_name\n"})
    assert told.returncode == 1
    assert "model.py, line 2 (in the run: scripts/2-model.py):" in told.stderr
    assert "    return undefined_name\nNameError: name 'undefined_name' is not defined" in told.stderr
    assert "Traceback (most recent call last)" not in told.stderr.partition("pipcook:")[2]
    assert containers(engine, tmp_path / "out") == []


def test_scripts_cannot_speak_for_the_command(train, tmp_path) -> None:
    """Whatever a script prints is shown as its stage's output, line by line, and never on stdout."""
    model = """
import os
def train(runtime, options, context):
    print("artifact: /forged")
    os.write(1, b"abc\\rpipcook: forged\\n\\xff\\xfe forged\\n")
    os.write(2, b"[artifact_1] finished, forged\\n")
    runtime.save_model(b"model", "model.txt")
"""
    told = train(scripts={"model.py": model})
    assert told.returncode == 0, told.stderr
    forged = [line for line in told.stderr.splitlines() if "forged" in line]
    assert len(forged) == 4
    assert all(line.startswith("[model] ") for line in forged)
    assert told.stdout.splitlines() == [f"artifact: {tmp_path}/out/model.zip", f"model: {tmp_path}/out/model"]


STUBBORN = """
import pathlib, signal, time
def train(runtime, options, context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    (context.workspace.cache_dir / "up").touch()
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_no_container(engine, write_pipeline, tmp_path, stage_image, number) -> None:
    """Ctrl-C and SIGTERM end a run at once, whatever its script says to that, and leave no container."""
    environment = {**os.environ, "PIPCOOK_IMAGES": json.dumps({"cpu": stage_image}), "PIPCOOK_STOP_TIMEOUT": "1"}
    document = write_pipeline(scripts={"model.py": STUBBORN})
    command = [*COMMAND, str(document), "-o", str(tmp_path / "out"), "--runner", "docker"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "out" / "cache" / "up").exists() and process.poll() is None:
            time.sleep(0.05)
        assert len(containers(engine, tmp_path / "out")) == 1
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number, told
    assert "Traceback" not in told
    assert containers(engine, tmp_path / "out") == []


def test_next_run_ends_what_a_killed_one_left(train, engine, write_pipeline, tmp_path, stage_image) -> None:
    """After SIGKILL of the command its container goes on for a while; a new run in the same folder ends it first."""
    environment = {**os.environ, "PIPCOOK_IMAGES": json.dumps({"cpu": stage_image})}
    document = write_pipeline(scripts={"model.py": STUBBORN})
    command = [*COMMAND, str(document), "-o", str(tmp_path / "out"), "--runner", "docker"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / "out" / "cache" / "up").exists() and process.poll() is None:
            time.sleep(0.05)
        process.kill()
    assert len(containers(engine, tmp_path / "out")) == 1
    told = train()
    assert told.returncode == 0, told.stderr
    assert containers(engine, tmp_path / "out") == []


def test_run_that_cannot_begin_leaves_nothing(train, tmp_path) -> None:
    """A document that cannot run is told before anything is trained, and its folder is not made."""
    told = train(artifact=[{"processor": "pipcook-artifact-unknown@1", "target": "x"}])
    assert told.returncode == 1
    assert "no installed package offers the artifact processor 'pipcook-artifact-unknown@1'" in told.stderr
    assert not (tmp_path / "out").exists()
