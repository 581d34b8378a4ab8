"""Runs whose stages see nothing of this machine but what they are given."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from helpers import prepared, zipped

from pipcook_provider.errors import ArtifactError, ProtocolError, ScriptError, StageCrashed, WorkspaceError
from pipcook_provider.launchers import Launch, Launcher, Listener, Needs, Site
from pipcook_provider.launchers.process import ProcessLauncher
from pipcook_provider.plan import plan
from pipcook_provider.spec import load_pipeline_spec
from pipcook_provider.stages import StageRunner
from pipcook_provider.store.workspace import Workspace


@dataclass
class Elsewhere:
    """Runs stages in processes, and claims that they see none of this machine's files. It notes what it was given."""

    inner: Launcher
    asked: list[Needs] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)
    parameters: list[Any] = field(default_factory=list)
    gpu: bool = False
    ended: Path | None = None

    def has_gpu(self) -> bool:
        return self.gpu

    def open(self, needs: Needs, listener: Listener) -> Site:
        self.asked.append(needs)
        return replace(self.inner.open(needs, listener), shares_files=False)

    def run(self, launch: Launch, listener: Listener) -> Mapping[str, Any]:
        self.launches.append(launch)
        context = json.loads((launch.workspace / launch.context).read_text(encoding="utf-8"))
        self.parameters.append(context["parameters"])
        return self.inner.run(launch, listener)

    def end_all(self, workspace: Path) -> None:
        self.ended = workspace

    def stop(self) -> None:
        self.inner.stop()


@pytest.fixture
def launcher(settings) -> Elsewhere:
    return Elsewhere(ProcessLauncher(settings))


@pytest.fixture
def runner(settings, heard, launcher) -> StageRunner:
    return StageRunner(settings, launcher, heard)


def run_all(runner: StageRunner, document: Path, folder: Path) -> tuple[Workspace, list[Any]]:
    workspace = prepared(runner, document, folder)
    stages = plan(load_pipeline_spec(document))
    return workspace, [runner.run(workspace, stage.task_id) for stage in stages]


def zip_to(*targets: object) -> list[dict[str, object]]:
    return [{"processor": "pipcook-artifact-zip@0.0.2", "target": target} for target in targets]


def test_artifact_goes_to_its_target(runner, write_pipeline, tmp_path) -> None:
    """Artifacts are made in the run's folder and put where the document says: beside it, in it, over what is there."""
    absolute = tmp_path / "new" / "folder" / "model.zip"
    (tmp_path / "old.zip").write_text("old", encoding="utf-8")
    document = write_pipeline(artifact=zip_to(str(absolute), "inner.zip", "../old.zip"))
    workspace, results = run_all(runner, document, tmp_path / "run")
    places = [absolute, workspace.root / "inner.zip", tmp_path / "old.zip"]
    assert [result.value["built"] for result in results[-3:]] == [str(place) for place in places]
    for place in places:
        assert zipfile.ZipFile(place).read("model.txt") == b"90.0"
    assert not list(workspace.root.rglob("*.partial"))
    assert [path.name for path in absolute.parent.iterdir()] == ["model.zip"]


def test_artifact_is_made_where_its_stage_may_write(runner, launcher, write_pipeline, tmp_path) -> None:
    """The processor is given a place in the run's folder, when it checks its options and when it builds."""
    document = write_pipeline(artifact=zip_to(str(tmp_path / "out.zip"), "inner.zip"))
    run_all(runner, document, tmp_path / "run")
    assert [options["target"] for options in launcher.parameters[0]] == ["out.zip", "inner.zip"]
    assert [options["target"] for options in launcher.parameters[-2:]] == [
        "cache/stages/artifact_1.partial/out.zip",
        "cache/stages/artifact_2.partial/inner.zip",
    ]


def test_failed_artifact_leaves_the_former(runner, write_pipeline, tmp_path) -> None:
    """What an earlier run has published stays when the processor fails."""
    document = write_pipeline(artifact=zip_to(str(tmp_path / "out.zip")))
    workspace, _ = run_all(runner, document, tmp_path / "run")
    before = (tmp_path / "out.zip").read_bytes()
    config = json.loads(workspace.config.read_text(encoding="utf-8"))
    config["artifact"][0]["processor"] = "pipcook-artifact-unknown@1"
    workspace.config.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ScriptError, match="pipcook-artifact-unknown"):
        runner.run(workspace, "artifact_1")
    assert (tmp_path / "out.zip").read_bytes() == before


