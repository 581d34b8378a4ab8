"""A pipeline document as a DAG."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.sdk import Asset
from dag_bags import LOADER, dag_bag, serialized, stored

from pipcook_provider.dag_factory import DocumentSource, dag_id_of, load_pipeline, load_pipelines
from pipcook_provider.errors import PipcookError, SpecError
from pipcook_provider.operators.artifact import PipcookArtifactOperator
from pipcook_provider.operators.docker import PipcookDockerOperator
from pipcook_provider.operators.prepare import PipcookPrepareOperator
from pipcook_provider.operators.stage import PipcookStageOperator
from pipcook_provider.plan import model_asset

LOCAL_EXECUTOR = "airflow.executors.local_executor.LocalExecutor"


def test_document_becomes_a_line_of_tasks(write_pipeline) -> None:
    """prepare >> datasource >> dataflow_n >> model >> artifact_n, each the operator of its kind."""
    dag = load_pipeline(write_pipeline(dataflow=["dataflow.py", "dataflow.py"]))
    expected = ["prepare", "datasource", "dataflow_1", "dataflow_2", "model", "artifact_1"]
    assert dag.dag_id == "pipeline"
    assert [task.task_id for task in dag.topological_sort()] == expected
    for upstream, downstream in itertools.pairwise(expected):
        assert dag.task_dict[upstream].downstream_task_ids == {downstream}
    kinds = [type(dag.task_dict[task_id]) for task_id in expected]
    assert kinds == [PipcookPrepareOperator, *[PipcookStageOperator] * 4, PipcookArtifactOperator]
    assert dag.task_dict["dataflow_1"].task_display_name == "dataflow 1: dataflow.py"


def test_airflow_options_reach_the_dag(write_pipeline) -> None:
    """options.airflow sets what Airflow's own DAG files would set in Python."""
    options = {
        "schedule": "@daily",
        "start_date": "2026-01-01",
        "catchup": True,
        "retries": 2,
        "retry_delay": 60,
        "tags": ["vision"],
        "owner": "web",
        "pool": "gpu",
        "queue": "q",
        "priority_weight": 7,
        "max_active_runs": 1,
        "execution_timeout": 3600,
        "description": "Digits",
    }
    dag = load_pipeline(write_pipeline(options={"airflow": options}))
    model = dag.task_dict["model"]
    assert (dag.schedule, dag.start_date, dag.catchup) == ("@daily", datetime(2026, 1, 1, tzinfo=UTC), True)
    assert (dag.tags, dag.max_active_runs, dag.description) == ({"pipcook", "vision"}, 1, "Digits")
    assert (model.retries, model.retry_delay) == (2, timedelta(seconds=60))
    assert (model.owner, model.pool, model.queue, model.priority_weight) == ("web", "gpu", "q", 7)
    assert model.execution_timeout == timedelta(hours=1)


def test_dags_serialize_the_same_at_every_parse(write_pipeline) -> None:
    """Nothing in a DAG changes from one parse to the next: Airflow would store a new version each time."""
    document = write_pipeline(options={"train": {"epochs": 1}, "airflow": {"schedule": "@daily", "tags": ["b", "a"]}})
    first, second = (json.dumps(serialized(load_pipeline(document)), sort_keys=True, default=str) for _ in range(2))
    assert first == second


def test_stages_in_containers(write_pipeline, fresh_settings) -> None:
    """With the docker runner each stage is a Docker task of its own name; prepare runs here and knows where they will."""
    dag = load_pipeline(
        write_pipeline(options={"train": {}, "airflow": {"runner": "docker", "retries": 3, "queue": "q"}})
    )
    prepare, *stages = dag.topological_sort()
    assert (type(prepare), prepare.runner) == (PipcookPrepareOperator, "docker")
    assert [stage.task_id for stage in stages] == ["datasource", "dataflow_1", "model", "artifact_1"]
    assert {type(stage) for stage in stages} == {PipcookDockerOperator}
    assert [stage.stage for stage in stages] == [stage.task_id for stage in stages]
    assert {(stage.retries, stage.queue) for stage in stages} == {(3, "q")}
    assert stages[-1].task_display_name == "artifact 1: pipcook-artifact-zip@0.0.2"


