"""Templates in texts: where they begin and end."""

from __future__ import annotations

import pytest
from jinja2 import Environment

from pipcook_provider.spec.templates import pieces_of


def templates(text: str) -> list[str]:
    return [piece.text for piece in pieces_of(text) if piece.is_template]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("data.zip", []),
        ("{{ ds }}", ["{{ ds }}"]),
        ("a/{{ ds }}/b-{{ts}}.zip", ["{{ ds }}", "{{ts}}"]),
        ("{{ds}}{{ts}}", ["{{ds}}", "{{ts}}"]),
        ("{% if a %}x{% endif %}", ["{% if a %}", "{% endif %}"]),
        ("{{- ds -}}{%- if a -%}", ["{{- ds -}}", "{%- if a -%}"]),
        ("{# a & b #}{{ ds }}", ["{# a & b #}", "{{ ds }}"]),
        ('{{ "}}" + ds }}', ['{{ "}}" + ds }}']),
        (r"{{ '}}\'}}' }}&x", [r"{{ '}}\'}}' }}"]),
        ('{{ {"a": {"b": 1}}["a"] }}&x', ['{{ {"a": {"b": 1}}["a"] }}']),
        ("{% set a = {'b': '%}'} %}", ["{% set a = {'b': '%}'} %}"]),
        ("{{ 5 % 3 }}", ["{{ 5 % 3 }}"]),
        ("{{ a\n}}", ["{{ a\n}}"]),
        ("{", []),
        ("{ {ds} }", []),
        ("{{ ds", []),
        ("{{ ds }", []),
        ("{{ 'ds }}", []),
        ("{# {{ ds }}", []),
        ("{{ ds }}{{ ts", ["{{ ds }}"]),
        ("}}{{ ds }}", ["{{ ds }}"]),
        ("100%}", []),
    ],
)
def test_templates(text: str, expected: list[str]) -> None:
    """A template ends where Jinja says, whatever strings and brackets are in it; one without an end is none."""
    assert templates(text) == expected
    assert "".join(piece.text for piece in pieces_of(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("a{{ ds }}b", '{{ "}}" }}x', "{{ {'a': {'b': 1}}['a'] }}x", "{% if a %}{{ b }}{% endif %}c", "{{ [1][0] }}d"),
        *("{# {{ #}{{ ds }}e", "{{- ds -}}f", r"{{ '\'}}' }}g", "{%- set a = {'b': '%}'} -%}h", "{{ (1 % 2) }}i"),
    ],
)
def test_templates_are_those_of_jinja(text: str) -> None:
    """What stands between two templates is what Jinja takes for plain text."""
    plain = "".join(value for _, kind, value in Environment(autoescape=True).lex(text) if kind == "data")
    assert "".join(piece.text for piece in pieces_of(text) if not piece.is_template) == plain


@pytest.mark.parametrize("text", ["{{" * 200_000, '{{ "' * 200_000, "{{}}" * 200_000, "{" * 400_000, '{{"\\' * 100_000])
def test_any_text_is_taken_apart(text: str) -> None:
    """However many braces and quotes a text has, it is taken apart in one go, and nothing of it is lost."""
    assert "".join(piece.text for piece in pieces_of(text)) == text
