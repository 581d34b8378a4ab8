"""What the values of one column of a dataset have in common, and what cannot stand in a dataset at all.

Kinds are found by looking at a batch of values (:func:`infer`) and joined by :func:`widen`, which only ever climbs this
ladder, so that the number of schemas that a dataset goes through is bounded however its samples alternate::

    NULL < Plain | Scalar | Tensor < Ragged | ListOf(kind) | Record(kinds) < PACKED

``None`` belongs to every kind. ``PACKED`` holds what has no common structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np  # noqa: TID253 - this module is imported only where a dataset is written or read

NoneType = type(None)
PLAIN: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "str", bytes: "bytes"}
NUMBERS = "biufcMmSU"  # kinds of numpy dtypes whose bytes are their value
COLUMN_DEPTH = 16  # containers nested deeper are packed: Arrow reads no schema that is nested more than 64 deep
DEPTH = 100  # of nesting that is carried at all; whatever contains itself is deeper


class Uncarriable(Exception):  # noqa: N818 - internal: a writer turns it into a DatasetError that names the place
    """A value has a type that would not come out as it went in."""


@dataclass(frozen=True, slots=True)
class Plain:
    """Python's own ``bool``, ``int`` (64 bit), ``float``, ``str`` or ``bytes``; ``null`` where all are ``None``."""

    name: str


