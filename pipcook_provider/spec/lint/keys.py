"""Keys that nothing reads, that stand twice, or that another place overrules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pipcook_provider.errors import Problem
from pipcook_provider.masking import masked
from pipcook_provider.spec.diagnose import Flaw
from pipcook_provider.spec.keys import unknown_keys
from pipcook_provider.spec.lint.facts import Facts
from pipcook_provider.spec.lint.sections import scripts_of
from pipcook_provider.spec.model import PipelineSpec
from pipcook_provider.spec.names import did_you_mean, slip
from pipcook_provider.spec.places import Path, Places, json_path, line_column
from pipcook_provider.spec.schema import known_keys

_TRAIN: Final = ("options", "train")
#: Where a key is looked for that stands in the wrong place, in this order.
_SECTIONS: Final[tuple[Path, ...]] = (("options", "airflow"), _TRAIN, ("options",), ())
#: What the stages themselves read of ``options.train``, whatever the script does.
_OURS: Final = frozenset({"gpu"})


def unknown(document: Any) -> Iterator[Flaw]:
    """Yield the keys of a document that the specification does not know."""
    for path, _ in unknown_keys(document):
        remedy = _place_of(path) or did_you_mean(str(path[-1]), known_keys(*path[:-1]))
        yield Flaw(path, f'Unknown key "{path[-1]}": it is kept, but nothing reads it.{remedy}', at_key=True)


def _place_of(path: Path) -> str:
    """Return where a key belongs that another section of the document knows."""
    section = next((one for one in _SECTIONS if path[-1] in known_keys(*one)), None)
    return f" It belongs into {json_path(section)[2:] or 'the document itself'}." if section is not None else ""


def near_misses(path: Path, section: Mapping[str, Any]) -> Iterator[Flaw]:
    """Yield the keys of an open object that are slips of known ones."""
    known = known_keys(*path)
    for name in section.keys() - set(known):
        meant = slip(name, known)
        if meant is not None and meant not in section:
            yield Flaw((*path, name), f'The key "{name}" is close to "{meant}". Did you mean that?', at_key=True)


def near_misses_in(spec: PipelineSpec, facts: Facts) -> Iterator[Flaw]:
    """Yield the same for all open objects of a document; the parameters of a script that declares them are `undeclared`."""
    if spec.model.reference not in facts.declared:
        yield from near_misses(_TRAIN, spec.train)
    entries = "artifact" if "artifact" in spec.document else "artifacts"
    for index, artifact in enumerate(spec.artifacts):
        yield from near_misses((entries, index), artifact.options)


def undeclared(spec: PipelineSpec, facts: Facts) -> Iterator[Flaw]:
    """Yield parameters that a script does not know, where it declares those that it takes."""
    if not facts.declared:
        return
    for path, script in scripts_of(spec):
        known = facts.declared.get(script.reference)
        if known is None:
            continue
        for name in script.parameters.keys() - set(known):
            yield Flaw(path, _undeclared(name, known, script.basename))
        if script is spec.model:
            for name in spec.train.keys() - _OURS - set(known):
                yield Flaw((*_TRAIN, name), _undeclared(name, known, script.basename), at_key=True)


def _undeclared(name: str, known: tuple[str, ...], script: str) -> str:
    remedy = did_you_mean(name, known) or (
        f" It takes {', '.join(known)}." if known else " It takes none: remove the parameter."
    )
    return f'The script {script} does not know the parameter "{name}": it would change nothing.{remedy}'


def overruled(spec: PipelineSpec) -> Iterator[Flaw]:
    """Yield training parameters that the query of the model script sets as well."""
    for name in spec.train.keys() & spec.model.parameters.keys():
        yield Flaw(
            (*_TRAIN, name),
            f'"{name}" is overruled by the query of the model script, which sets it to '
            f"{spec.model.parameters[name]!r}. Keep one of them.",
            at_key=True,
        )


class _RepeatedError(Exception):
    """A key stands twice in an object."""


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise _RepeatedError


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_distinct)


def repeats_keys(text: str) -> bool:
    """Tell whether a key stands twice in an object of a JSON text; quick, since it hardly ever does."""
    try:
        _DECODER.decode(text)
    except _RepeatedError:
        return True
    return False


def repeated(text: str) -> Iterator[Problem]:
    """Yield the keys of a JSON text that stand again in their object, where they do."""
    for path, first, second in Places.of(text).repeated:
        line, column = line_column(text, first)
        yield Problem(
            f'The key "{masked(str(path[-1]))}" stands here again (first in line {line}, column {column}): only the last one '
            "counts. Remove the others.",
            masked(json_path(path)),
            *line_column(text, second),
        )
