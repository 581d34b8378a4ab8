"""The document of a run: made when the run is prepared, read by its stages, kept with its model."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pipcook_provider.errors import ParameterError
from pipcook_provider.plan import FRAMEWORK, RunParameter, run_parameters
from pipcook_provider.spec import Parameter, PipelineSpec
from pipcook_provider.spec.framework import is_name
from pipcook_provider.spec.uri import with_query

#: Where a prepared run's document keeps what its framework must be: by a lock, or since it is known by no exact name.
PINNED: Final = "pinnedFramework"

#: Where it keeps what the run was triggered with: by name of the parameter, ``[the document's value, the run's]``.
CHANGED: Final = "changedParameters"

_OF_RUNS: Final = (PINNED, CHANGED)


def as_it_runs(spec: PipelineSpec, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with ``changes`` applied, carrying its origin: it no longer lies where it came from.

    What a run changes is written into it, see ``CHANGED``; a value that is the document's own changes nothing.

    :param changes: values by the names of :func:`~pipcook_provider.plan.run_parameters`.
    :raises ParameterError: a name is none of the document's, or a value is none that its parameter can have.
    """
    known = {parameter.name: parameter for parameter in run_parameters(spec)}
    changed: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in known:
            raise _unknown(name, known)
        stated = known[name].value
        if not _is_same(stated, value) and not _is_same(stated, usable := _checked(known[name], value)):
            changed[name] = usable
    document: dict[str, Any] = copy.deepcopy(dict(spec.document))
    document["origin"] = spec.origin
    for key in _OF_RUNS:
        document.pop(key, None)
    if changed:
        document[CHANGED] = {name: [known[name].value, value] for name, value in changed.items()}
    queries: dict[tuple[str | int, ...], dict[str, Parameter]] = {}
    for name, value in changed.items():
        parameter = known[name]
        if parameter.query is None:
            _set(document, parameter.path, value)
        else:
            queries.setdefault(parameter.path, {})[parameter.query] = value
    for path, query in queries.items():
        stated = {
            other.query: other.value for other in known.values() if other.query is not None and other.path == path
        }
        try:
            _set(document, path, with_query(_get(document, path), {**stated, **query}))
        except ValueError as exc:
            raise ParameterError(
                f"A parameter cannot be written into its script's URI. {exc} Nothing was run."
            ) from None
    return document


def without_airflow(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document as ``model/pipeline.json`` keeps it: without what only concerns Airflow, this run or machine."""
    kept = {name: value for name, value in document.items() if name not in ("origin", *_OF_RUNS)}
    if "options" in kept:
        kept["options"] = {name: value for name, value in kept["options"].items() if name != "airflow"}
    return kept


def _unknown(name: str, known: Iterable[str]) -> ParameterError:
    near = difflib.get_close_matches(name, known, n=1)
    return ParameterError(
        f"expected a parameter of the document, found {name!r}."
        + (f" Did you mean {near[0]!r}?" if near else "")
        + f" It has {', '.join(known)}. Nothing was run; add it to the document, or leave it out."
    )


def _checked(parameter: RunParameter, value: Any) -> Any:
    """Return what a parameter becomes by a value.

    :raises ParameterError: it cannot be that.
    """
    if parameter.query is not None:
        values = value if isinstance(value, list) else [value]
        if not all(item is None or isinstance(item, str) for item in values):
            raise _unusable(parameter, value, "a text, null, or a list of these, as the query of a URI has them")
    elif parameter.path == FRAMEWORK:
        if not value and (value is None or isinstance(value, str)):
            return None
        # A reviewer has looked at the URL or path in the document; whoever triggers a run may be somebody else.
        if not isinstance(value, str) or not is_name(value):
            raise _unusable(parameter, value, "a framework as name@version, null, or what the document itself says")
    return value


def _unusable(parameter: RunParameter, value: Any, expected: str) -> ParameterError:
    return ParameterError(
        f"expected the parameter {parameter.name!r} to be {expected}, found {value!r}. Nothing was run; correct it."
    )


def _is_same(one: Any, other: Any) -> bool:
    """Tell whether two JSON values mean the same, however a browser wrote them: ``1.0`` as ``1``, 64 bits as a double."""
    match one, other:
        case (bool(), _) | (_, bool()):
            return one is other
        case (int() | float(), int() | float()):
            try:
                return float(one) == float(other)
            except OverflowError:
                return False
        case list(), list():
            return len(one) == len(other) and all(map(_is_same, one, other))
        case dict(), dict():
            return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
        case _:
            return bool(one == other)


def _get(document: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


def _set(document: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
    if path[0] == "options" and not document.get("options"):
        document["options"] = {}
    _get(document, path[:-1])[path[-1]] = value
