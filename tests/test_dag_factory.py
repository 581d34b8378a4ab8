"""Pipeline documents as DAGs."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from airflow.exceptions import SerializationError
from airflow.sdk import DAG

from pipcook_provider import dag_factory
from pipcook_provider.dag_factory import load_pipeline, load_pipelines
from pipcook_provider.operators.artifact import PipcookArtifactOperator
from pipcook_provider.operators.docker import PipcookDockerOperator
from pipcook_provider.operators.prepare import PipcookPrepareOperator
from pipcook_provider.operators.stage import PipcookStageOperator

BROKEN = '{"specVersion": "2.0", "datasource": "a.py"}'


def serialized(dag: DAG) -> dict:
    """Return the DAG as Airflow's own serialization writes it to the metadata database."""
    from airflow.serialization import serialized_objects

    # Airflow 3.1 has no DagSerialization yet.
    return getattr(serialized_objects, "DagSerialization", serialized_objects.SerializedDAG).to_dict(dag)


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


def test_schedule_without_start_date_is_scheduled(write_pipeline) -> None:
    """A scheduled document needs no start_date: without one Airflow would never run it."""
    dag = load_pipeline(write_pipeline(options={"airflow": {"schedule": "@daily"}}))
    assert dag.start_date is not None
    assert dag.catchup is False


def test_trigger_form_has_typed_fields(write_pipeline) -> None:
    """Every value of options.train is a field of its own type; nested ones are flattened."""
    train = {
        "epochs": 3,
        "rate": 0.5,
        "gpu": False,
        "name": "x",
        "size": [1, 2],
        "seed": None,
        "optimizer": {"rate": 1},
    }
    dag = load_pipeline(write_pipeline(options={"train": train}))
    types = {name: dag.params.get_param(name).schema["type"] for name in dag.params}
    assert types == {
        "epochs": "integer",
        "rate": "number",
        "gpu": "boolean",
        "name": "string",
        "size": "array",
        "seed": ["null", "string", "number", "boolean"],
        "optimizer.rate": "number",
    }
    assert dag.params.dump()["epochs"] == 3
    assert dag.params.get_param("epochs").description
    with pytest.raises(Exception, match="'many' is not of type 'integer'"):
        dag.params["epochs"] = "many"


def test_dags_of_a_folder_are_named_by_their_path(write_pipeline, tmp_path) -> None:
    """Each document is a DAG; other JSON files, hidden ones and folder defaults are left alone."""
    document = write_pipeline(name="a.json")
    folder = document.parent
    (folder / "team x").mkdir()
    (folder / "team x" / "b.json").write_text(document.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "other.json").write_text('{"compilerOptions": {}}', encoding="utf-8")
    (folder / ".hidden.json").write_text(BROKEN, encoding="utf-8")
    (folder / "pipcook.defaults.json").write_text("{}", encoding="utf-8")
    (folder / "huge.json").write_text('{"specVersion": "2.0"}' + " " * 2_000_000, encoding="utf-8")
    assert set(load_pipelines(folder)) == {"a", "team_x.b"}
    assert set(load_pipelines(folder / "datasource.py")) == {"a", "team_x.b"}


def test_dags_serialize_the_same_at_every_parse(write_pipeline) -> None:
    """Nothing in a DAG changes from one parse to the next: Airflow would store a new version each time."""
    document = write_pipeline(options={"train": {"epochs": 1}, "airflow": {"schedule": "@daily", "tags": ["b", "a"]}})
    first, second = (json.dumps(serialized(load_pipeline(document)), sort_keys=True, default=str) for _ in range(2))
    assert first == second


def test_broken_document_harms_no_other(write_pipeline) -> None:
    """A broken document stands in for itself: it has no tasks, and its error comes up when Airflow stores it."""
    folder = write_pipeline(name="good.json").parent
    (folder / "broken.json").write_text(BROKEN, encoding="utf-8")
    dags = load_pipelines(folder)
    assert serialized(dags["good"])["dag"]["dag_id"] == "good"
    with pytest.raises(SerializationError, match=r'^/.*/broken.json:1:1: \$: .*"model"'):
        serialized(dags["broken"])