@pytest.mark.parametrize(
    ("target", "error", "expected"),
    [
        ("{tmp}", WorkspaceError, "is a folder"),
        ("{tmp}/pipelines/pipeline.json/model.zip", WorkspaceError, "expected to be writable"),
        ("scripts/model.zip", ScriptError, "has another purpose"),
        ("", ScriptError, "expected option 'target'"),
    ],
)
def test_targets_are_checked_before_training(runner, write_pipeline, tmp_path, target, error, expected) -> None:
    """A target that cannot be written fails prepare, whoever can tell."""
    document = write_pipeline(artifact=zip_to(target.format(tmp=tmp_path)))
    with pytest.raises(error, match=expected):
        prepared(runner, document, tmp_path / "run")


def test_processors_are_the_images(runner, launcher, write_pipeline, tmp_path) -> None:
    """Which processors there are is asked where they run, not here."""
    document = write_pipeline(artifact=[{"processor": "pipcook-artifact-unknown@1"}])
    with pytest.raises(ScriptError, match="no installed package offers"):
        prepared(runner, document, tmp_path / "run")
    assert [launch.subject for launch in launcher.launches] == ["artifact processor pipcook-artifact-unknown@1"]
    here = StageRunner(runner.settings, launcher.inner, runner.listener)
    with pytest.raises(ArtifactError, match="no installed package offers"):
        prepared(here, document, tmp_path / "here")


def test_processors_that_need_the_same_start_together(runner, launcher, write_pipeline, tmp_path) -> None:
    """Options are checked in one child for each kind of place."""
    airflow = {"stages": {"artifact_2": {"memory": "1GB"}}}
    document = write_pipeline(artifact=zip_to("a.zip", "b.zip", "c.zip"), options={"train": {}, "airflow": airflow})
    prepared(runner, document, tmp_path / "run")
    assert [launch.subject.count("pipcook-artifact-zip") for launch in launcher.launches] == [2, 1]
    assert [launch.site.needs.memory for launch in launcher.launches] == [None, 10**9]


def test_what_stages_read_and_write(runner, launcher, write_pipeline, tmp_path) -> None:
    """A stage that cannot see the run's folder is sent what it reads, gives back what it writes, and changes nothing else."""
    keeps = "def train(runtime, options, context):\n    runtime.save_model(b'', 'm')\n"
    flow = """
from pipcook_provider.runtime import Sample
def dataflow(dataset, options, context):
    (context.workspace.cache_dir / "kept").touch()
    return dataset
"""
    document = write_pipeline(scripts={"model.py": keeps, "dataflow.py": flow})
    run_all(runner, document, tmp_path / "run")
    datasource, dataflow, model, artifact = launcher.launches[1:]
    assert datasource.reads == ("scripts", "data")
    assert datasource.read_only == ("scripts", "pipeline-config.json", "cache/stages/datasource.json")
    assert dataflow.reads == ("scripts", "data", "cache/stages/datasource")
    assert model.reads == ("scripts", "data", "cache/kept", "cache/stages/dataflow_1")
    assert model.read_only == ("scripts", "pipeline-config.json", "cache/stages/model.json", "cache/stages/dataflow_1")
    assert {launch.writes for launch in (datasource, dataflow, model)} == {("data", "cache")}
    assert (artifact.reads, artifact.writes) == (("model",), ("cache/stages/artifact_1.partial",))


def test_downloads_stay_in_the_run(runner, launcher, write_pipeline, tmp_path) -> None:
    """Downloads of stages that see nothing else go into the run's folder, others into the one that runs share."""
    workspace = prepared(runner, write_pipeline(), tmp_path / "run")
    runner.run(workspace, "datasource")
    context = json.loads(workspace.context("datasource").read_text(encoding="utf-8"))
    assert context["downloads"] == str(workspace.root / "cache" / "downloads")
    StageRunner(runner.settings, launcher.inner, runner.listener).run(workspace, "datasource")
    context = json.loads(workspace.context("datasource").read_text(encoding="utf-8"))
    assert context["downloads"] == str(runner.settings.home / "data")


