"""The first task of a run: what it prepares, and where it shows what a run was triggered with."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from pipcook_provider.operators.prepare import PipcookPrepareOperator


def execute(operator: PipcookPrepareOperator, **params: Any) -> dict[str, Any]:
    """Run the task as Airflow does, with these values of the trigger form; return its XCom."""
    run = SimpleNamespace(dag_id="digits", run_id="manual")
    return operator.execute({"dag_run": run, "params": params})  # type: ignore[arg-type]


def test_changes_of_a_run_are_shown(write_pipeline) -> None:
    """What the run has changed is in its XCom and its config; all that its stages run with, in the rendered fields."""
    operator = PipcookPrepareOperator(task_id="prepare", document=write_pipeline())
    assert (operator.template_fields, operator.parameters) == (("parameters",), {})
    told = execute(operator, epochs=7, **{"datasource.count": "10", "framework": None})
    assert told["changed"] == {"epochs": 7}
    assert operator.parameters == {"epochs": 7, "datasource.count": "10", "framework": None}
    assert operator.overwrite_rtif_after_execution
    config = json.loads(Path(told["workspace"], "pipeline-config.json").read_text(encoding="utf-8"))
    assert config["changedParameters"] == {"epochs": [2, 7]}


def test_run_without_changes(write_pipeline) -> None:
    """A run that is triggered with the document's own values has changed nothing."""
    told = execute(PipcookPrepareOperator(task_id="prepare", document=write_pipeline()), epochs=2)
    assert told["changed"] == {}
    assert "changedParameters" not in Path(told["workspace"], "pipeline-config.json").read_text(encoding="utf-8")


def test_long_values_do_not_swell_the_xcom(write_pipeline) -> None:
    """The XCom lies in Airflow's database: of a long value it has the beginning, the run's config all of it."""
    operator = PipcookPrepareOperator(task_id="prepare", document=write_pipeline())
    told = execute(operator, **{"datasource.count": "1" * 5000})
    assert told["changed"] == {"datasource.count": "1" * 200 + "..."}
    assert operator.parameters["datasource.count"] == "1" * 5000


def test_document_from_a_url_keeps_its_origin(write_pipeline) -> None:
    """The scripts of a copy are looked for where the document came from; defaults of the copy's folder are not its own."""
    document = write_pipeline()
    document.with_name("pipcook.defaults.json").write_text('{"options": {"train": {"more": 1}}}', encoding="utf-8")
    operator = PipcookPrepareOperator(task_id="prepare", document=document, origin="http://127.0.0.1:1/team/p.json")
    with pytest.raises(Exception, match=r"http://127\.0\.0\.1:1/team/datasource\.py"):
        execute(operator)


def test_mistaken_values_fail_at_once(write_pipeline) -> None:
    """A retry would not help: Airflow is told not to try again."""
    operator = PipcookPrepareOperator(task_id="prepare", document=write_pipeline())
    with pytest.raises(AirflowFailException, match="Did you mean 'epochs'"):
        execute(operator, epoch=1)
