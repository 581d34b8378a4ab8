"""Preparing runs and running their stages."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from helpers import prepared

from pipcook_provider.errors import (
    ArtifactError,
    FetchError,
    ParameterError,
    ScriptError,
    StageError,
    WorkspaceError,
)
from pipcook_provider.plan import plan
from pipcook_provider.spec import load_pipeline_spec
from pipcook_provider.store.workspace import Workspace


def test_plan_names_stages_by_their_place(write_pipeline) -> None:
    """Task ids say where a stage stands, titles what runs."""
    document = write_pipeline(dataflow=["dataflow.py", "dataflow.py?x=1"])
    stages = plan(load_pipeline_spec(document))
    assert [stage.task_id for stage in stages] == ["datasource", "dataflow_1", "dataflow_2", "model", "artifact_1"]
    assert [stage.source for stage in stages] == [None, "datasource", "dataflow_1", "dataflow_2", None]
    assert stages[1].title == "dataflow 1: dataflow.py"
    assert stages[-1].title == "artifact 1: pipcook-artifact-zip@0.0.2"


def test_run_leaves_the_workspace_of_the_specification(runner, write_pipeline, tmp_path) -> None:
    """A run's folder is laid out as documented, and the zip holds the model's files without a top folder."""
    spec = load_pipeline_spec(write_pipeline(options={"train": {"epochs": 1}, "airflow": {"owner": "web"}}, custom=1))
    workspace = prepared(runner, spec, tmp_path / "run")
    results = [runner.run(workspace, stage.task_id) for stage in plan(spec)]
    names = {path.name for path in workspace.root.iterdir()}
    shown = {name for name in names if not name.startswith(".")}
    assert shown == {"pipeline-config.json", "cache", "data", "model", "scripts", "model.zip"}
    scripts = {path.name for path in workspace.scripts.iterdir()}
    assert scripts == {"0-datasource.py", "1-dataflow.py", "2-model.py"}
    assert (workspace.model / "model.txt").read_text(encoding="utf-8") == "90.0"
    assert results[-1].value["built"] == str(workspace.root / "model.zip")
    with zipfile.ZipFile(workspace.root / "model.zip") as archive:
        assert sorted(archive.namelist()) == ["model.txt", "pipeline.json"]
        kept = json.loads(archive.read("pipeline.json"))
    assert kept["custom"] == 1
    assert kept["options"] == {"train": {"epochs": 1}}


def test_parameters_of_the_model_are_train_overlaid_by_the_query(runner, heard, write_pipeline, tmp_path) -> None:
    """Datasource and dataflow get their query; the model gets options.train, and its query wins."""
    show = "import json\ndef {}:\n    print('{}', json.dumps(options, sort_keys=True))\n    {}\n"
    datasource = "from pipcook_provider.runtime import DatasetPool, Sample\n" + show.format(
        "datasource(options, context)", "datasource", "return DatasetPool.from_samples(train=[Sample(1.0)])"
    )
    model = show.format("train(runtime, options, context)", "model", "runtime.save_model(b'', 'm')")
    spec = load_pipeline_spec(
        write_pipeline(
            scripts={"datasource.py": datasource, "model.py": model},
            datasource="datasource.py?size=1&size=2",
            model="model.py?epochs=9",
            options={"train": {"epochs": 1, "gpu": False}},
        )
    )
    workspace = prepared(runner, spec, tmp_path / "run")
    for task_id in ("datasource", "dataflow_1", "model"):
        runner.run(workspace, task_id)
    assert 'datasource {"size": ["1", "2"]}' in heard.lines
    assert 'model {"epochs": "9", "gpu": false}' in heard.lines


def test_trigger_parameters_replace_the_documents(runner, write_pipeline, tmp_path) -> None:
    """Values from the trigger form stand in pipeline-config.json; the document itself is untouched."""
    document = write_pipeline(options={"train": {"epochs": 1, "optimizer": {"rate": 0.1}}})
    before = document.read_bytes()
    workspace = prepared(runner, document, tmp_path / "run", {"epochs": 7, "optimizer.rate": 0.5})
    config = json.loads(workspace.config.read_text(encoding="utf-8"))
    assert config["options"]["train"] == {"epochs": 7, "optimizer": {"rate": 0.5}}
    assert document.read_bytes() == before


def test_values_that_are_no_number_leave_as_none(runner, write_pipeline, tmp_path) -> None:
    """A training that diverged is not lost for a metric that JSON cannot hold."""
    model = """
def train(runtime, options, context):
    runtime.log_metric("loss", float("nan"))
    runtime.log_metric("accuracy", 0.5)
    runtime.save_model(b"", "model")