def test_files_beside_the_document_are_given(runner, launcher, heard, write_pipeline, tmp_path) -> None:
    """Files that a script's parameters name are given to its stage alone; of others there is a warning."""
    document = write_pipeline(
        datasource="datasource.py?count=1&url=numbers.csv&other=/etc/hostname", dataflow=["dataflow.py?weights=w.bin"]
    )
    for name in ("numbers.csv", "w.bin"):
        (document.parent / name).touch()
    run_all(runner, document, tmp_path / "run")
    given = [set(launch.files) for launch in launcher.launches[1:]]
    folder = document.parent
    assert given == [{folder / "numbers.csv"}, {folder / "w.bin"}, set(), set()]
    warnings = [message.text for message in heard.messages if getattr(message, "level", "") == "warning"]
    assert len(warnings) == 1
    assert "'/etc/hostname' names /etc/hostname" in warnings[0]


def test_gpu_that_is_welcome(runner, launcher, write_pipeline, tmp_path) -> None:
    """With "auto", each worker of a run decides for itself: what prepare has found binds none of the others."""
    workspace = prepared(runner, write_pipeline(options={"train": {"gpu": "auto"}}), tmp_path / "run")
    assert json.loads(workspace.config.read_text(encoding="utf-8"))["options"]["train"]["gpu"] == "auto"
    for task_id in ("datasource", "dataflow_1", "model"):
        runner.run(workspace, task_id)
    assert [launch.site.needs.gpus for launch in launcher.launches[1:]] == [0, 0, 1]
    assert not launcher.launches[-1].site.needs.gpu_required


def test_prepare_ends_what_goes_on_in_the_folder(runner, launcher, write_pipeline, tmp_path) -> None:
    """Nothing of a lost worker goes on in a folder that is made anew."""
    workspace = prepared(runner, write_pipeline(), tmp_path / "run")
    assert launcher.ended == workspace.root


@pytest.mark.parametrize(("here", "queue", "opened"), [(False, None, [0]), (True, None, [0, 1]), (False, "other", [0])])
def test_prepare_looks_ahead(runner, launcher, write_pipeline, tmp_path, here, queue, opened) -> None:
    """What stages need is looked for in prepare, but for what another worker may have: a GPU, or another queue's images."""
    options = {"train": {"gpu": True}, "airflow": {"stages": {"dataflow": {"image": "special", "queue": queue}}}}
    document = write_pipeline(options=options, artifact=[])
    prepared(replace(runner, everything_here=here), document, tmp_path / "run")
    images = [needs.images.get("cpu") for needs in launcher.asked]
    assert [needs.gpus for needs in launcher.asked if not needs.images] == opened
    assert ("special" in images) is (queue is None)


def test_stage_is_taken_over(runner, launcher, heard, write_pipeline, tmp_path) -> None:
    """Another runner makes the output of a stage that a lost one has begun, from what lies in the run's folder."""
    workspace = prepared(runner, write_pipeline(), tmp_path / "run")
    lost = runner.begin(workspace, "datasource")
    value = launcher.run(lost.launch, heard)
    resumed = StageRunner(runner.settings, launcher, heard)
    job = resumed.resume(workspace, "datasource", outlives=60)
    assert (job.launch.workspace, job.launch.context) == (lost.launch.workspace, lost.launch.context)
    assert (job.launch.writes, job.launch.script_uris) == (lost.launch.writes, lost.launch.script_uris)
    assert not job.launch.site.shares_files
    result = resumed.complete(job, lambda *_: value)
    assert result.value == {"samples": {"train": 10}}
    assert resumed.run(workspace, "dataflow_1").value == {"samples": {"train": 10}}


def test_framework_of_a_stage_that_is_taken_over_is_kept(runner, write_pipeline, tmp_path) -> None:
    """Who takes a stage over uses its framework too: it counts as used for as long as the stage may go on without them."""
    (tmp_path / "toy.zip").write_bytes(zipped())
    workspace = prepared(runner, write_pipeline(options={"framework": str(tmp_path / "toy.zip")}), tmp_path / "run")
    runner.begin(workspace, "datasource")
    runner.resume(workspace, "datasource", outlives=600)
    assert [path for path in runner.settings.home.rglob("*~600") if path.is_file()]


