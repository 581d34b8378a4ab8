"""Templates of a document, on their way to its scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from helpers import prepared

from pipcook_provider.errors import TemplateError
from pipcook_provider.stages import StageRunner
from pipcook_provider.store.workspace import Workspace
from pipcook_provider.templating import ConnectionFields, Templates
from pipcook_provider.templating.day import values_of_day

DATASOURCE = """
import json, os
from pipcook_provider.runtime import DatasetPool, Sample

def datasource(options, context):
    told = {"options": dict(options), "variables": {name: os.environ.get(name) for name in ("DAY", "DATABASE")}}
    (context.workspace.data_dir / "told.json").write_text(json.dumps(told))
    return DatasetPool.from_samples(train=[Sample(1.0)])
"""

CONNECTING = """
import os

def dataflow(dataset, options, context):
    assert len(os.environ["DATABASE"]) == len("me:******@db")
    return dataset
"""

Day = Callable[[int], StageRunner]


@pytest.fixture
def of_day(runner: StageRunner) -> Day:
    """Return what runs stages of a day of January 2026, with one connection."""
    database = ConnectionFields(host="db", login="me", password="sesame")

    def of_day(day: int) -> StageRunner:
        values = values_of_day(datetime(2026, 1, day, tzinfo=UTC), "digits", {})
        return replace(runner, templates=Templates(values.get, {"db": database}.__getitem__))

    return of_day


def told(workspace: Workspace) -> dict[str, dict[str, str]]:
    return json.loads((workspace.root / "data" / "told.json").read_text())


def files_with(folder: Path, text: str) -> list[str]:
    """Return the files of a folder that hold a text."""
    return [path.name for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_queries_are_rendered_when_the_run_is_prepared(of_day: Day, heard, write_pipeline, tmp_path) -> None:
    """Each run's scripts get its own values; they stand in its document, and the log tells what became of what."""
    reference = "datasource.py?url=data/{{ ds }}.csv&kept=a%20b&flag&day={{ macros.ds_add(ds, 1) }}&day=last"
    document = write_pipeline(datasource=reference, scripts={"datasource.py": DATASOURCE})
    for day in (1, 2):
        workspace = prepared(of_day(day), document, tmp_path / f"run{day}")
        of_day(day).run(workspace, "datasource")
        assert told(workspace)["options"] == {
            "day": [f"2026-01-0{day + 1}", "last"],
            "flag": None,
            "kept": "a b",
            "url": f"data/2026-01-0{day}.csv",
        }
        assert "{{" not in workspace.config.read_text()
    assert json.loads(document.read_text())["datasource"] == reference
    lines = [message.text for message in heard.messages if " -> " in getattr(message, "text", "")]
    assert lines[1] == "datasource.url: data/{{ ds }}.csv -> data/2026-01-01.csv"
    assert len(lines) == 4


def test_queries_of_all_scripts_are_rendered(of_day: Day, write_pipeline, tmp_path) -> None:
    """Datasource, every dataflow script and the model's script may have templates; other values are not rendered."""
    document = write_pipeline(
        datasource="datasource.py?count={{ 2 + 3 }}",
        dataflow=["dataflow.py?a={{ ds }}", "dataflow.py?a=1"],
        model="model.py?tag={{ ds_nodash }}",
        options={"train": {"note": "{{ ds }}"}},
    )
    config = json.loads(prepared(of_day(3), document, tmp_path / "run").config.read_text())
    assert config["datasource"] == "datasource.py?count=5"
    assert config["dataflow"] == ["dataflow.py?a=2026-01-03", "dataflow.py?a=1"]
    assert config["model"] == "model.py?tag=20260103"
    assert config["options"]["train"] == {"note": "{{ ds }}"}


@pytest.mark.parametrize("character", ["&", "=", "+", "%", "#", "?", " ", "/", "'", '"', "{{", "中", "%26", "\n", "😀"])
def test_any_character_survives(of_day: Day, write_pipeline, tmp_path, character) -> None:
    """What a template becomes is the script's parameter to the letter, whatever a URI makes of such characters."""
    runner = of_day(1)
    values = Templates({"params": {"x": f"a{character}b"}}.get)
    document = write_pipeline(datasource="datasource.py?x={{ params.x }}", scripts={"datasource.py": DATASOURCE})
    workspace = prepared(replace(runner, templates=values), document, tmp_path / "run")
    runner.run(workspace, "datasource")
    assert told(workspace)["options"] == {"x": f"a{character}b"}


def test_half_a_character_is_refused(runner: StageRunner, write_pipeline, tmp_path) -> None:
    """What no URI can carry is an error of the template."""
    values = Templates({"params": {"x": "a\ud800"}}.get)
    with pytest.raises(TemplateError, match=r"The templates of datasource: datasource\.py .*half of one"):
        prepared(
            replace(runner, templates=values),
            write_pipeline(datasource="datasource.py?x={{ params.x }}"),
            tmp_path / "r",
        )


