"""Keys that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from pipcook_provider.spec.names import slip
from pipcook_provider.spec.schema import known_keys

#: Paths of the objects whose keys are all known; ``options.train`` and artifacts take whatever their code takes.
_SECTIONS: Final[tuple[tuple[str, ...], ...]] = ((), ("options",), ("options", "airflow"))
_STAGES: Final = ("options", "airflow", "stages")

_KNOWN: Final = tuple((path, frozenset(known_keys(*path))) for path in _SECTIONS)
_KNOWN_OF_STAGES: Final = frozenset(known_keys(*_STAGES, "model"))
_SPELLINGS: Final = (frozenset({"datasource", "dataSource"}), frozenset({"artifact", "artifacts"}))


class UnknownKey(NamedTuple):
    """A key that the specification does not know.

    :param path: path of the key, its own name last.
    :param slip_of: the known key that its object lacks and that it is a typing slip of, if there is one.
    """

    path: tuple[str, ...]
    slip_of: str | None


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


def _sections(document: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Any], frozenset[str]]]:
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


def _has(section: dict[str, Any], name: str) -> bool:
    names = next((spellings for spellings in _SPELLINGS if name in spellings), {name})
    return not names.isdisjoint(section)