@pytest.mark.parametrize(
    ("setting", "stated", "expected"),
    [
        ("docker", None, PipcookDockerOperator),
        ("docker", "process", PipcookStageOperator),
        ("process", "docker", PipcookDockerOperator),
        ("process", None, PipcookStageOperator),
    ],
)
def test_runner_of_the_settings(
    write_pipeline, fresh_settings, setting: str, stated: str | None, expected: type
) -> None:
    """[pipcook] runner is for documents that do not say where they run."""
    fresh_settings.setenv("PIPCOOK_RUNNER", setting)
    dag = load_pipeline(write_pipeline(options={"train": {}, "airflow": {"runner": stated}}))
    assert type(dag.task_dict["model"]) is expected


def test_runner_of_a_folder(write_pipeline, fresh_settings) -> None:
    """A folder's defaults say where its pipelines run."""
    document = write_pipeline()
    (document.parent / "pipcook.defaults.json").write_text(
        '{"options": {"airflow": {"runner": "docker"}}}', encoding="utf-8"
    )
    dag = load_pipelines(document.parent)["pipeline"]
    assert type(dag.task_dict["model"]) is PipcookDockerOperator


@pytest.mark.parametrize("runner", ["docker", "process"])
@pytest.mark.parametrize("gpu", [True, "true", "auto"])
def test_gpu_stages_share_a_pool(write_pipeline, fresh_settings, runner: str, gpu: object) -> None:
    """Only the stage that trains on a GPU waits for it in a pool, so that two trainings never share a card by accident."""
    dag = load_pipeline(write_pipeline(options={"train": {"gpu": gpu}, "airflow": {"runner": runner, "pool": "mine"}}))
    assert dag.task_dict["datasource"].pool == "mine"
    assert dag.task_dict["model"].pool == "mine"
    dag = load_pipeline(write_pipeline(options={"train": {"gpu": gpu}, "airflow": {"runner": runner}}))
    pools = {task.task_id: task.pool for task in dag.tasks if task.pool != "default_pool"}
    assert pools == {"model": "pipcook_gpu"}


def test_gpu_pool_has_a_name(write_pipeline, fresh_settings) -> None:
    """[pipcook] gpu_pool names the pool; a document that names one for the stage has its way."""
    fresh_settings.setenv("PIPCOOK_GPU_POOL", "cards")
    stages = {"dataflow": {"gpu": True}, "model": {"pool": "big"}}
    dag = load_pipeline(write_pipeline(options={"train": {"gpu": True}, "airflow": {"stages": stages}}))
    pools = {task.task_id: task.pool for task in dag.tasks if task.pool != "default_pool"}
    assert pools == {"dataflow_1": "cards", "model": "big"}


def test_stages_have_queues_of_their_own(write_pipeline, fresh_settings) -> None:
    """A stage may run on other workers than the rest of its pipeline."""
    stages = {"model": {"queue": "gpu", "pool": "big"}}
    dag = load_pipeline(write_pipeline(options={"train": {}, "airflow": {"queue": "all", "stages": stages}}))
    queues = {task.task_id: task.queue for task in dag.tasks}
    assert queues == {**dict.fromkeys(queues, "all"), "model": "gpu"}
    assert dag.task_dict["model"].pool == "big"


def test_container_dags_serialize_the_same_at_every_parse(write_pipeline, fresh_settings) -> None:
    """A DAG of Docker tasks is stored as it is, and without a value that changes or that only this machine has."""
    document = write_pipeline(options={"train": {"gpu": True}, "airflow": {"runner": "docker", "image": "mine:1"}})
    first, second = (json.dumps(serialized(load_pipeline(document)), sort_keys=True, default=str) for _ in range(2))
    assert first == second
    assert '"PipcookDockerOperator"' in first