@dataclass(frozen=True, slots=True)
class Scalar:
    """A numpy scalar, by the text of its dtype (``<f4``)."""

    dtype: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """Numpy arrays of one dtype and one shape, none of them empty."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ragged:
    """Numpy arrays of one dtype and any shapes."""

    dtype: str


@dataclass(frozen=True, slots=True)
class ListOf:
    """Lists of any length."""

    item: Kind


@dataclass(frozen=True, slots=True)
class Record:
    """Dictionaries with the same keys in the same order."""

    fields: tuple[tuple[str, Kind], ...]


Kind = Plain | Scalar | Tensor | Ragged | ListOf | Record
NULL = Plain("null")
PACKED = Plain("packed")


# -- What values have in common ---------------------------------------------------------------------------------------


def infer(values: Sequence[Any], depth: int = 0) -> Kind:
    """Return the narrowest kind that carries all the values.

    :param depth: how many containers they stand in.
    :raises Uncarriable: a value has a type that cannot be carried (values inside a ``PACKED`` column are looked at
        by :func:`build` only).
    """
    types = set(map(type, values))
    present = [value for value in values if value is not None] if NoneType in types else values
    types.discard(NoneType)
    if len(types) != 1 or depth > COLUMN_DEPTH:
        return PACKED if types else NULL
    (one,) = types
    if one in PLAIN:
        return Plain(PLAIN[one])
    if one is np.ndarray:
        return _infer_arrays(present)
    if one is list:
        return ListOf(infer(list(chain.from_iterable(present)), depth + 1))
    if one is dict:
        return _infer_records(present, depth)
    if issubclass(one, np.generic):
        dtypes = {value.dtype for value in present}  # texts have one for each length, the empty one is of no width
        return Scalar(_dtype_text(present[0].dtype)) if len(dtypes) == 1 and present[0].itemsize else PACKED
    raise Uncarriable


def _infer_arrays(values: Sequence[Any]) -> Kind:
    layouts = {(value.dtype, value.shape) for value in values}
    dtype, shape = next(iter(layouts))
    if len(layouts) == 1 and 0 not in shape:
        return Tensor(_dtype_text(dtype), shape)
    return Ragged(_dtype_text(dtype)) if len({dtype for dtype, _ in layouts}) == 1 else PACKED


def _infer_records(values: Sequence[dict[Any, Any]], depth: int) -> Kind:
    layouts = {tuple(value) for value in values}
    if len(layouts) > 1:
        return PACKED
    (keys,) = layouts
    if not all(type(key) is str for key in keys):
        raise Uncarriable
    return Record(tuple((key, infer([value[key] for value in values], depth + 1)) for key in keys))


def _dtype_text(dtype: np.dtype[Any]) -> str:
    if dtype.kind not in NUMBERS:
        raise Uncarriable
    return dtype.str


def widen(left: Kind, right: Kind) -> Kind:
    """Return the narrowest kind that carries what either carries."""
    match left, right:
        case _ if right in (left, NULL):
            return left
        case Plain("null"), _:
            return right
        case (Tensor() | Ragged(), Tensor() | Ragged()) if left.dtype == right.dtype:
            return Ragged(left.dtype)
        case ListOf(), ListOf():
            return ListOf(widen(left.item, right.item))
        case Record(), Record() if [key for key, _ in left.fields] == [key for key, _ in right.fields]:
            pairs = zip(left.fields, right.fields, strict=True)
            return Record(tuple((key, widen(one, other)) for (key, one), (_, other) in pairs))
        case _:
            return PACKED


def footprint(value: Any, depth: int = 0) -> int:
    """Return about how many bytes a value takes in memory.

    :raises Uncarriable: it is nested too deeply.
    """
    if isinstance(value, np.ndarray):
        return value.nbytes + 128
    if isinstance(value, str | bytes):
        return len(value) + 64
    if not isinstance(value, list | dict):
        return 64
    if depth > DEPTH:
        raise Uncarriable
    return 64 + sum(footprint(item, depth + 1) for item in (value.values() if isinstance(value, dict) else value))


def locate(value: Any) -> tuple[str, str] | None:
    """Return the path inside a value, and a description, of the first thing that cannot be carried, or ``None``."""
    for path, item in _leaves(value, "", 0):
        if found := complaint(item):
            return path, found
    return None


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > DEPTH:
        yield f"{path[:40]}...", []
    elif type(value) is list:
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]", depth + 1)
    elif type(value) is dict:
        for key, item in value.items():
            if type(key) is not str or complaint(key):
                yield path, {key: None}
            yield from _leaves(item, f"{path}.{key}" if str(key).isidentifier() else f"{path}[{key!r}]", depth + 1)
    else:
        yield path, value


def complaint(value: Any) -> str:  # noqa: PLR0911 - one for each type
    """Return what is wrong with a value that is no container (or a dictionary's key), or an empty text."""
    match value:
        case dict():
            return f"a dictionary with the key {next(iter(value))!r}; keys must be text that UTF-8 can encode"
        case list():
            return f"lists or dictionaries nested more than {DEPTH} deep"
        case bool() | None | float() | bytes() if type(value) in {*PLAIN, NoneType}:
            return ""
        case int() if type(value) is int:
            return "" if -(2**63) <= value < 2**63 else f"the integer {value}, which needs more than 64 bits"
        case str() if type(value) is str:
            return "" if _is_utf8(value) else f"the text {value!r}, which UTF-8 cannot encode"
        case np.ndarray() | np.generic() if type(value) is np.ndarray or isinstance(value, np.generic):
            return "" if value.dtype.kind in NUMBERS else f"numpy data of dtype {value.dtype}"
    name = type(value).__qualname__
    return f"a value of type {name if type(value).__module__ == 'builtins' else f'{type(value).__module__}.{name}'}"


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# -- Kinds as JSON -------------------------------------------------------------------------------------------------


def to_json(kind: Kind) -> Any:
    """Return a kind as JSON-able value."""
    match kind:
        case Plain(name):
            return name
        case Scalar(dtype):
            return {"scalar": dtype}
        case Tensor(dtype, shape):
            return {"tensor": dtype, "shape": list(shape)}
        case Ragged(dtype):
            return {"ragged": dtype}
        case ListOf(item):
            return {"list": to_json(item)}
        case Record(fields):
            return {"record": [[key, to_json(field)] for key, field in fields]}


def from_json(value: Any) -> Kind:
    """Return the kind that :func:`to_json` wrote."""
    match value:
        case {"scalar": dtype}:
            return Scalar(dtype)
        case {"tensor": dtype, "shape": shape}:
            return Tensor(dtype, tuple(shape))
        case {"ragged": dtype}:
            return Ragged(dtype)
        case {"list": item}:
            return ListOf(from_json(item))
        case {"record": fields}:
            return Record(tuple((key, from_json(field)) for key, field in fields))
    return Plain(value)
