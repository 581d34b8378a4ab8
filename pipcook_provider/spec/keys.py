"""Keys that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from pipcook_provider.spec.names import slip
from pipcook_provider.spec.places import Path
from pipcook_provider.spec.schema import known_keys

#: Paths of the objects whose keys are all known; ``options.train`` and artifacts take whatever their code takes.
_SECTIONS: Final[tuple[tuple[str, ...], ...]] = ((), ("options",), ("options", "airflow"))
_STAGES: Final = ("options", "airflow", "stages")
_SCHEDULE: Final = ("options", "airflow", "schedule")

_KNOWN: Final = tuple((path, frozenset(known_keys(*path))) for path in _SECTIONS)
_KNOWN_OF_STAGES: Final = frozenset(known_keys(*_STAGES, "model"))
_KNOWN_OF_SCHEDULES: Final = frozenset(known_keys(*_SCHEDULE))
_KNOWN_OF_CONDITIONS: Final = frozenset(known_keys(*_SCHEDULE, "assets"))
_KNOWN_OF_ASSETS: Final = frozenset(known_keys(*_SCHEDULE, 0))
_NESTED: Final = ("any", "all", "assets")
_SPELLINGS: Final = (frozenset({"datasource", "dataSource"}), frozenset({"artifact", "artifacts"}))


class UnknownKey(NamedTuple):
    """A key that the specification does not know.

    :param path: path of the key, its own name last.
    :param slip_of: the known key that its object lacks and that it is a typing slip of, if there is one.
    """

    path: Path
    slip_of: str | None


_Section = tuple[Path, dict[str, Any], frozenset[str]]


def unknown_keys(document: Any) -> Iterator[UnknownKey]:
    """Yield the unknown keys of a parsed document."""
    for path, section, known in _sections(document):
        if not section.keys() <= known:
            for name in section.keys() - known:
                meant = slip(name, known_keys(*path))
                yield UnknownKey((*path, name), None if meant is None or _has(section, meant) else meant)


def misspelt(document: Any) -> list[UnknownKey]:
    """Return the unknown keys that stand where a known one is missing.

    Unknown keys are allowed, but ``"dataFlow"`` in a document without ``"dataflow"`` would train another model than
    its author meant.
    """
    return [key for key in unknown_keys(document) if key.slip_of is not None]


def _sections(document: Any) -> Iterator[_Section]:
    section = document
    for path, known in _KNOWN:
        section = section.get(path[-1]) if path else section
        if not isinstance(section, dict):
            return
        yield path, section, known
    if isinstance(stages := section.get("stages"), dict):
        for name, stage in stages.items():
            if isinstance(stage, dict):
                yield (*_STAGES, name), stage, _KNOWN_OF_STAGES
    if isinstance(schedule := section.get("schedule"), dict | list):
        yield from _sections_of_schedule(schedule)


def _sections_of_schedule(schedule: Any) -> Iterator[_Section]:
    waiting: list[tuple[Path, Any, frozenset[str]]] = [(_SCHEDULE, schedule, _KNOWN_OF_SCHEDULES)]
    while waiting:
        path, value, known = waiting.pop()
        if isinstance(value, list):
            waiting += (((*path, index), entry, _KNOWN_OF_ASSETS) for index, entry in enumerate(value))
        elif isinstance(value, dict):
            yield path, value, known
            waiting += (((*path, name), value[name], _KNOWN_OF_CONDITIONS) for name in _NESTED if name in value)


def _has(section: dict[str, Any], name: str) -> bool:
    names = next((spellings for spellings in _SPELLINGS if name in spellings), {name})
    return not names.isdisjoint(section)
