"""Whom a failed run is told to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import BaseNotifier
from dag_bags import serialized

from pipcook_provider.dag_factory import load_pipeline
from pipcook_provider.errors import SpecError


class Told(BaseNotifier):
    """A notifier that keeps what it is made of."""

    def __init__(self, to: str = "nobody") -> None:
        super().__init__()
        self.to = to

    def notify(self, context: Any) -> None:
        context["told"].append(self.to)


class Mute:
    """None, though it could be made."""


class Broken(BaseNotifier):
    """One that lacks something."""

    def __init__(self) -> None:
        raise RuntimeError("no server")


@pytest.fixture
def known(fresh_settings: pytest.MonkeyPatch) -> None:
    """Notifiers in the settings."""
    table = {
        "team": {"classpath": f"{__name__}.Told", "kwargs": {"to": "team@example.com"}},
        "boss": {"classpath": f"{__name__}.Told"},
        "gone": {"classpath": "no_such_package.Notifier"},
        "other": {"classpath": f"{__name__}.Mute"},
        "broken": {"classpath": f"{__name__}.Broken"},
        "wrong": {"classpath": f"{__name__}.Told", "kwargs": {"address": "x"}},
    }
    fresh_settings.setenv("PIPCOOK_NOTIFIERS", json.dumps(table))


@pytest.mark.usefixtures("known")
def test_notifiers_are_told_once_a_run(write_pipeline) -> None:
    """The DAG, not each task, tells the notifiers that its document names, in their order."""
    dag = load_pipeline(write_pipeline(options={"airflow": {"on_failure": ["team", "boss"]}}))
    told: list[str] = []
    for notifier in dag.on_failure_callback:
        notifier({"dag": dag, "told": told})
    assert told == ["team@example.com", "nobody"]
    assert not any(task.on_failure_callback for task in dag.tasks)
    assert serialized(dag)["dag"]["has_on_failure_callback"] is True
    assert "team@example.com" not in json.dumps(serialized(dag), default=str)


@pytest.mark.usefixtures("known")
def test_nobody_is_told_unless_named(write_pipeline) -> None:
    """A document that names no notifier imports none."""
    dag = load_pipeline(write_pipeline())
    assert not dag.on_failure_callback
    assert not serialized(dag)["dag"].get("has_on_failure_callback")


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tean", r'found "tean", so nobody would be told\. They have team, boss, .*Did you mean "team"\?'),
        ("gone", r"no_such_package\.Notifier cannot be used: ModuleNotFoundError: .*install what it needs"),
        ("other", "it is no BaseNotifier"),
        ("broken", "RuntimeError: no server"),
        ("wrong", "unexpected keyword argument 'address'"),
    ],
)
def test_unusable_notifiers_are_errors_of_the_document(write_pipeline, name: str, message: str) -> None:
    """The error names the place in the document, and what the settings have."""
    document = write_pipeline(options={"airflow": {"on_failure": name}})
    with pytest.raises(SpecError, match=message) as raised:
        load_pipeline(document)
    assert str(raised.value).startswith(f"{document}:16:21: $.options.airflow.on_failure: ")


def test_workers_need_no_notifiers(write_pipeline, fresh_settings) -> None:
    """Airflow's DAG processor tells of a failed run: where a task is parsed for, the settings may lack the notifiers."""
    fresh_settings.delenv("PIPCOOK_NOTIFIERS", raising=False)
    document = write_pipeline(options={"airflow": {"on_failure": "team"}})
    fresh_settings.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "pipeline")
    fresh_settings.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "model")
    assert not load_pipeline(document).on_failure_callback


def test_settings_without_notifiers(write_pipeline, fresh_settings) -> None:
    """Where the settings have no notifier, the error says so."""
    fresh_settings.delenv("PIPCOOK_NOTIFIERS", raising=False)
    with pytest.raises(SpecError, match="They have none"):
        load_pipeline(write_pipeline(options={"airflow": {"on_failure": "team"}}))