def test_odd_files_harm_no_document(write_pipeline) -> None:
    """Links to nowhere, pipes, folders called x.json and names too long for a dag_id leave the others as they are."""
    folder = write_pipeline(name="good.json").parent
    (folder / "nowhere.json").symlink_to(folder / "gone.json")
    (folder / "itself.json").symlink_to(folder / "itself.json")
    (folder / "folder.json").mkdir()
    (folder / "latin.json").write_bytes(b'{"name": "\xe9"}')
    os.mkfifo(folder / "pipe.json")
    deep = folder / ("x" * 200) / ("y" * 200)
    deep.mkdir(parents=True)
    (deep / "z.json").write_text((folder / "good.json").read_text(encoding="utf-8"), encoding="utf-8")
    dags = load_pipelines(folder)
    assert len(dags) == 2
    assert serialized(dags.pop("good"))
    ((dag_id, broken),) = dags.items()
    assert len(dag_id) <= 250
    with pytest.raises(SerializationError, match="250"):
        serialized(broken)


@pytest.mark.parametrize(
    "airflow",
    [
        {"schedule": "61 * * * *"},
        {"schedule": "a b c d e"},
        {"retry_delay": 1e300},
        {"execution_timeout": 1e14},
        {"start_date": "0001-01-01T00:00:00+14:00"},
        {"max_active_runs": 10**20},
        {"schedule": "@continuous", "max_active_runs": 3},
        {"tags": ["\ud800"]},
    ],
)
def test_what_airflow_cannot_take_harms_no_other(write_pipeline, airflow: dict) -> None:
    """Options that Airflow itself would choke on are errors of their document alone."""
    folder = write_pipeline(name="good.json").parent
    write_pipeline(name="bad.json", options={"airflow": airflow})
    dags = load_pipelines(folder)
    assert serialized(dags["good"])
    with pytest.raises(SerializationError, match=r"bad\.json"):
        serialized(dags["bad"])


def test_two_documents_with_one_dag_id_are_both_named(write_pipeline) -> None:
    """When two paths give the same dag_id the second is an error that names both; the first stays."""
    document = write_pipeline(name="team.a.json")
    (document.parent / "team").mkdir()
    (document.parent / "team" / "a.json").write_text(document.read_text(encoding="utf-8"), encoding="utf-8")
    dags = load_pipelines(document.parent)
    errors = []
    for dag in dags.values():
        try:
            serialized(dag)
        except Exception as exc:
            errors.append(str(exc))
    assert len(dags) == 2
    assert len(errors) == 1
    assert "team.a.json" in errors[0]
    assert "team/a.json" in errors[0]


def test_task_start_reads_one_document(write_pipeline, tmp_path) -> None:
    """When Airflow parses for one task, the other documents are not opened."""
    folder = write_pipeline(name="wanted.json").parent
    for number in range(20):
        (folder / f"other{number}.json").write_text(BROKEN, encoding="utf-8")
    program = f"""
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from pipcook_provider.dag_factory import load_pipelines
print(sorted(load_pipelines({str(folder)!r})))
print(sorted({{name.rpartition("/")[2] for name in opened if name.startswith({str(folder)!r})}}))
"""
    environment = {
        **os.environ,
        "_AIRFLOW_PARSING_CONTEXT_DAG_ID": "wanted",
        "_AIRFLOW_PARSING_CONTEXT_TASK_ID": "model",
    }
    told = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-2:] == ["['wanted']", "['wanted.json']"]


def test_documentation_shows_the_pipeline(write_pipeline) -> None:
    """The DAG's page shows a table of stages, with what a document holds made harmless."""
    dag = load_pipeline(write_pipeline(datasource="datasource.py?url=<script>|`x`"))
    assert dag.doc_md is not None
    assert "| datasource |" in dag.doc_md
    assert "<script>" not in dag.doc_md
    assert "epochs=2" in dag.doc_md


def test_linked_folders_are_followed(write_pipeline, tmp_path) -> None:
    """Documents behind a link to a folder are found, as Airflow's own DAG files are; a link in a circle does no harm."""
    document = write_pipeline(folder="real", name="a.json")
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "team").symlink_to(document.parent)
    (document.parent / "again").symlink_to(dags)
    assert set(load_pipelines(dags)) == {"team.a"}


@pytest.fixture
def fresh_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Settings that are read anew in this test, and again after it."""
    dag_factory._settings.cache_clear()
    yield monkeypatch
    dag_factory._settings.cache_clear()


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
