"""What Airflow's context and connections give to the templates of documents, and what of documents reaches Airflow's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest
from airflow.exceptions import AirflowException
from airflow.sdk.api.datamodels._generated import DagRunType
from airflow.sdk.log import mask_secret, redact
from lazy_object_proxy import Proxy

from pipcook_provider.dag_factory import load_pipeline
from pipcook_provider.errors import ScriptError, TemplateError
from pipcook_provider.operators.base import TaskLog, airflow_errors
from pipcook_provider.operators.templates import templates_of
from pipcook_provider.runtime.messages import Log
from pipcook_provider.settings import Settings

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


def context_of(**more: Any) -> Any:
    """Return as much of a task's context as Airflow has for a run that was triggered without a date."""
    run = SimpleNamespace(
        dag_id="digits", run_id="manual", run_type=DagRunType.MANUAL, logical_date=None, run_after=MOMENT, conf=None
    )
    return {"dag_run": run, "run_id": "manual", "params": {"epochs": 2}, "ti": object(), **more}


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Settings:
    """Return settings that allow connections of which Airflow has one."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_DB",
        '{"conn_type": "postgres", "host": "db", "port": 5432, "password": "sesame", "extra": {"a": "b"}}',
    )
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "http://user:password@host")
    return replace(settings, template_connections=("db", "missing"))


def rendered(text: str, settings: Settings, *, secrets: bool = False, **context: Any) -> str:
    return templates_of(context_of(**context), settings).render(text, "The parameter x", secrets=secrets)


def test_values_are_those_of_the_context(settings: Settings) -> None:
    """Names mean what they mean in Airflow's own templates."""
    date = pendulum.instance(MOMENT)
    given = {"logical_date": date, "ds": "2026-01-02", "data_interval_end": date.add(days=1)}
    assert (
        rendered("{{ ds }} {{ data_interval_end | ds }} {{ params.epochs }}", settings, **given)
        == "2026-01-02 2026-01-03 2"
    )
    told = "{{ dag_run.dag_id }} {{ dag_run.run_type }} {{ dag_run.run_after | ds }} {{ dag_run.conf.day | default('none') }}"
    assert rendered(told, settings) == "digits manual 2026-01-02 none"


def test_run_without_a_logical_date(settings: Settings) -> None:
    """A run that was triggered without a date has no ds; the error says what it has."""
    with pytest.raises(TemplateError, match=r"no logical date.*dag_run\.run_after"):
        rendered("{{ ds }}", settings)
    assert rendered("{{ ds | default('today') }}", settings) == "today"


def test_former_runs_are_looked_up_when_named(settings: Settings) -> None:
    """Airflow asks its server for former runs only where a template names them; there may be none."""
    former = Proxy(lambda: pendulum.instance(MOMENT))
    assert rendered("{{ prev_start_date_success | ds }}", settings, prev_start_date_success=former) == "2026-01-02"
    none = Proxy(lambda: None)
    assert rendered("{{ prev_start_date_success or 'none' }}", settings, prev_start_date_success=none) == "none"
    never = Proxy(lambda: pytest.fail("looked up"))
    assert rendered("{{ run_id }}", settings, prev_start_date_success=never) == "manual"


def test_allowed_connection(connections: Settings) -> None:
    """A connection that the settings allow gives its fields, its secrets to variables only, and logs hide what they become."""
    assert (
        rendered("{{ conn.db.conn_type }}://{{ conn.db.host }}:{{ conn.db.port }}", connections) == "postgres://db:5432"
    )
    text = "{{ conn.db.password.upper() }}/{{ conn.db.extra_dejson.a }}"
    assert rendered(text, connections, secrets=True) == "SESAME/b"
    assert redact("log: SESAME/b and sesame") == "log: *** and ***"


def test_other_connections_are_refused(connections: Settings) -> None:
    """A connection that is not allowed is not even looked up, and the error names the option."""
    with pytest.raises(TemplateError, match=r"\[pipcook\] template_connections allows \(db, missing\), found 'other'"):
        rendered("{{ conn.other.host }}", connections)
    with pytest.raises(TemplateError, match=r"allows \(none\), found 'db'"):
        rendered("{{ conn.db.host }}", replace(connections, template_connections=()))


def test_missing_connection(connections: Settings) -> None:
    """An allowed connection that Airflow does not have is an error with what to do."""
    with pytest.raises(TemplateError, match=r"the connection 'missing'.*AIRFLOW_CONN_MISSING"):
        rendered("{{ conn.missing.host }}", connections)


HOSTILE = "{{ macros.uuid.os.system('id') }}"


@pytest.mark.parametrize("runner", ["process", "docker"])
def test_nothing_of_a_document_reaches_airflows_templates(write_pipeline: Callable[..., Path], runner: str) -> None:
    """Airflow renders templated arguments of operators without Pipcook's rules: none of them holds a text of a document."""
    airflow = {
        "runner": runner,
        "env": {"A": HOSTILE},
        "stages": {"model": {"image": HOSTILE, "queue": HOSTILE}},
        **dict.fromkeys(("image", "description", "owner", "queue", "pool"), HOSTILE),
    }
    document = write_pipeline(
        datasource=f"datasource.py?a={HOSTILE}",
        model=f"model.py?a={HOSTILE}",
        options={"train": {"a": HOSTILE}, "framework": None, "airflow": airflow},
        artifact=[{"processor": "pipcook-artifact-zip@0.0.2", "target": HOSTILE}],
    )
    dag = load_pipeline(document)
    assert len(dag.tasks) == 5
    for task in dag.tasks:
        for name in task.template_fields:
            assert "uuid" not in repr(getattr(task, name)), (task.task_id, name)
        assert not task.on_execute_callback
    assert not (dag.doc_md or "").endswith(".md")


def test_log_hides_secrets() -> None:
    """What a stage prints, tells and fails with hides the secrets that Airflow knows, before any log sees it."""
    mask_secret("swordfish-9")
    lines: list[str] = []
    log = SimpleNamespace(
        **dict.fromkeys(("info", "warning", "error"), lambda form, *given: lines.append(form % given))
    )
    TaskLog(log).output("printed swordfish-9")
    TaskLog(log).message(Log("warning", "told swordfish-9"))
    with pytest.raises(AirflowException, match=r"^raised \*\*\*$"), airflow_errors(log):
        raise ScriptError("raised swordfish-9", details="line swordfish-9")
    assert lines == ["printed ***", "told ***", "line ***"]
