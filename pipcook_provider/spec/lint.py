"""What is allowed in a pipeline document but most likely not meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path as File
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import unquote

from pipcook_provider.errors import Problem, SpecError
from pipcook_provider.masking import masked
from pipcook_provider.spec.defaults import DefaultsFile, describe_file, find_defaults, read_defaults
from pipcook_provider.spec.diagnose import Flaw, located
from pipcook_provider.spec.folder import DEFAULTS_NAME
from pipcook_provider.spec.keys import unknown_keys
from pipcook_provider.spec.model import Gpu, PipelineSpec
from pipcook_provider.spec.names import did_you_mean, slip
from pipcook_provider.spec.parse import load_pipeline_spec, parse_pipeline
from pipcook_provider.spec.places import Path, Places, json_path, line_column
from pipcook_provider.spec.reader import read_file
from pipcook_provider.spec.schema import known_keys

_CREDENTIALS: Final = re.compile(r"https?://[^/?#\s]*@", re.IGNORECASE)


class Finding(NamedTuple):
    """Something that lint tells.

    :param file: path of the file that it is about: the document's, or that of its defaults.
    """

    level: Literal["error", "warning"]
    file: str
    problem: Problem


def lint_file(path: File) -> tuple[Finding, ...]:
    """Return what is wrong with a document on this machine, or else warnings about it; the same of its defaults."""
    if path.name == DEFAULTS_NAME:
        return tuple(_told_of_defaults(describe_file(str(path), path)))
    try:
        text, spec = read_file(path), load_pipeline_spec(path)
    except SpecError as exc:
        return tuple(Finding("error", exc.origin, problem) for problem in exc.problems)
    told = [Finding("warning", str(path), problem) for problem in _warnings(text, spec)]
    for file in find_defaults(path) if "origin" not in spec.document else ():
        told += _told_of_defaults(file)
    return tuple(told)


def lint_pipeline(text: str, origin: str) -> tuple[Problem, ...]:
    """Return warnings about a document that can be used, in the order of the text.

    :param text: the document.
    :param origin: path or URL of the document.
    :raises SpecError: the document cannot be used.
    """
    return _warnings(text, parse_pipeline(text, origin))


def _warnings(text: str, spec: PipelineSpec) -> tuple[Problem, ...]:
    flaws = {*_unknown(spec.document), *_near_misses(spec), *_overruled(spec), *_pointless(spec)}
    flaws |= {*_without_effect(spec), *_credentials((), spec.document)}
    return _told(text, flaws)


def _told(text: str, flaws: set[Flaw]) -> tuple[Problem, ...]:
    """Give warnings their places. What a document has from defaults fits some documents and not others: no warning."""
    own = Places.of(text.removeprefix("\ufeff")).by_path
    problems = (
        *located(text, {flaw for flaw in flaws if flaw.path in own}),
        *_repeated(text.removeprefix("\ufeff")),
    )
    return tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))


def _told_of_defaults(file: DefaultsFile) -> Iterator[Finding]:
    if not file.is_trusted:
        message = (
            "These defaults are ignored: the file belongs neither to root, nor to you, nor to the owner of the document. "
            "Make it your own, or delete it."
        )
        yield Finding("warning", file.path, Problem(message, "$", 1, 1))
        return
    try:
        document = {"options": read_defaults(file)}
    except SpecError as exc:
        yield from (Finding("error", exc.origin, problem) for problem in exc.problems)
        return
    flaws = {*_unknown(document), *_near_misses_in(("options", "train"), document["options"].get("train") or {})}
    flaws |= set(_credentials((), document))
    for problem in _told(read_file(File(file.path)), flaws):
        yield Finding("warning", file.path, problem)


def _unknown(document: Any) -> Iterator[Flaw]:
    for path, _ in unknown_keys(document):
        near = did_you_mean(path[-1], known_keys(*path[:-1]))
        yield Flaw(path, f'Unknown key "{path[-1]}": it is kept, but nothing reads it.{near}', at_key=True)


def _near_misses(spec: PipelineSpec) -> Iterator[Flaw]:
    yield from _near_misses_in(("options", "train"), spec.train)
    entries = "artifact" if "artifact" in spec.document else "artifacts"
    for index, artifact in enumerate(spec.artifacts):
        yield from _near_misses_in((entries, index), artifact.options)


def _near_misses_in(path: Path, section: Mapping[str, Any]) -> Iterator[Flaw]:
    known = known_keys(*path)
    for name in section.keys() - set(known):
        meant = slip(name, known)
        if meant is not None and meant not in section:
            yield Flaw((*path, name), f'The key "{name}" is close to "{meant}". Did you mean that?', at_key=True)


def _overruled(spec: PipelineSpec) -> Iterator[Flaw]:
    for name in spec.train.keys() & spec.model.parameters.keys():
        yield Flaw(
            ("options", "train", name),
            f'"{name}" is overruled by the query of the model script, which sets it to '
            f"{spec.model.parameters[name]!r}. Keep one of them.",
            at_key=True,
        )


def _pointless(spec: PipelineSpec) -> Iterator[Flaw]:
    airflow = spec.airflow
    if airflow.catchup and airflow.start_date is None:
        yield Flaw(
            ("options", "airflow", "catchup"), 'There is nothing to catch up with: "start_date" is missing. Add it.'
        )


def _without_effect(spec: PipelineSpec) -> Iterator[Flaw]:
    """Yield what only containers have where there are none, and GPUs of stages that ask for none."""
    options = (spec.document.get("options") or {}).get("airflow") or {}
    sections: list[tuple[Path, Any]] = [(("options", "airflow"), options)]
    sections += [
        (("options", "airflow", "stages", name), stage) for name, stage in (options.get("stages") or {}).items()
    ]
    if spec.airflow.runner == "process":
        for path, section in sections:
            for name in ("image", "network", "gpus", "memory"):
                if section and section.get(name) is not None:
                    yield Flaw(
                        (*path, name),
                        f'"{name}" has no effect: it is for containers, and the runner is "process". Remove one of them.',
                        at_key=True,
                    )
    elif options.get("gpus") and spec.gpu is Gpu.NO and not any(stage.gpu for stage in spec.airflow.stages.values()):
        yield Flaw(
            ("options", "airflow", "gpus"),
            '"gpus" has no effect: no stage gets a GPU. Write "gpu": true, or "auto", into options.train, or remove it.',
            at_key=True,
        )


def _credentials(path: Path, value: Any) -> Iterator[Flaw]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _credentials((*path, key), inner)
    elif isinstance(value, str) and _CREDENTIALS.search(unquote(value)):
        yield Flaw(
            path,
            "An address in here holds a user or password, which is written into the run's files, the model's folder "
            "and the zip. Keep it out of the document, such as in an environment variable of the workers.",
        )


def _repeated(text: str) -> Iterator[Problem]:
    for path, first, second in Places.of(text).repeated:
        line, column = line_column(text, first)
        yield Problem(
            f'The key "{masked(str(path[-1]))}" stands here again (first in line {line}, column {column}): only the last one '
            "counts. Remove the others.",
            masked(json_path(path)),
            *line_column(text, second),
        )
