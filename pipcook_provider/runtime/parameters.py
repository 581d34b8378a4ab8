"""Parameters of a script as the types it wants.

A query gives texts and lists of texts (``"32"``, ``"false"``, ``["32", "32"]``, ``None`` for a bare key),
``options.train`` gives JSON's types; a script need not care which of the two a parameter came from. A parameter without
a value (``?size=``, ``?size``, ``null``) counts as not given. Each function raises ``ValueError``, which says what to
correct, for a value that it cannot use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

Default = TypeVar("Default")

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def text(options: Mapping[str, Any], name: str, default: Default) -> str | Default:
    """Return a parameter as text."""
    value = options.get(name)
    if value is None or value == "":
        return default
    if not isinstance(value, str):
        raise _unusable(name, value, "a text")
    return value


def texts(options: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return a parameter as texts; one alone is a list of one."""
    value = options.get(name)
    if value is None or value == "":
        return default
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in values):
        raise _unusable(name, value, "texts")
    return tuple(values)


def integer(options: Mapping[str, Any], name: str, default: Default, *, minimum: int = 0) -> int | Default:
    """Return a parameter as whole number that is not below ``minimum``."""
    value = options.get(name)
    return default if value is None or value == "" else _integer(name, value, minimum)


def integers(options: Mapping[str, Any], name: str, default: tuple[int, ...], *, minimum: int = 0) -> tuple[int, ...]:
    """Return a parameter as whole numbers; one alone is a list of one."""
    value = options.get(name)
    if value is None or value == "":
        return default
    return tuple(_integer(name, item, minimum) for item in (value if isinstance(value, list) else [value]))


def number(options: Mapping[str, Any], name: str, default: Default) -> float | Default:
    """Return a parameter as number above 0."""
    value = options.get(name)
    if value is None or value == "":
        return default
    try:
        if isinstance(value, bool) or not 0 < (parsed := float(value)) < math.inf:
            raise ValueError
    except (TypeError, ValueError):
        raise _unusable(name, value, "a number above 0") from None
    return parsed


def boolean(options: Mapping[str, Any], name: str, default: bool) -> bool:
    """Return a parameter as truth value."""
    value = options.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, bool):
        return value
    if str(value).lower() not in _BOOLEANS:
        raise _unusable(name, value, "true or false")
    return _BOOLEANS[str(value).lower()]


def _integer(name: str, value: Any, minimum: int) -> int:
    try:
        parsed = int(str(value))
        if isinstance(value, bool) or parsed < minimum:
            raise ValueError
    except ValueError:
        raise _unusable(name, value, f"a whole number of at least {minimum}") from None
    return parsed


def _unusable(name: str, value: Any, expected: str) -> ValueError:
    return ValueError(
        f"expected the parameter {name!r} to be {expected}, found {value!r}: the script cannot go on. Correct it in "
        "the pipeline document: in the query of the script's URI, or for a model in options.train."
    )
