"""What is allowed in a pipeline document but most likely not meant, and what is known to fail when it runs.

Nothing here looks at files beside the document and its defaults, or at a server: whoever does, passes what was found as
`Facts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path as File
from typing import Any, Final, Literal, NamedTuple

from pipcook_provider.errors import Problem, SpecError
from pipcook_provider.spec.defaults import DefaultsFile, describe_file, find_defaults, load_defaults, read_defaults
from pipcook_provider.spec.diagnose import Flaw, Source, located
from pipcook_provider.spec.folder import DEFAULTS_NAME
from pipcook_provider.spec.lint import keys, references, sections, texts
from pipcook_provider.spec.lint.facts import NOTHING_KNOWN, Facts
from pipcook_provider.spec.lint.schedule import schedule_flaws
from pipcook_provider.spec.lint.texts import names_connections
from pipcook_provider.spec.model import PipelineSpec
from pipcook_provider.spec.parse import load_pipeline_spec, parse_pipeline
from pipcook_provider.spec.places import Places
from pipcook_provider.spec.reader import read_file

__all__ = ["NOTHING_KNOWN", "Facts", "Finding", "lint_file", "lint_pipeline", "names_connections", "warnings_of"]

Level = Literal["error", "warning"]


class Finding(NamedTuple):
    """Something that lint tells.

    :param level: whether it is sure to fail.
    :param file: path of the file that it is about: the document's, or that of its defaults.
    """

    level: Level
    file: str
    problem: Problem


def lint_file(path: File, facts_of: Callable[[PipelineSpec], Facts] = lambda _: NOTHING_KNOWN) -> tuple[Finding, ...]:
    """Return what is wrong with a document on this machine, or else warnings about it; the same of its defaults.

    :param facts_of: tells what is known of a document that can be used.
    """
    if path.name == DEFAULTS_NAME:
        return tuple(_told_of_defaults(describe_file(str(path), path)))
    try:
        text, spec = read_file(path), load_pipeline_spec(path)
    except SpecError as exc:
        return tuple(Finding("error", exc.origin, problem) for problem in exc.problems)
    if "origin" in spec.document:  # a run's own document, which has no defaults
        return tuple(Finding(level, str(path), problem) for level, problem in _told(text, spec, facts_of(spec)))
    told = _told(text, spec, facts_of(spec), load_defaults(path).source)
    found = [Finding(level, str(path), problem) for level, problem in told]
    for file in find_defaults(path):
        found += _told_of_defaults(file)
    return tuple(found)


def lint_pipeline(text: str, origin: str) -> tuple[Problem, ...]:
    """Return warnings about a document that can be used, in the order of the text.

    :param text: the document.
    :param origin: path or URL of the document.
    :raises SpecError: the document cannot be used.
    """
    return warnings_of(text, parse_pipeline(text, origin))


def warnings_of(text: str, spec: PipelineSpec, facts: Facts = NOTHING_KNOWN) -> tuple[Problem, ...]:
    """Return warnings about a document, in the order of its text. Reads no file and asks nobody; quick where there are none.

    What is sure to fail when it runs, such as a template that nobody can render, is among them.

    :param text: the document.
    :param spec: what it was read as.
    """
    return tuple(problem for _, problem in _told(text, spec, facts))


def _told(
    text: str, spec: PipelineSpec, facts: Facts, source: Source = lambda _: None
) -> Iterable[tuple[Level, Problem]]:
    text = text.removeprefix("\ufeff")
    mistakes = [*(Flaw((), mistake) for mistake in facts.mistakes), *references.unusable(facts.unusable)]
    doubts = [
        *keys.unknown(spec.document),
        *keys.near_misses_in(spec, facts),
        *keys.undeclared(spec, facts),
        *keys.overruled(spec),
        *schedule_flaws(spec, facts),
        *references.moving(spec, facts),
        *references.unusable(facts.doubtful),
        *references.no_images(spec),
        *sections.without_effect(spec),
        *sections.unknown_notifiers(spec, facts),
    ]
    if spec.airflow.env or texts.may_hold_anything(text):
        unrenderable, unreachable = texts.templates(spec, facts)
        mistakes += unrenderable
        doubts += [*unreachable, *_of_texts(spec.document)]
    if not mistakes and not doubts and not keys.repeats_keys(text):
        return ()
    errors: list[tuple[Level, Problem]] = [("error", problem) for problem in located(text, set(mistakes), source)]
    return sorted([*errors, *(("warning", problem) for problem in _placed(text, doubts))], key=_place)


def _of_texts(document: Any) -> Iterator[Flaw]:
    yield from texts.credentials((), document)
    yield from texts.variables((), document)
    yield from texts.unrendered(document)


def _placed(text: str, flaws: Iterable[Flaw]) -> Iterator[Problem]:
    """Give warnings their places. What a document has from defaults fits some documents and not others: no warning."""
    own = Places.of(text).by_path
    yield from located(text, {flaw for flaw in flaws if flaw.path in own})
    yield from keys.repeated(text)


def _place(told: tuple[Level, Problem]) -> tuple[int, int]:
    return told[1].line, told[1].column


_FOREIGN: Final = (
    "These defaults are ignored: the file belongs neither to root, nor to you, nor to the owner of the document. "
    "Make it your own, or delete it."
)


def _told_of_defaults(file: DefaultsFile) -> Iterator[Finding]:
    if not file.is_trusted:
        yield Finding("warning", file.path, Problem.of_document(_FOREIGN))
        return
    try:
        document = {"options": read_defaults(file)}
    except SpecError as exc:
        yield from (Finding("error", exc.origin, problem) for problem in exc.problems)
        return
    train = document["options"].get("train") or {}
    flaws = [*keys.unknown(document), *keys.near_misses(("options", "train"), train), *_of_texts(document)]
    told: list[tuple[Level, Problem]] = [("warning", problem) for problem in _placed(read_file(File(file.path)), flaws)]
    yield from (Finding(level, file.path, problem) for level, problem in sorted(told, key=_place))