"""
    workspace = prepared(runner, write_pipeline(scripts={"model.py": model}), tmp_path / "run")
    results = [runner.run(workspace, task_id) for task_id in ("datasource", "dataflow_1", "model")]
    assert results[-1].metrics == {"loss": None, "accuracy": 0.5}


@pytest.mark.parametrize(
    ("train", "given", "expected"),
    [
        (
            {"epochs": 1},
            {"epochz": 2},
            r"found 'epochz'\. Did you mean 'epochs'\? It has epochs, datasource\.count, framework\.",
        ),
        (None, {"epochs": 2}, r"found 'epochs'\. It has datasource\.count, framework\."),
        ({"optimizer": {"rate": 1}}, {"optimizer": 2}, r"It has optimizer\.rate"),
    ],
)
def test_unknown_trigger_parameter_is_refused(runner, write_pipeline, tmp_path, train, given, expected) -> None:
    """A misspelt parameter of a trigger fails the run instead of being ignored."""
    document = write_pipeline(options={"train": train})
    with pytest.raises(ParameterError, match=expected):
        prepared(runner, document, tmp_path / "run", given)


def test_trigger_parameters_find_keys_with_dots(runner, write_pipeline, tmp_path) -> None:
    """A key that holds a dot is that key, not a nested object."""
    document = write_pipeline(options={"train": {"a.b": 1, "c": {"d": 2}}})
    workspace = prepared(runner, document, tmp_path / "run", {"a.b": 3, "c.d": 4})
    config = json.loads(workspace.config.read_text(encoding="utf-8"))
    assert config["options"]["train"] == {"a.b": 3, "c": {"d": 4}}


def test_failed_preparation_leaves_the_earlier_run(runner, write_pipeline, tmp_path) -> None:
    """Preparing a folder again for a document that cannot run loses nothing of the run that is there."""
    spec = load_pipeline_spec(write_pipeline())
    workspace = prepared(runner, spec, tmp_path / "run")
    for stage in plan(spec):
        runner.run(workspace, stage.task_id)
    with pytest.raises(ScriptError):
        prepared(runner, write_pipeline(scripts={"model.py": "def ("}), tmp_path / "run")
    assert (workspace.model / "model.txt").is_file()
    assert runner.run(workspace, "dataflow_1").value == {"samples": {"train": 10}}


def test_stage_that_the_run_does_not_have_is_named(runner, write_pipeline, tmp_path) -> None:
    """A task of a stage that the run was not prepared with says which stages there are."""
    workspace = prepared(runner, write_pipeline(), tmp_path / "run")
    with pytest.raises(StageError, match=r"found 'dataflow_9'\. It has datasource, dataflow_1, model, artifact_1"):
        runner.run(workspace, "dataflow_9")


def test_model_keeps_no_path_of_the_machine(runner, write_pipeline, tmp_path) -> None:
    """model/pipeline.json travels with the model: it does not tell where the document lay."""
    workspace = prepared(runner, write_pipeline(), tmp_path / "run")
    for task_id in ("datasource", "dataflow_1", "model"):
        runner.run(workspace, task_id)
    assert str(tmp_path) not in (workspace.model / "pipeline.json").read_text(encoding="utf-8")


def test_failed_training_leaves_the_earlier_model(runner, write_pipeline, tmp_path) -> None:
    """A model's stage that is run again and fails half-way does not cost the model that is there."""
    script = """
def train(runtime, options, context):
    runtime.save_model(b"half", "model.txt")
    if (context.workspace.cache_dir / "again").exists():
        raise RuntimeError("out of luck")
    (context.workspace.cache_dir / "again").touch()
    runtime.save_model(b"whole", "model.txt")
"""
    workspace = prepared(runner, write_pipeline(scripts={"model.py": script}), tmp_path / "run")
    for task_id in ("datasource", "dataflow_1", "model"):
        runner.run(workspace, task_id)
    with pytest.raises(ScriptError, match="out of luck"):
        runner.run(workspace, "model")
    assert (workspace.model / "model.txt").read_bytes() == b"whole"


def test_editing_the_document_changes_nothing_in_a_prepared_run(runner, write_pipeline, tmp_path) -> None:
    """After prepare, stages read the workspace alone: document and scripts may change or vanish."""
    document = write_pipeline(scripts={"datasource.py": "import helper\n" + _DATASOURCE_WITH_HELPER})
    (document.parent / "helper.py").write_text("SAMPLES = 3\n", encoding="utf-8")
    workspace = prepared(runner, document, tmp_path / "run")
    for path in document.parent.iterdir():
        path.unlink()
    assert runner.run(workspace, "datasource").value == {"samples": {"train": 3}}


_DATASOURCE_WITH_HELPER = """
from pipcook_provider.runtime import DatasetPool, Sample
def datasource(options, context):
    return DatasetPool.from_samples(train=[Sample(1.0)] * helper.SAMPLES)
"""


