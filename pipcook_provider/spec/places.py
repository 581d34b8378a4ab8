"""Where things stand in a JSON text.

Positions are wanted only when something is wrong, so nothing here is on the way of a good document. (The package
json-source-map does the same, but takes keys as they are written, escapes included, and hides repeated ones.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

Path = tuple[str | int, ...]

_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+|"', re.DOTALL)
_PLAIN: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


class Place(NamedTuple):
    """Offsets of a value and of its key (the value's own for the document and for list items)."""

    value: int
    key: int


@dataclass(frozen=True, slots=True)
class Places:
    """Places of all values of a JSON text.

    :param by_path: place of each value; where a key is repeated, of the last one, which is the one that counts.
    :param repeated: path of each key that repeats an earlier one of its object, with the offsets of both keys.
    """

    by_path: dict[Path, Place]
    repeated: tuple[tuple[Path, int, int], ...]

    @classmethod
    def of(cls, text: str) -> Places:
        """Find the places in ``text``, which must be valid JSON."""
        by_path: dict[Path, Place] = {}
        repeated: list[tuple[Path, int, int]] = []
        for path, place in _walk(text):
            if path in by_path and _is_within(by_path[path], path, by_path):
                repeated.append((path, by_path[path].key, place.key))
            by_path[path] = place
        return cls(_last_ones(by_path) if repeated else by_path, tuple(repeated))


def _is_within(place: Place, path: Path, by_path: Mapping[Path, Place]) -> bool:
    """Tell whether a value lies in the last one of its container, rather than in one that was repeated."""
    return not path or (path[:-1] in by_path and by_path[path[:-1]].value < place.value)


def _last_ones(by_path: Mapping[Path, Place]) -> dict[Path, Place]:
    kept: dict[Path, Place] = {}
    for path, place in by_path.items():  # containers come before what they hold
        if _is_within(place, path, kept):
            kept[path] = place
    return kept


def tokens(text: str) -> Iterator[re.Match[str]]:
    """Yield strings, punctuation and bare words of a JSON text; of broken text as far as it makes sense."""
    return _TOKEN.finditer(text)


def line_column(text: str, offset: int) -> tuple[int, int]:
    """Return line and column of a character, both counted from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def json_path(path: Path) -> str:
    """Write a path as JSONPath: ``$.options.train``, ``$.dataflow[0]``, ``$['a b']``."""
    steps = (
        f"[{key}]" if isinstance(key, int) else f".{key}" if _PLAIN.fullmatch(key) else f"[{key!r}]" for key in path
    )
    return "$" + "".join(steps)


def _walk(text: str) -> Iterator[tuple[Path, Place]]:
    # `trail` is the path of the container that is open; its last step is the key or index that comes next.
    trail: list[str | int] = []
    key: int | None = None
    matches = list(tokens(text))
    for token, following in zip(matches, [*matches[1:], None], strict=True):
        word, start = token[0], token.start()
        if word in {"}", "]"}:
            trail.pop()
        elif word == ",":
            if isinstance(trail[-1], int):
                trail[-1] += 1
        elif following is not None and following[0] == ":":
            trail[-1], key = json.loads(word), start
        elif word != ":":
            yield tuple(trail), Place(start, start if key is None else key)
            key = None
            if word in {"{", "["}:
                trail.append("" if word == "{" else 0)
