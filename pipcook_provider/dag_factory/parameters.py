"""The trigger form: a typed field for every value that a run may change.

Airflow checks what comes by its form, its API or its command against these types before a run begins. Its form takes a
field without ``null`` for required, asks for texts of an array line by line, and edits other arrays as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from airflow.sdk import Param

from pipcook_provider.plan import FRAMEWORK, RunParameter, run_parameters
from pipcook_provider.spec import PipelineSpec
from pipcook_provider.spec.framework import NAME
from pipcook_provider.spec.schema import Schema, at

_TYPES: Final[Mapping[type, str]] = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}
_RANGE: Final = ("minimum", "maximum", "exclusiveMinimum")
#: A run with a larger one ends before its first task has a log: Airflow hands on no more than 64 bits.
_LARGEST: Final = 2**63 - 1
#: Of a value that is null in the document and unknown in the schema, nobody can tell what it may be.
_ANYTHING: Final = ["null", "string", "number", "boolean"]


def trigger_form(spec: PipelineSpec) -> dict[str, Param]:
    """Return the fields of a pipeline's form by name; each has the document's value as its default, which is valid.

    Of a list with objects in it, Airflow gives its form another one than it was given: there is no field for it. A run that
    is triggered by the API or the command can have another one all the same.
    """
    return {
        parameter.name: _field(parameter) for parameter in run_parameters(spec) if not _holds_object(parameter.value)
    }


def _holds_object(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) or _holds_object(item) for item in value)


def _field(parameter: RunParameter) -> Param:
    if parameter.path == FRAMEWORK:
        return _framework(parameter.value, parameter.section)
    if parameter.query is not None:
        return Param(parameter.value, section=parameter.section, **_of_query(parameter.value))
    description, known = _vocabulary(parameter.path)
    return Param(parameter.value, description=description, **_of_training(parameter.value, known))


def _framework(value: str | None, section: str | None) -> Param:
    """Let a run name a framework, but no URL or path other than the document's: that is what was reviewed."""
    allowed = NAME if value is None else f"{NAME}|{re.escape(value)}"
    return Param(
        value,
        description="The framework that the scripts run with, as name@version; a URL or path only as the document has it.",
        type=["null", "string"] if value is None else "string",
        pattern=rf"^(?:{allowed})$(?!\n)",
        section=section,
    )


def _of_query(value: Any) -> dict[str, Any]:
    """Return the type of a query parameter: texts, and null for a key alone."""
    if isinstance(value, list):
        return {"type": "array", "items": {"type": ["string", "null"] if None in value else "string"}}
    return {"type": "string" if value else ["string", "null"]}


def _of_training(value: Any, known: Schema) -> dict[str, Any]:
    """Return the type of a value of ``options.train``: the document's, or of null what the schema's example is.

    A whole number may become a fraction unless the example is whole too.
    """
    example = next(iter(known.get("examples", ())), None)
    if value is None:
        if example is None:
            return {"type": _ANYTHING}
        stated = _of_training(example, known)
        return {**stated, "type": [stated["type"], "null"]}
    match value:
        case bool() | dict():
            return {"type": _TYPES[type(value)]}
        case str():
            choices = [choice for choice in known.get("enum", ()) if isinstance(choice, str)]
            return {"type": "string", "enum": choices} if choices else _of_query(value)
        case list():
            types = sorted({_TYPES[type(item)] for item in value})
            return {"type": "array", **({"items": {"type": types if len(types) > 1 else types[0]}} if types else {})}
        case _:
            whole = type(value) is type(example) is int
            limits = {keyword: known[keyword] for keyword in _RANGE if keyword in known}
            return {"type": "integer", "maximum": _LARGEST, **limits} if whole else {"type": "number", **limits}


@lru_cache(maxsize=1024)
def _vocabulary(path: tuple[str, ...]) -> tuple[str | None, Schema]:
    """Return what the schema says of a training parameter: its description, and all of it."""
    part = at(path)
    return part.get("description"), part
