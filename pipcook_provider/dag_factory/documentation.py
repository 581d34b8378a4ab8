"""The pipeline as its DAG's page shows it: what runs when, what lint says of it, and how to run it without Airflow.

Whatever a document says stands in code spans: neither Markdown nor HTML can be written through it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pipcook_provider.errors import LockError
from pipcook_provider.plan import Stage, plan
from pipcook_provider.spec import (
    AirflowOptions,
    ArtifactSpec,
    AssetCondition,
    AssetSpec,
    Duration,
    PipelineSpec,
    Schedule,
)
from pipcook_provider.spec.lint import Facts, names_connections, warnings_of
from pipcook_provider.spec.reader import read_file

_PRESETS: Final[Mapping[str, str]] = {
    "@once": "once",
    "@continuous": "again and again",
    "@hourly": "every hour",
    "@daily": "every day",
    "@midnight": "every day",
    "@weekly": "every week",
    "@monthly": "every month",
    "@quarterly": "every quarter",
    "@yearly": "every year",
    "@annually": "every year",
}
_UNITS: Final = (("day", 86400), ("hour", 3600), ("minute", 60))

_PUNCTUATION: Final = re.compile(r"[!-/:-@\[-`{-~]")
#: What would end a code span, a table's cell or a line, or could be taken for HTML.
_UNSAFE: Final = re.compile(r"[`|<\x00-\x20\x7f\u2028\u2029]+")
_STAND_INS: Final = {"`": "'", "|": "¦", "<": "‹"}
#: Characters of a value that are shown.
_LONGEST: Final = 200


def documentation(spec: PipelineSpec, path: Path, shown: str) -> str:
    """Return the documentation of a pipeline's DAG, in Markdown.

    :param path: the document.
    :param shown: what people call it.
    """
    kind = _code(spec.type) if spec.type else "Trained"
    framework = f"with {_code(spec.framework)}" if spec.framework else "without a framework"
    parts = [
        f"{kind} {framework}; runs {_when(spec.airflow)}.",
        "\n".join(("| stage | what runs, and its parameters |", "| --- | --- |", *_rows(spec))),
        *_warnings(spec, path),
        _command(spec, f"pipcook train {shlex.quote(shown)} -o {shlex.quote(_name(shown))}"),
    ]
    return "\n\n".join(parts) + "\n"


def _command(spec: PipelineSpec, command: str) -> str:
    if names_connections(spec):
        return f"The same in a terminal, with this Airflow's connections: {_code(f'airflow {command}')}"
    return f"The same without Airflow: {_code(command)}"


def _rows(spec: PipelineSpec) -> Iterator[str]:
    """Yield a row for each stage, and one for each of its parameters: the page is narrow, and addresses are long."""
    for stage in plan(spec):
        if isinstance(stage.subject, ArtifactSpec):
            what = stage.subject.processor
            parameters = {name: value for name, value in stage.subject.options.items() if name != "processor"}
            told = [f"{name}={_shown(value)}" for name, value in parameters.items()]
        else:
            what = _script(spec, stage)
            query = stage.subject.parameters
            train = spec.train if stage.role == "model" else {}
            told = [f"{name}={_shown(value)}" for name, value in train.items() if name not in query]
            told += [name if value is None else f"{name}={_shown(value)}" for name, value in query.items()]
        yield f"| {stage.task_id} | {_code(what)} |"
        yield from (f"| | {_code(text)} |" for text in told)


def _script(spec: PipelineSpec, stage: Stage) -> str:
    """Return where a stage's script lies, as the document says it: the same on all machines."""
    place: Any = spec.document
    for key in spec.script_paths[stage.order]:
        place = place[key]
    reference: str = place
    return reference.partition("#")[0].partition("?")[0]


def _warnings(spec: PipelineSpec, path: Path) -> Iterator[str]:
    text = read_file(path)
    found = warnings_of(text, spec)
    if found and spec.airflow.schedule and (locked := _locked(spec)):
        found = warnings_of(text, spec, Facts(locked=locked))
    if found:
        told = (f"- line {problem.line}, {_text(problem.path)}: {_text(problem.message)}" for problem in found)
        yield "\n".join(("**Warnings**", "", *told))


def _locked(spec: PipelineSpec) -> frozenset[str]:
    from pipcook_provider.lockfile import Lock

    try:
        lock = Lock.beside(spec.origin)
    except LockError:  # which a run tells
        return frozenset()
    return lock.references(spec) if lock else frozenset()


def _name(shown: str) -> str:
    return shown.rpartition("/")[2].partition("?")[0].removesuffix(".json") or "run"


def _when(airflow: AirflowOptions) -> str:
    schedule = airflow.schedule or Schedule()
    told = []
    if schedule.time is not None:
        zone = f" ({_code(airflow.timezone)})" if airflow.timezone else ""
        told.append(_at(schedule.time) + zone)
    if schedule.assets is not None:
        told.append(f"on updates of {_condition(schedule.assets)}")
    return ", and ".join(told) or "on demand"


def _at(time: str | Duration) -> str:
    if isinstance(time, str):
        return _PRESETS.get(time) or f"at {_code(time)}"
    amounts: list[tuple[float, str]] = [(time.months, "month")]
    seconds = time.seconds
    for unit, length in _UNITS:
        count, seconds = divmod(seconds, length)
        amounts.append((count, unit))
    amounts.append((seconds, "second"))
    told = [f"{count:g} {unit}{'s' * (count != 1)}" for count, unit in amounts if count]
    return f"every {told[0].removeprefix('1 ') if len(told) == 1 else ' '.join(told)}"


def _condition(condition: AssetCondition) -> str:
    word = "and" if condition.kind == "all" else "or"
    told = [_asset(entry) if isinstance(entry, AssetSpec) else f"({_condition(entry)})" for entry in condition.entries]
    return f" {word} ".join(told)


def _asset(asset: AssetSpec) -> str:
    watched = f" (looked at every {asset.interval:g} s)" if asset.watch else ""
    return _code(asset.name) + watched


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    # Numbers are most of it, and making JSON costs many times as much.
    return repr(value) if type(value) in (int, float) else json.dumps(value, ensure_ascii=False)


def _text(text: str) -> str:
    """Return Markdown that shows a text as it is."""
    return _PUNCTUATION.sub(r"\\\g<0>", " ".join(text.split()))


def _code(text: str) -> str:
    """Return a code span that shows a text, however it is written, in one line of a table."""
    if not text:
        return ""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return f"`{_UNSAFE.sub(_stand_in, text)}`"


def _stand_in(found: re.Match[str]) -> str:
    return "".join(_STAND_INS.get(character, " ") for character in found[0])
