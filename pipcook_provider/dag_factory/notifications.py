"""Whom a failed run is told to: the notifiers of the ``[pipcook]`` settings that a document names."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from airflow.sdk import BaseNotifier, get_parsing_context

from pipcook_provider.dag_factory.refusal import Refuse
from pipcook_provider.spec import AirflowOptions
from pipcook_provider.spec.names import did_you_mean

_PATH = ("options", "airflow", "on_failure")


def notifiers(airflow: AirflowOptions, known: Mapping[str, Mapping[str, Any]], refuse: Refuse) -> list[BaseNotifier]:
    """Return the notifiers that a document names in ``on_failure``; none where Airflow parses for a task.

    Airflow's DAG processor tells them: a worker need neither know them nor have what they need.

    :param known: class path and arguments of notifiers by name.
    :raises SpecError: one is not known, or cannot be had.
    """
    if get_parsing_context().task_id is not None:
        return []
    found = []
    for name in airflow.on_failure:
        if name not in known:
            names = tuple(known)
            has = f"They have {', '.join(names)}" if names else "They have none"
            raise refuse(
                _PATH,
                f'Expected the name of a notifier of the settings ([pipcook] notifiers), found "{name}", so nobody would '
                f"be told. {has}.{did_you_mean(name, names)} Correct it, or add it there.",
            )
        try:
            found.append(_notifier(**known[name]))
        except Exception as exc:  # an import runs code of others
            raise refuse(
                _PATH,
                f'Expected the notifier "{name}" of the settings ([pipcook] notifiers) to work, but '
                f"{known[name]['classpath']} cannot be used: {type(exc).__name__}: {exc} Correct the setting, or install "
                "what it needs.",
            ) from exc
    return found


def _notifier(classpath: str, kwargs: Mapping[str, Any] | None = None) -> BaseNotifier:
    module, _, name = classpath.rpartition(".")
    notifier = getattr(import_module(module), name)(**(kwargs or {}))
    if not isinstance(notifier, BaseNotifier):
        raise TypeError("it is no BaseNotifier.")
    return notifier
