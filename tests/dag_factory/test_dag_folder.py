"""All documents of a dags folder, through one loader."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from airflow.exceptions import SerializationError
from dag_bags import LOADER, dag_bag, serialized

from pipcook_provider.dag_factory import load_pipelines
from pipcook_provider.run_marker import RUN_MARKER

BROKEN = '{"specVersion": "2.0", "datasource": "a.py"}'


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


def test_folders_of_runs_and_names_that_are_no_text_hold_no_documents(write_pipeline) -> None:
    """What was trained in the folder is no pipeline of it, and a name that is no UTF-8 harms no other."""
    document = write_pipeline(name="a.json")
    text = document.read_text(encoding="utf-8")
    run = document.parent / "run"
    (run / "model").mkdir(parents=True)
    (run / RUN_MARKER).touch()
    for path in (run / "pipeline-config.json", run / "model" / "pipeline.json", document.with_name("caf\udce9.json")):
        path.write_text(text, encoding="utf-8")
    assert set(load_pipelines(document.parent)) == {"a"}


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


def test_document_too_far_down_has_a_short_place(write_pipeline) -> None:
    """A path that Airflow's database has no room for would end its DAG processors: an error is filed under its end."""
    folder = write_pipeline(name="good.json").parent
    deep = folder.joinpath(*("x" * 200 for _ in range(6)))
    deep.mkdir(parents=True)
    (deep / "far.json").write_text('{"datasource": ', encoding="utf-8")
    dags = load_pipelines(folder)
    del dags["good"]
    ((_, broken),) = dags.items()
    broken.relative_fileloc = "loader.py"
    broken.validate()
    assert broken.relative_fileloc.startswith("...x")
    assert broken.relative_fileloc.endswith("x/far.json")
    assert len(broken.relative_fileloc) == 1000


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


def test_linked_folders_are_followed(write_pipeline, tmp_path) -> None:
    """Documents behind a link to a folder are found, as Airflow's own DAG files are; a link in a circle does no harm."""
    document = write_pipeline(folder="real", name="a.json")
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "team").symlink_to(document.parent)
    (document.parent / "again").symlink_to(dags)
    assert set(load_pipelines(dags)) == {"team.a"}


def test_errors_are_filed_under_the_document(write_pipeline) -> None:
    """In a real importer the loader has no error, and the error of a broken document bears the document's path."""
    folder = write_pipeline(name="good.json").parent
    (folder / "broken.json").write_text(BROKEN, encoding="utf-8")
    write_pipeline(name="executor.json", options={"airflow": {"executor": "Nobody"}})
    (folder / "loader.py").write_text(LOADER, encoding="utf-8")
    bag = dag_bag(folder / "loader.py", folder)
    assert bag.import_errors == {}
    assert {dag_id: dag.relative_fileloc for dag_id, dag in bag.dags.items()} == {
        "good": "loader.py",
        "broken": "broken.json",
        "executor": "executor.json",
    }
    with pytest.raises(
        SerializationError, match=r'executor\.json:\d+:\d+: .*airflow\.executor: Expected an executor .*found "Nobody"'
    ):
        serialized(bag.dags["executor"])
