"""Where templates stand in a text: Jinja's ``{{ ... }}``, ``{% ... %}`` and ``{# ... #}``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_OPENING: Final = re.compile(r"\{[{%#]")
_CLOSING: Final = {"{{": "}}", "{%": "%}", "{#": "#}"}
_TOKEN: Final = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|["'%{}()\[\]]""", re.DOTALL)


class Piece(NamedTuple):
    """A part of a text: a template, or what stands between two."""

    text: str
    is_template: bool


def pieces_of(text: str) -> Iterator[Piece]:
    """Take a text apart; from a template that is never closed on, it holds none."""
    end = 0
    while opening := _OPENING.search(text, end):
        closed = _end(text, opening)
        if closed is None:
            break
        if opening.start() > end:
            yield Piece(text[end : opening.start()], is_template=False)
        yield Piece(text[opening.start() : closed], is_template=True)
        end = closed
    if end < len(text):
        yield Piece(text[end:], is_template=False)


def _end(text: str, opening: re.Match[str]) -> int | None:
    closing = _CLOSING[opening[0]]
    if closing == "#}":
        found = text.find(closing, opening.end())
        return None if found < 0 else found + 2
    depth = 0
    for token in _TOKEN.finditer(text, opening.end()):
        word = token[0]
        if word in {'"', "'"}:
            return None
        if depth == 0 and text.startswith(closing, token.start()):
            return token.start() + 2
        if word in {"{", "(", "["}:
            depth += 1
        elif word in {"}", ")", "]"}:
            depth -= 1
    return None
