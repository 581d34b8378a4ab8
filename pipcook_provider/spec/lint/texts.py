"""What stands within the texts of a document: passwords, variables that stay as they are, templates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

from pipcook_provider.errors import TemplateError
from pipcook_provider.spec.diagnose import Flaw, shown
from pipcook_provider.spec.environment import VARIABLE
from pipcook_provider.spec.lint.facts import Facts
from pipcook_provider.spec.lint.sections import AIRFLOW, scripts_of
from pipcook_provider.spec.model import PipelineSpec
from pipcook_provider.spec.names import did_you_mean
from pipcook_provider.spec.places import Path
from pipcook_provider.templating import is_template

_CREDENTIALS: Final = re.compile(r"https?://[^/?#\s]*@", re.IGNORECASE)
_SCRIPTS: Final = frozenset({"datasource", "dataSource", "dataflow", "model"})
_ENVIRONMENT: Final = (*AIRFLOW, "env")
_BEFORE_AT: Final = re.compile(r"//[^/?#\s\"]*@")


def may_hold_anything(text: str) -> bool:
    """Tell whether a document has any text that the functions below could say something of; quick."""
    return (
        "%" in text
        or "${" in text
        or is_template(text)
        or "\\u" in text
        or ("@" in text and _BEFORE_AT.search(text) is not None)
    )


def credentials(path: Path, value: Any) -> Iterator[Flaw]:
    """Yield the texts of a value that hold a user or password."""
    for place, text in _texts(path, value):
        if _CREDENTIALS.search(unquote(text)):
            yield Flaw(
                place,
                "An address in here holds a user or password, which is written into the run's files, the model's folder "
                "and the zip. Keep it out of the document, such as in an environment variable of the workers.",
            )


def variables(path: Path, value: Any) -> Iterator[Flaw]:
    """Yield the texts of a value with variables in them that nothing was put in the place of."""
    for place, text in _texts(path, value):
        if found := VARIABLE.search(text):
            yield Flaw(
                place,
                f"{found[0]} stays as it is: no defaults of this folder allow the variable. Write "
                f'"environment": ["{found[1]}"] into a pipcook.defaults.json in the folder of the document or above.',
            )


def templates(spec: PipelineSpec, facts: Facts) -> tuple[list[Flaw], list[Flaw]]:
    """Return the templates that no run could render, and those with connections that this machine lets no template have."""
    mistakes, doubts = [], []
    for path, text, secrets in _rendered(spec):
        try:
            named = _connections(text, secrets=secrets)
        except TemplateError as exc:
            mistakes.append(Flaw(path, f"The template {shown(text)} cannot be rendered: {exc}"))
            continue
        for conn_id in named.difference(facts.connections) if facts.connections else ():
            message = (
                f"Expected one of this machine's [pipcook] template_connections ({', '.join(facts.connections)}), found "
                f'"{conn_id}".{did_you_mean(conn_id, facts.connections)}'
            )
            doubts.append(Flaw(path, message))
    return mistakes, doubts


def names_connections(spec: PipelineSpec) -> bool:
    """Tell whether runs of a document need Airflow's connections for its templates."""
    with suppress(TemplateError):  # which lint tells
        return any(_connections(text, secrets=secrets) for _, text, secrets in _rendered(spec))
    return False


def unrendered(document: Any) -> Iterator[Flaw]:
    """Yield templates where nothing renders them."""
    for path, text in _texts((), document):
        if is_template(text) and path[0] not in _SCRIPTS and path[:3] != _ENVIRONMENT:
            yield Flaw(
                path,
                "A template in here stays as it is: only the values in the queries of scripts and in options.airflow.env are "
                "rendered. Write the value, or hand it to a script in its query.",
            )


@lru_cache(maxsize=1024)
def _connections(text: str, *, secrets: bool) -> frozenset[str]:
    if not is_template(text):
        return frozenset()
    from pipcook_provider.templating.sandbox import Template

    return frozenset(conn_id for conn_id, _ in Template.parse(text, secrets=secrets).fields)


def _rendered(spec: PipelineSpec) -> Iterator[tuple[Path, str, bool]]:
    """Yield what runs render, with its path and whether it may have secrets."""
    for path, script in scripts_of(spec):
        for value in script.parameters.values():
            for text in value if isinstance(value, list) else (value,):
                if text is not None:
                    yield path, text, False
    for name, text in spec.airflow.env.items():
        yield (*_ENVIRONMENT, name), text, True


def _texts(path: Path, value: Any) -> Iterator[tuple[Path, str]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts((*path, key), inner)
    elif isinstance(value, str):
        yield path, value
