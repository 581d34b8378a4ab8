from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipcook_provider.runtime import parameters


@pytest.mark.parametrize(
    ("read", "value", "expected"),
    [
        (parameters.integer, "32", 32),
        (parameters.integer, 32, 32),
        (parameters.integers, ["3", 4], (3, 4)),
        (parameters.integers, "3", (3,)),
        (parameters.number, "1e-3", 0.001),
        (parameters.number, 2, 2.0),
        (parameters.boolean, "false", False),
        (parameters.boolean, "True", True),
        (parameters.boolean, True, True),
        (parameters.text, "adam", "adam"),
        (parameters.texts, "accuracy", ("accuracy",)),
        (parameters.texts, ["a", "b"], ("a", "b")),
    ],
)
def test_value_of_a_query_or_of_json_becomes_what_is_wanted(
    read: Callable[..., Any], value: Any, expected: Any
) -> None:
    """Texts of a query and JSON's types give the same values."""
    assert read({"name": value}, "name", None) == expected


@pytest.mark.parametrize("options", [{}, {"name": None}, {"name": ""}])
@pytest.mark.parametrize(
    "read",
    [
        parameters.integer,
        parameters.integers,
        parameters.number,
        parameters.boolean,
        parameters.text,
        parameters.texts,
    ],
)
def test_parameter_without_a_value_is_the_default(read: Callable[..., Any], options: dict[str, Any]) -> None:
    """A parameter that is missing, null or empty is the default."""
    assert read(options, "name", "default") == "default"


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (parameters.integer, "3.5"),
        (parameters.integer, True),
        (parameters.integer, -1),
        (parameters.integers, ["3", "x"]),
        (parameters.number, "nan"),
        (parameters.number, 0),
        (parameters.number, ["1"]),
        (parameters.boolean, "maybe"),
        (parameters.text, 3),
        (parameters.texts, ["a", None]),
    ],
)
def test_unusable_value_is_named(read: Callable[..., Any], value: Any) -> None:
    """A value that cannot be used is told with the parameter's name and what was expected."""
    with pytest.raises(ValueError, match=r"expected the parameter 'name' to be .*, found "):
        read({"name": value}, "name", None)