def test_artifact_is_taken_over(runner, launcher, heard, write_pipeline, tmp_path) -> None:
    """An artifact that was under way is published by whoever takes over."""
    document = write_pipeline(artifact=zip_to(str(tmp_path / "out.zip")))
    workspace = prepared(runner, document, tmp_path / "run")
    for task_id in ("datasource", "dataflow_1", "model"):
        runner.run(workspace, task_id)
    value = launcher.run(runner.begin(workspace, "artifact_1").launch, heard)
    job = runner.resume(workspace, "artifact_1", outlives=60)
    result = runner.complete(job, lambda *_: value)
    assert result.value["built"] == str(tmp_path / "out.zip")
    assert zipfile.is_zipfile(tmp_path / "out.zip")


def test_stage_of_another_version_is_not_taken_over(runner, write_pipeline, tmp_path) -> None:
    """A stage that another version of this package has begun is told as that."""
    workspace = prepared(runner, write_pipeline(), tmp_path / "run")
    runner.begin(workspace, "datasource")
    context = json.loads(workspace.context("datasource").read_text(encoding="utf-8"))
    workspace.context("datasource").write_text(json.dumps({**context, "protocol": 99}), encoding="utf-8")
    with pytest.raises(ProtocolError):
        runner.resume(workspace, "datasource", outlives=60)


def test_crashed_stage_leaves_the_former_output(runner, write_pipeline, tmp_path) -> None:
    """A stage that ends without a result does not cost the output that an earlier try has left."""
    workspace = prepared(runner, write_pipeline(), tmp_path / "run")
    runner.run(workspace, "datasource")
    job = runner.begin(workspace, "datasource")

    def crash(launch: Launch, listener: Listener) -> Mapping[str, Any]:
        raise StageCrashed("gone", exit_code=1)

    with pytest.raises(StageCrashed):
        runner.complete(job, crash)
    assert runner.run(workspace, "dataflow_1").value == {"samples": {"train": 10}}


#: What a stage could make into a link, so that what the worker writes there would land elsewhere.
PLANTED = ["cache", "data", "model", "scripts", "cache/stages", "cache/stages/datasource.partial"]


@pytest.mark.parametrize("place", PLANTED)
def test_links_in_the_place_of_folders(runner, launcher, write_pipeline, tmp_path, place: str) -> None:
    """Nothing is written where a script has put a link: not after its stage, and not before the next."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("precious", encoding="utf-8")
    plant = f"""
import pathlib, shutil
from pipcook_provider.runtime import DatasetPool, Sample
def datasource(options, context):
    return DatasetPool.from_samples(train=[Sample(1.0)])
import atexit
def plant(place=pathlib.Path({place!r}).absolute()):
    place.rename(place.with_name("moved"))
    place.symlink_to({str(victim)!r})
atexit.register(plant)
"""
    workspace = prepared(runner, write_pipeline(scripts={"datasource.py": plant}), tmp_path / "run")
    with pytest.raises(WorkspaceError, match="found a link to"):
        runner.run(workspace, "datasource")
    with pytest.raises(WorkspaceError, match="found a link to"):
        runner.run(workspace, "dataflow_1")
    assert [path.name for path in victim.iterdir()] == ["precious"]


def test_link_in_the_place_of_an_earlier_output(runner, write_pipeline, tmp_path) -> None:
    """A stage cannot show to the next try of another what lies elsewhere on the worker, as the data that it reads."""
    flow = """
import pathlib, shutil
def dataflow(dataset, options, context):
    place = pathlib.Path("cache/stages/datasource")
    place.rename("cache/moved")
    place.symlink_to("/etc")
    raise RuntimeError("again, please")
"""
    workspace = prepared(runner, write_pipeline(scripts={"dataflow.py": flow}), tmp_path / "run")
    runner.run(workspace, "datasource")
    with pytest.raises(ScriptError):
        runner.run(workspace, "dataflow_1")
    with pytest.raises(WorkspaceError, match="found a link to /etc"):
        runner.begin(workspace, "dataflow_1")
