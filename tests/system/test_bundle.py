"""Pipeline documents as DAG files of their own, in a real Airflow."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow_server import Airflow, running_airflow, wait_for
from dag_bags import LOADER
from http_server import Server, serving
from postgresql import PostgreSQL

#: Folders are looked at, and files parsed again, every second or two. The secret is one that Airflow would make up for
#: itself in a configuration file of its own.
CONFIGURATION = """
[dag_processor]
min_file_process_interval = 2
refresh_interval = 1
bundle_refresh_check_interval = 1
[api_auth]
jwt_secret = c2VjcmV0IG9mIGEgdGVzdCB0aGF0IGxpc3RlbnMgb24gbG9vcGJhY2sgb25seQ==
[pipcook]
notifiers = {"team": {"classpath": "team_notifier.ToFile"}}
"""

NOTIFIER = """
from pathlib import Path
from airflow.sdk import BaseNotifier

class ToFile(BaseNotifier):
    def notify(self, context):
        with open(Path(__file__).resolve().parent / "told.txt", "a") as told:
            told.write(context["run_id"] + chr(10))
"""

SCRIPT = """
from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    return DatasetPool.from_samples(train=[Sample(1.0), Sample(2.0)])

def train(runtime, options, context):
    runtime.log_metric("total", sum(sample.data for sample in runtime.dataset.train))
    runtime.save_model(b"done", "model.txt")
"""

ORDINARY = """
from pathlib import Path
from airflow.sdk import dag, task
from team_helper import NAME

number = (Path(__file__).parent / "number.txt").read_text().strip()

@dag(dag_id=f"{NAME}_{number}", schedule=None)
def ordinary():
    @task
    def tell():
        return (Path(__file__).parent / "number.txt").read_text().strip()
    tell()