def test_moved_workspace_still_runs(runner, write_pipeline, tmp_path) -> None:
    """All paths inside a workspace are relative to it."""
    workspace = prepared(runner, write_pipeline(), tmp_path / "run")
    runner.run(workspace, "datasource")
    moved = workspace.root.rename(tmp_path / "elsewhere")
    assert runner.run(Workspace.open(moved), "dataflow_1").value == {"samples": {"train": 10}}


def test_workspace_config_runs_again(runner, write_pipeline, tmp_path) -> None:
    """A run's pipeline-config.json is a document that reproduces the run, relative scripts included."""
    first = prepared(runner, write_pipeline(), tmp_path / "run")
    second = prepared(runner, first.config, tmp_path / "again")
    assert runner.run(second, "datasource").value == {"samples": {"train": 10}}


@pytest.mark.parametrize(
    ("changes", "error", "expected"),
    [
        (
            {"artifact": [{"processor": "pipcook-artefact-zip"}]},
            ArtifactError,
            r"Did you mean 'pipcook-artifact-zip'\?",
        ),
        ({"artifact": [{"processor": "unknown@1"}]}, ArtifactError, "Known here: .*pipcook-artifact-zip"),
        ({"artifact": [{"processor": "pipcook-artifact-zip@0.0.2"}]}, ScriptError, "expected option 'target'"),
        ({"model": "missing.py"}, FetchError, "missing.py"),
        ({"scripts": {"model.py": "def train(:\n"}}, ScriptError, "not valid Python at line 1:\n    def train"),
        ({"scripts": {"model.py": "<html></html>"}}, ScriptError, "A web page came instead of a script"),
        ({"scripts": {"model.py": "def trian(r, o, c): ..."}}, ScriptError, "defines no 'train'"),
        (
            {"scripts": {"datasource.py": "import broken\nfrom x import *"}},
            ScriptError,
            "broken.py is not valid Python",
        ),
    ],
)
def test_prepare_fails_before_anything_is_trained(runner, write_pipeline, tmp_path, changes, error, expected) -> None:
    """What can be known to fail later fails at once, and says what to do."""
    document = write_pipeline(**changes)
    (document.parent / "broken.py").write_text("def (", encoding="utf-8")
    with pytest.raises(error, match=expected):
        prepared(runner, document, tmp_path / "run")


def test_folder_with_other_files_is_not_used(runner, write_pipeline, tmp_path) -> None:
    """A run is never mixed with files that are not a run's."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(WorkspaceError, match=r"expected .* to be empty"):
        prepared(runner, write_pipeline(), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_model_script_that_saves_nothing_fails(runner, write_pipeline, tmp_path) -> None:
    """A training that leaves no model is no success."""
    spec = load_pipeline_spec(write_pipeline(scripts={"model.py": "def train(runtime, options, context):\n    pass\n"}))
    workspace = prepared(runner, spec, tmp_path / "run")
    runner.run(workspace, "datasource")
    runner.run(workspace, "dataflow_1")
    with pytest.raises(ScriptError, match=r"expected the model script to save its model .*, found nothing"):
        runner.run(workspace, "model")


def test_stage_beside_a_framework_sees_only_the_framework(runner, heard, write_pipeline, tmp_path) -> None:
    """With a framework, its packages come first, and of the worker's only the runtime, numpy and pyarrow are there."""
    framework = tmp_path / "framework"
    package = framework / "site-packages" / "only_here"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("WHERE = __file__\n", encoding="utf-8")
    (framework / "framework.json").write_text(json.dumps({"name": "mine", "version": "1.0", "packages": []}))
    (framework / "index.py").write_text(
        "import os\ndef initialize(options):\n    os.environ['OPTIONS'] = str(options)\n"
    )
    script = """
import importlib.util, os
import only_here, numpy, pyarrow
from pipcook_provider.runtime import DatasetPool, Sample
def datasource(options, context):
    hidden = [name for name in ("airflow", "requests", "jsonschema", "rich") if importlib.util.find_spec(name)]
    print("hidden", hidden, "options", os.environ["OPTIONS"], "where", only_here.WHERE)
    return DatasetPool.from_samples(train=[Sample(numpy.ones(3))])
"""
    spec = load_pipeline_spec(
        write_pipeline(
            scripts={"datasource.py": script},
            options={"framework": str(framework), "train": {"epochs": 1}, "airflow": {"owner": "web"}},
        )
    )
    workspace = prepared(runner, spec, tmp_path / "run")
    runner.run(workspace, "datasource")
    line = next(line for line in heard.lines if line.startswith("hidden"))
    assert line.startswith("hidden [] options {'framework': ")
    assert "'train': {'epochs': 1}}" in line
    assert "airflow" not in line.partition("options")[2].partition("where")[0]
    assert Path(line.rpartition(" ")[2]).is_relative_to(framework)
    assert (workspace.root / "framework").resolve() == framework
