"""Templates of documents that the command trains from."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipcook_provider.cli import main
from pipcook_provider.settings import Settings
from pipcook_provider.templating import ConnectionFields

DATASOURCE = """
import os
from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    (context.workspace.data_dir / "told.txt").write_text(f"{options['url']} {os.environ.get('HOST')}")
    return DatasetPool.from_samples(train=[Sample(1.0)])
"""


@pytest.fixture
def document(write_pipeline) -> Path:
    return write_pipeline(datasource="datasource.py?url={{ ds }}.csv", scripts={"datasource.py": DATASOURCE})


def told(folder: Path) -> str:
    return (folder / "data" / "told.txt").read_text()


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("2026-01-02", "2026-01-02.csv"),
        ("2026-01-02T23:30", "2026-01-02.csv"),
        ("2026-01-02T23:30:00-05:00", "2026-01-02.csv"),
    ],
)
def test_logical_date(document: Path, tmp_path: Path, date: str, expected: str) -> None:
    """A day's run is made here as Airflow would make it."""
    assert main(["train", str(document), "-o", str(tmp_path / "out"), "--logical-date", date]) == 0
    assert told(tmp_path / "out") == f"{expected} None"


def test_now_by_default(document: Path, tmp_path: Path) -> None:
    """Without a date templates stand for this moment, as in a run that is triggered by hand."""
    before = datetime.now(UTC).date()
    assert main(["train", str(document), "-o", str(tmp_path / "out")]) == 0
    after = datetime.now(UTC).date()
    assert told(tmp_path / "out") in {f"{day}.csv None" for day in (before, after)}


def test_other_values(write_pipeline, tmp_path: Path) -> None:
    """The run's id, its parameters and its document's name are there too."""
    model = "model.py?a={{ run_id }}&b={{ params.epochs }}&c={{ dag_run.dag_id }}&d={{ params['datasource.count'] }}"
    command = ["train", str(write_pipeline(model=model)), "-o", str(tmp_path / "out"), "--logical-date", "2026-01-02"]
    assert main(command) == 0
    config = json.loads((tmp_path / "out" / "pipeline-config.json").read_text())
    assert config["model"] == "model.py?a=manual__2026-01-02T00:00:00%2B00:00&b=2&c=pipeline&d=10"


def test_date_that_is_none(document: Path, capfd) -> None:
    """A date of another form is wrong usage."""
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(document), "--logical-date", "yesterday"])
    assert "expected a date such as 2026-01-01" in capfd.readouterr().err


def test_connections_need_airflow(write_pipeline, tmp_path: Path, capfd) -> None:
    """The command has no connections, and says which one has."""
    options = {"airflow": {"env": {"HOST": "{{ conn.db.host }}"}}}
    assert main(["train", str(write_pipeline(options=options)), "-o", str(tmp_path / "out")]) == 1
    assert "The variable HOST of options.airflow.env" in (err := capfd.readouterr().err)
    assert "airflow pipcook train" in err
    assert not (tmp_path / "out").exists()


def test_connections_of_airflow(write_pipeline, tmp_path: Path) -> None:
    """airflow pipcook hands in what has connections, which is asked with the settings."""
    asked: list[Any] = []

    def find_connection(settings: Settings, conn_id: str) -> ConnectionFields:
        asked.append((settings.template_connections, conn_id))
        return ConnectionFields(host="there")

    document = write_pipeline(
        datasource="datasource.py?url=x",
        scripts={"datasource.py": DATASOURCE},
        options={"airflow": {"env": {"HOST": "{{ conn.db.host }}"}}},
    )
    assert main(["train", str(document), "-o", str(tmp_path / "out")], find_connection=find_connection) == 0
    assert told(tmp_path / "out") == "x there"
    assert set(asked) == {((), "db")}


def test_document_without_templates_needs_no_jinja(write_pipeline, tmp_path: Path) -> None:
    """Neither Jinja nor what reckons with dates is loaded where nothing is to be rendered."""
    program = (
        "import sys\nfrom pipcook_provider.cli import main\n"
        f"assert main(['train', {str(write_pipeline())!r}, '-o', {str(tmp_path / 'out')!r}]) == 0\n"
        "assert not {'jinja2', 'pendulum', 'airflow'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