ordinary()
"""


#: The DAGs; the last one is that of a git repository.
GOOD = {"good", "remote", "team.spam", "ordinary_7", "kept"}


def write_document(folder: Path, name: str, **changes: Any) -> Path:
    document = {"specVersion": "2.0", "datasource": "script.py", "model": "script.py", "artifact": [], **changes}
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return path


def commit(repository: Path, epochs: int) -> str:
    """Commit a pipeline into a git repository; return the commit."""

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
        command = ["git", *who, *arguments]
        return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True).stdout.strip()

    if not repository.exists():
        repository.mkdir()
        git("init", "--initial-branch=main")
        (repository / "script.py").write_text(SCRIPT, encoding="utf-8")
    write_document(repository, "kept.json", options={"train": {"epochs": epochs}})
    git("add", "--all")
    git("commit", "--message=x")
    return git("rev-parse", "HEAD")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL, server: Server) -> Iterator[Airflow]:
    """An Airflow with documents good and bad, an ordinary DAG file, the loader of plain folders, and one from the web."""
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    (dags / "team").mkdir(parents=True)
    files = {
        "script.py": SCRIPT,
        "ordinary.py": ORDINARY,
        "team_helper.py": 'NAME = "ordinary"',
        "team_notifier.py": NOTIFIER,
        "number.txt": "7",
        "package.json": '{"name": "no pipeline"}',
        "pipcook_dags.py": LOADER,
    }
    for name, text in files.items():
        (dags / name).write_text(text, encoding="utf-8")
    write_document(dags, "good.json")
    write_document(dags, "broken.json", datasource=3)
    write_document(dags, "team.spam.json")
    write_document(dags, "team/spam.json", datasource="../script.py", model="../script.py")
    server.put("/web/script.py", SCRIPT.encode())
    url = server.put("/web/remote.json", write_document(home, "remote.json").read_bytes())
    (home / "airflow.cfg").write_text(CONFIGURATION, encoding="utf-8")
    commit(home / "repository", 1)
    kwargs = {"repo_url": str(home / "repository"), "tracking_ref": "main"}
    git = {"classpath": "airflow.providers.git.bundles.git.GitDagBundle", "kwargs": kwargs}
    # Airflow 3.1 forgets the bundles that stand before one whose connection it looks for in vain.
    over = {"git": {"bundle": git, "refresh_interval": 1}, "pipelines": {"documents": [url]}}
    bundles = [
        {"name": name, "classpath": "pipcook_provider.bundles.PipcookDagBundle", "kwargs": kwargs}
        for name, kwargs in over.items()
    ]
    with running_airflow(home, dags, bundles, postgresql.database(home)) as airflow:
        wait_for(lambda: set(live(airflow)), GOOD.__eq__)
        yield airflow


def live(airflow: Airflow) -> dict[str, dict[str, Any]]:
    return {dag["dag_id"]: dag for dag in airflow.request("GET", "dags")["dags"] if not dag["is_stale"]}


def test_every_document_is_a_dag_file_of_its_own(airflow: Airflow) -> None:
    """Each DAG has its file, and is shown by its document; the loader of plain folders adds nothing."""
    files = {dag_id: dag["relative_fileloc"] for dag_id, dag in live(airflow).items()}
    assert files == {
        "good": "good.json.py",
        "remote": "remote.json.py",
        "team.spam": "team.spam.json.py",
        "ordinary_7": "ordinary.py",
        "kept": "kept.json.py",
    }
    assert airflow.request("GET", "dagSources/good")["content"] == (airflow.dags / "good.json").read_text()


def test_two_documents_of_one_name_are_both_named(airflow: Airflow) -> None:
    """The first keeps its DAG; the second is an import error of its own."""
    error = wait_for(airflow.import_errors, lambda errors: "team/spam.json.py" in errors)["team/spam.json.py"]
    last = error.rstrip().splitlines()[-1]
    assert [name for name in ("team/spam.json", "team.spam.json") if str(airflow.dags / name) not in last] == []


def test_pipelines_run(airflow: Airflow) -> None:
    """A document of the folder and one from the web train, each with the scripts beside it; the ordinary DAG runs."""
    runs = {dag_id: airflow.trigger(dag_id) for dag_id in ("good", "remote", "ordinary_7")}
    states = {dag_id: airflow.finished(dag_id, run_id) for dag_id, run_id in runs.items()}
    assert states == dict.fromkeys(runs, "success")
    for dag_id in ("good", "remote"):
        assert airflow.result(dag_id, runs[dag_id], "model")["metrics"] == {"total": 3.0}
    assert str(airflow.result("ordinary_7", runs["ordinary_7"], "tell")) == "7"


def test_failed_run_is_told_once(airflow: Airflow) -> None:
    """The notifier that a document names hears of each failed run, and of that only."""
    write_document(airflow.dags, "failing.json", model="gone.py", options={"airflow": {"on_failure": "team"}})
    wait_for(lambda: "failing" in live(airflow), bool)
    runs = [airflow.trigger("failing") for _ in range(2)]
    assert [airflow.finished("failing", run_id) for run_id in runs] == ["failed", "failed"]
    told = airflow.dags / "told.txt"
    wait_for(lambda: told.exists() and len(told.read_text().splitlines()) >= len(runs), bool)
    (airflow.dags / "failing.json").unlink()
    wait_for(lambda: "failing" in live(airflow), False.__eq__)
    assert sorted(told.read_text().splitlines()) == sorted(runs)


ODD = """
def train(runtime, options, context):
    runtime.log_metric("loss", float("nan"))
    runtime.log_metric("a\\0b \\ud800", 1.0)
    runtime.save_model(b"done", "model.txt")
