"""What is allowed in a pipeline document but most likely not meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

from pipcook_provider.errors import Problem
from pipcook_provider.masking import masked
from pipcook_provider.spec.diagnose import Flaw, located
from pipcook_provider.spec.keys import unknown_keys
from pipcook_provider.spec.model import PipelineSpec
from pipcook_provider.spec.names import did_you_mean, slip
from pipcook_provider.spec.parse import parse_pipeline
from pipcook_provider.spec.places import Path, Places, json_path, line_column
from pipcook_provider.spec.schema import known_keys

_CREDENTIALS: Final = re.compile(r"https?://[^/?#\s]*@", re.IGNORECASE)


def lint_pipeline(text: str, origin: str) -> tuple[Problem, ...]:
    """Return warnings about a document that can be used, in the order of the text.

    :param text: the document.
    :param origin: path or URL of the document.
    :raises SpecError: the document cannot be used.
    """
    spec = parse_pipeline(text, origin)
    flaws = {*_unknown(spec.document), *_near_misses(spec), *_overruled(spec), *_pointless(spec)}
    flaws |= set(_credentials((), spec.document))
    problems = (*located(text, flaws), *_repeated(text.removeprefix("\ufeff")))
    return tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))


def _unknown(document: Any) -> Iterator[Flaw]:
    for path, _ in unknown_keys(document):
        near = did_you_mean(path[-1], known_keys(*path[:-1]))
        yield Flaw(path, f'Unknown key "{path[-1]}": it is kept, but nothing reads it.{near}', at_key=True)


def _near_misses(spec: PipelineSpec) -> Iterator[Flaw]:
    entries = "artifact" if "artifact" in spec.document else "artifacts"
    sections: list[tuple[Path, Any]] = [(("options", "train"), spec.train)]
    sections += [((entries, index), artifact.options) for index, artifact in enumerate(spec.artifacts)]
    for path, section in sections:
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
    if airflow.runner == "docker":
        yield Flaw(
            ("options", "airflow", "runner"),
            'There is no runner "docker" yet: this version runs stages in processes only, and refuses to run this '
            'pipeline. Remove it, or write "process".',
        )
    if airflow.image is not None:
        yield Flaw(
            ("options", "airflow", "image"),
            "The image is not used: this version runs stages in processes only. Remove it.",
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