def test_stages_have_knobs_of_their_own(write_pipeline, fresh_settings) -> None:
    """What a stage says goes before what its role says, before what the pipeline says; prepare has the pipeline's."""
    options = {
        "retries": 1,
        "retry_delay": 10,
        "priority_weight": 2,
        "executor": "LocalExecutor",
        "stages": {
            "dataflow": {"retries": 5, "execution_timeout": 60},
            "dataflow_2": {"retries": 0, "priority_weight": 9},
            "model": {"executor": LOCAL_EXECUTOR, "retry_delay": 0.5},
        },
    }
    dag = load_pipeline(write_pipeline(dataflow=["dataflow.py"] * 2, options={"airflow": options}))
    names = ("retries", "retry_delay", "priority_weight", "executor", "execution_timeout")
    found = {task.task_id: tuple(getattr(task, name) for name in names) for task in dag.tasks}
    pipeline = (1, timedelta(seconds=10), 2, "LocalExecutor", None)
    assert found == {
        "prepare": pipeline,
        "datasource": pipeline,
        "dataflow_1": (5, timedelta(seconds=10), 2, "LocalExecutor", timedelta(minutes=1)),
        "dataflow_2": (0, timedelta(seconds=10), 9, "LocalExecutor", timedelta(minutes=1)),
        "model": (1, timedelta(seconds=0.5), 2, LOCAL_EXECUTOR, None),
        "artifact_1": pipeline,
    }


@pytest.mark.parametrize("runner", ["process", "docker"])
def test_model_is_an_asset(write_pipeline, runner: str) -> None:
    """The model's task publishes an asset that is named after the DAG, so that other DAGs can be scheduled on it."""
    dag = load_pipeline(write_pipeline(options={"airflow": {"runner": runner}}), "team.digits")
    outlets = {task.task_id: task.outlets for task in dag.tasks if task.outlets}
    assert outlets == {"model": [Asset("pipcook://models/team.digits")]}
    assert outlets["model"][0].uri == model_asset("team.digits")


def test_document_is_what_the_ui_shows(write_pipeline) -> None:
    """The Code tab reads the DAG's file: the document; the file that is parsed again stays the loader."""
    document = write_pipeline(folder="dags")
    loader = document.with_name("loader.py")
    loader.write_text(LOADER, encoding="utf-8")
    bag = dag_bag(loader, document.parent)
    dag = bag.dags["pipeline"]
    assert bag.import_errors == {}
    assert (dag.fileloc, dag.relative_fileloc) == (str(document), "loader.py")
    assert stored(dag).fileloc == str(document)


def test_source_of_a_document(write_pipeline, tmp_path) -> None:
    """A copy of a document from a URL belongs there: its scripts are looked for there, and prepare knows it."""
    source = DocumentSource("https://example.com/team/digits.json", "https://example.com/team/digits.json")
    dag = load_pipeline(write_pipeline(), "digits", source=source)
    prepare = dag.task_dict["prepare"]
    assert (prepare.origin, Path(prepare.document).name) == (source.origin, "pipeline.json")
    assert "pipcook train https://example.com/team/digits.json -o digits" in dag.doc_md


def test_dag_id_is_made_of_the_path() -> None:
    """Folders become dots, what Airflow does not take in a dag_id becomes an underscore."""
    assert dag_id_of("team x/digits-1.json") == "team_x.digits-1"


def test_what_airflow_refuses_is_an_error_of_the_document(write_pipeline) -> None:
    """Airflow's own words come with the document's name and what to do."""
    document = write_pipeline()
    with pytest.raises(
        PipcookError, match=r"pipeline\.json: Airflow cannot take it: .*250 characters.*options\.airflow"
    ):
        load_pipeline(document, "x" * 251)


def test_executors_are_those_of_this_airflow(write_pipeline) -> None:
    """An executor that Airflow does not have is an error with its place, also where defaults or a stage name it."""
    document = write_pipeline(options={"airflow": {"stages": {"model": {"executor": "Nobody"}}}})
    place = r"pipeline\.json:18:23: \$\.options\.airflow\.stages\.model\.executor: "
    with pytest.raises(SpecError, match=rf'{place}Expected an executor .*LocalExecutor.*found "Nobody"'):
        load_pipeline(document)
    document = write_pipeline()
    defaults = document.with_name("pipcook.defaults.json")
    defaults.write_text('{"options": {"airflow": {"executor": "Nobody"}}}', encoding="utf-8")
    with pytest.raises(
        SpecError, match=r"The value of \$\.options\.airflow\.executor comes from .*pipcook\.defaults\.json"
    ):
        load_pipeline(document)