"""


def test_what_the_database_cannot_hold_harms_nothing(airflow: Airflow) -> None:
    """Neither NUL in a query nor a long schedule ends a DAG processor, and a script's odd figures cost no trained model."""
    (airflow.dags / "odd.py").write_text(ODD, encoding="utf-8")
    minutes = ",".join(map(str, range(60)))
    write_document(
        airflow.dags, "long.json", options={"airflow": {"schedule": f"{minutes} {minutes[:61]} 1 1,2,3 1,2,3,4"}}
    )
    write_document(airflow.dags, "nul.json", datasource="script.py?name=%00")
    write_document(airflow.dags, "odd.json", model="odd.py")
    error = wait_for(airflow.import_errors, lambda errors: "nul.json.py" in errors)["nul.json.py"]
    assert "nul.json:3:17: $.datasource: Expected the URI or path of a script" in error
    wait_for(
        lambda: airflow.import_errors().get("long.json.py", ""), lambda text: "longer than Airflow can keep" in text
    )
    wait_for(lambda: "odd" in live(airflow), bool)
    run_id = airflow.trigger("odd")
    assert airflow.finished("odd", run_id) == "success"
    assert airflow.result("odd", run_id, "model")["metrics"] == {"loss": None, "a\ufffdb \ufffd": 1.0}
    for name in ("nul.json", "long.json", "odd.json"):
        (airflow.dags / name).unlink()
    wait_for(lambda: set(airflow.import_errors()), lambda names: names.isdisjoint({"nul.json.py", "long.json.py"}))
    wait_for(lambda: "odd" in live(airflow), False.__eq__)


def test_broken_document_is_its_own_import_error(airflow: Airflow) -> None:
    """Place and remedy end the error; its neighbours stay; mended it is a DAG, removed it is none."""
    error = wait_for(airflow.import_errors, lambda errors: "broken.json.py" in errors)["broken.json.py"]
    last = error.rstrip().splitlines()[-1]
    assert f"{airflow.dags / 'broken.json'}:3:17: $.datasource: Expected a string" in last
    assert last.endswith('Write "3".')
    assert not any(dag["has_import_errors"] for dag in live(airflow).values())
    write_document(airflow.dags, "broken.json")
    wait_for(lambda: set(live(airflow)), lambda dag_ids: "broken" in dag_ids)
    wait_for(lambda: set(airflow.import_errors()), {"team/spam.json.py"}.__eq__)
    (airflow.dags / "broken.json").unlink()
    wait_for(lambda: set(live(airflow)), GOOD.__eq__)
    assert set(airflow.import_errors()) == {"team/spam.json.py"}


def test_edited_document_changes_its_dag_only(airflow: Airflow) -> None:
    """The new text is shown, and no other DAG gets a new version."""
    versions = {dag_id: version(airflow, dag_id) for dag_id in live(airflow)}
    write_document(airflow.dags, "good.json", options={"train": {"epochs": 3}})
    text = (airflow.dags / "good.json").read_text()
    wait_for(lambda: airflow.request("GET", "dagSources/good")["content"], text.__eq__)
    wait_for(lambda: version(airflow, "good"), lambda found: found != versions["good"])
    changed = {dag_id for dag_id, before in versions.items() if version(airflow, dag_id) != before}
    assert changed == {"good"}


def version(airflow: Airflow, dag_id: str) -> int:
    return max(
        found["version_number"] for found in airflow.request("GET", f"dags/{dag_id}/dagVersions")["dag_versions"]
    )


def test_run_keeps_the_version_that_it_began_with(airflow: Airflow) -> None:
    """A run that is cleared after a newer commit prepares with the document of its own commit; a new run has the newer one."""
    run_id = airflow.trigger("kept")
    assert airflow.finished("kept", run_id) == "success"
    newer = commit(airflow.dags.parent / "repository", 2)
    versions = wait_for(
        lambda: [one["bundle_version"] for one in airflow.request("GET", "dags/kept/dagVersions")["dag_versions"]],
        lambda found: newer in found,
    )
    assert len(set(versions)) == 2
    clear = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "run_on_latest_version": False}
    airflow.request("POST", "dags/kept/clearTaskInstances", json=clear)
    again = wait_for(
        lambda: airflow.tasks("kept", run_id)["model"],
        lambda task: task["try_number"] == 2 and task["state"] in ("success", "failed"),
    )
    assert again["state"] == "success"
    latest = airflow.trigger("kept")
    assert airflow.finished("kept", latest) == "success"
    assert [epochs(airflow, one) for one in (run_id, latest)] == [1, 2]


def epochs(airflow: Airflow, run_id: str) -> int:
    """Return what a run has trained with."""
    workspace = Path(airflow.result("kept", run_id, "prepare")["workspace"])
    found: int = json.loads((workspace / "pipeline-config.json").read_text(encoding="utf-8"))["options"]["train"][
        "epochs"
    ]
    return found