def test_what_a_run_is_triggered_with_is_rendered_too(of_day: Day, write_pipeline, tmp_path) -> None:
    """Templates are rendered after the run's own changes were made."""
    document = write_pipeline(datasource="datasource.py?count=3&url={{ ds }}")
    workspace = prepared(of_day(4), document, tmp_path / "run", {"datasource.url": "new/{{ ds_nodash }}"})
    assert json.loads(workspace.config.read_text())["datasource"] == "datasource.py?count=3&url=new/20260104"


def test_variables_are_rendered_for_each_stage_and_kept_nowhere(of_day: Day, heard, write_pipeline, tmp_path) -> None:
    """A script has the password in its environment; no file of the run and no line of the log has it."""
    env = {"DAY": "{{ ds }}", "DATABASE": "{{ conn.db.login }}:{{ conn.db.password }}@{{ conn.db.host }}"}
    document = write_pipeline(
        datasource="datasource.py?day={{ ds }}",
        options={"train": {}, "airflow": {"env": env}},
        scripts={"dataflow.py": CONNECTING},
    )
    workspace = prepared(of_day(1), document, tmp_path / "run")
    for task_id in ("datasource", "dataflow_1", "model", "artifact_1"):
        of_day(1).run(workspace, task_id)
    assert json.loads(workspace.config.read_text())["options"]["airflow"]["env"] == env
    assert files_with(tmp_path / "run", "sesame") == []
    assert files_with(tmp_path / "home", "sesame") == []
    assert not [message for message in heard.messages if "sesame" in str(message)]
    assert not [line for line in heard.lines if "sesame" in line]


def test_variables_reach_the_script(of_day: Day, write_pipeline, tmp_path) -> None:
    """What a stage is launched with is rendered at that moment, also when it is cleared and run again."""
    env = {"DAY": "{{ ds }}", "DATABASE": "{{ conn.db.password }}"}
    options = {"train": {}, "airflow": {"env": env}}
    document = write_pipeline(options=options, scripts={"datasource.py": DATASOURCE})
    workspace = prepared(of_day(1), document, tmp_path / "run")
    for _ in range(2):
        of_day(1).run(workspace, "datasource")
        assert told(workspace)["variables"] == {"DAY": "2026-01-01", "DATABASE": "sesame"}


def test_variables_that_cannot_be_rendered_fail_prepare(of_day: Day, write_pipeline, tmp_path) -> None:
    """A template that cannot be rendered is found before anything is fetched, and nothing is left of the run."""
    options = {"airflow": {"env": {"DAY": "{{ day }}"}}}
    with pytest.raises(TemplateError, match=r"^The variable DAY of options\.airflow\.env is the template '{{ day }}'"):
        prepared(of_day(1), write_pipeline(options=options), tmp_path / "run")
    with pytest.raises(TemplateError, match=r"^The parameter datasource\.x is the template '{{ day }}'"):
        prepared(of_day(1), write_pipeline(datasource="datasource.py?x={{ day }}"), tmp_path / "other")
    assert not (tmp_path / "run" / "pipeline-config.json").exists()


@pytest.mark.parametrize("character", ["\0", "\ud800"])
def test_variable_that_no_environment_can_hold(runner: StageRunner, write_pipeline, tmp_path, character) -> None:
    """A value that would keep a process from starting is an error of the template."""
    values = Templates({"params": {"x": character}}.get)
    document = write_pipeline(options={"airflow": {"env": {"X": "{{ params.x }}"}}})
    with pytest.raises(TemplateError, match=r"^The variable X of .* the character NUL or half a character"):
        prepared(replace(runner, templates=values), document, tmp_path / "run")


def test_password_in_a_query_is_refused(of_day: Day, write_pipeline, tmp_path) -> None:
    """A query is kept in the run's folder and logged: passwords belong into the environment, and the error says so."""
    document = write_pipeline(datasource="datasource.py?login={{ conn.db.password }}")
    with pytest.raises(
        TemplateError, match=r"datasource\.login is .*'password' of a connection.*options\.airflow\.env"
    ):
        prepared(of_day(1), document, tmp_path / "run")


def test_stage_that_is_taken_over_needs_no_connection(of_day: Day, write_pipeline, tmp_path) -> None:
    """Who takes over a stage does not render again what its process was given."""
    runner = of_day(1)
    options = {"airflow": {"env": {"DATABASE": "{{ conn.db.password }}"}}}
    workspace = prepared(runner, write_pipeline(options=options), tmp_path / "run")
    assert runner.begin(workspace, "datasource").launch.environment == {"DATABASE": "sesame"}
    without = replace(runner, templates=Templates())
    assert without.resume(workspace, "datasource", outlives=60).launch.environment == {}
