"""Everything that is wrong with a document, in words and with its place.

jsonschema finds where a document departs from the schema; its own messages name keywords and dump values, so each
keyword is translated here. Examples and descriptions come from the schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import tzinfo
from typing import Any, Final, NamedTuple

from pipcook_provider.errors import Problem
from pipcook_provider.masking import masked
from pipcook_provider.spec.airflow import parse_memory, parse_start_date, parse_timezone
from pipcook_provider.spec.credentials import refuse_credentials
from pipcook_provider.spec.framework import check_framework
from pipcook_provider.spec.keys import misspelt
from pipcook_provider.spec.names import did_you_mean, nearest
from pipcook_provider.spec.places import Path, Place, Places, json_path, line_column
from pipcook_provider.spec.schedule import check_continuous, read_schedule
from pipcook_provider.spec.schema import Schema, at, compile_schema, defaults_schema, known_keys, schema
from pipcook_provider.spec.stages import check_any_stage, check_stage, stage_names
from pipcook_provider.spec.uri import absolute_origin, resolve_script
from pipcook_provider.units import read_duration

_KINDS: Final[Mapping[str, str]] = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "boolean": "true, false",
    "integer": "a whole number",
    "number": "a number",
    "null": "null",
}


Source = Callable[[Path], str | None]
"""Returns the file of defaults that the value at a path comes from, where the document itself has none there."""


class Flaw(NamedTuple):
    """Something wrong at a path; the place shown is that of the value, or of its key.

    :param beside: path of another value without which it would be right.
    """

    path: Path
    message: str
    at_key: bool = False
    beside: Path = ()


class Departure(NamedTuple):
    """Where a value departs from a schema.

    :param value: what stands at the path.
    :param operand: that of the keyword that refused it.
    :param root: the whole schema.
    """

    path: Path
    value: Any
    operand: Any
    root: Schema

    @property
    def part(self) -> Schema:
        """What the schema says of the value."""
        return at(self.path, self.root)


NO_TEXTS: Final[Mapping[Path, str]] = {}

#: Problems that are told: Airflow's database and UI keep the text of all of them.
_MOST_TOLD: Final = 100


def diagnose(
    text: str, document: Any, origin: str, source: Source = lambda _: None, replaced: Mapping[Path, str] = NO_TEXTS
) -> tuple[Problem, ...]:
    """Return all problems of a document that is valid JSON, in the order of the text.

    :param text: the document.
    :param document: the same, parsed, with defaults where it gets some, and with its variables replaced.
    :param origin: path or URL of the document.
    :param source: tells where defaults come from.
    :param replaced: what stands in the text where a variable was replaced.
    """
    return located(text, set(_flaws(document, origin)), source, replaced)


def diagnose_defaults(text: str, document: Any, replaced: Mapping[Path, str] = NO_TEXTS) -> tuple[Problem, ...]:
    """Return all problems of a file of defaults that is valid JSON, in the order of the text."""
    return located(text, set(_flaws_of_defaults(document)), replaced=replaced)


def located(
    text: str, flaws: set[Flaw], source: Source = lambda _: None, replaced: Mapping[Path, str] = NO_TEXTS
) -> tuple[Problem, ...]:
    """Give flaws their places, and order them by these; no user or password in an address is shown.

    A flaw of a value that comes from defaults is shown where the value would stand, and says which file it is from; one
    of a value that a variable was replaced in says what stands there.
    """
    text = text.removeprefix("\ufeff")
    places = Places.of(text).by_path
    found = sorted((_place(flaw.path, places)[flaw.at_key], flaw) for flaw in flaws)
    problems = tuple(
        Problem(
            masked(f"{flaw.message}{_inherited(flaw, places, source)}{_replaced(flaw, replaced)}"),
            masked(json_path(flaw.path)),
            *line_column(text, offset),
        )
        for offset, flaw in found[:_MOST_TOLD]
    )
    if len(found) == len(problems):
        return problems
    offset, flaw = found[_MOST_TOLD]
    message = f"Expected no more problems, found {len(found) - _MOST_TOLD:,} from here on. Correct the others first."
    return (*problems, Problem(message, masked(json_path(flaw.path)), *line_column(text, offset)))


def _place(path: Path, places: Mapping[Path, Place]) -> Place:
    while path not in places:
        path = path[:-1]
    return places[path]


def _inherited(flaw: Flaw, places: Mapping[Path, Place], source: Source) -> str:
    files = {path: source(path) for path in (flaw.path, flaw.beside) if path not in places}
    return "".join(f" The value of {json_path(path)} comes from {file}." for path, file in files.items() if file)


def _replaced(flaw: Flaw, replaced: Mapping[Path, str]) -> str:
    return f" It stands for {shown(replaced[flaw.path])}." if flaw.path in replaced else ""


def shown(value: Any, limit: int = 60) -> str:
    """Write a JSON value for a message, shortened."""
    try:
        text = masked(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        return "..."
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _flaws(document: Any, origin: str) -> Iterator[Flaw]:
    if not isinstance(document, dict):
        yield Flaw((), f"Expected an object with the keys of a pipeline, found {_found(document)}.")
    elif "plugins" in document and document.keys().isdisjoint({"datasource", "dataSource", "model"}):
        yield Flaw(
            ("plugins",),
            "Expected a pipeline of specification 2.0, found one of 1.0, whose plugins do not exist any more. Name a "
            'script for each stage under "datasource", "dataflow" and "model", and set "specVersion" to "2.0".',
            at_key=True,
        )
    else:
        yield from _misspelt_keys(document)
        yield from _departures(document, schema())
        yield from _unusable_scripts(document, origin)
        names = stage_names(document)
        yield from _unusable_options(document, lambda name: check_stage(name, names))
        yield from _refusal(("origin",), document.get("origin"), refuse_credentials)
        yield from _refusal((), origin, refuse_credentials)


def _flaws_of_defaults(document: Any) -> Iterator[Flaw]:
    if not isinstance(document, dict):
        yield Flaw((), f'Expected an object with the key "options", found {_found(document)}.')
        return
    options = {"options": document.get("options")}
    yield from _misspelt_keys(options)
    yield from _departures(document, defaults_schema())
    yield from _unusable_options(options, check_any_stage)


def _misspelt_keys(document: Mapping[str, Any]) -> Iterator[Flaw]:
    for path, meant in misspelt(document):
        yield Flaw(
            path,
            f'Expected a known key, found "{path[-1]}", which nothing reads. Did you mean "{meant}"?',
            at_key=True,
        )


def _departures(document: Mapping[str, Any], root: Schema) -> Iterator[Flaw]:
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(root).iter_errors(document):
        departure = Departure(tuple(error.absolute_path), error.instance, error.validator_value, root)
        keyword = "propertyNames" if "propertyNames" in error.absolute_schema_path else str(error.validator)
        yield from _TRANSLATORS[keyword](departure)


def _unusable_scripts(document: Mapping[str, Any], origin: str) -> Iterator[Flaw]:
    origin = absolute_origin(origin)
    if isinstance(document.get("origin"), str):
        origin = absolute_origin(document["origin"], origin)
    scripts: list[tuple[Path, Any]] = [((key,), document.get(key)) for key in ("datasource", "dataSource", "model")]
    if isinstance(dataflow := document.get("dataflow"), list):
        scripts += [(("dataflow", index), script) for index, script in enumerate(dataflow)]
    for path, script in scripts:
        yield from _refusal(path, script, lambda reference: resolve_script(reference, origin))


def _unusable_options(document: Mapping[str, Any], check_stage_name: Callable[[str], None]) -> Iterator[Flaw]:
    options = document.get("options")
    if not isinstance(options, dict):
        return
    yield from _refusal(("options", "framework"), options.get("framework"), check_framework)
    airflow = options.get("airflow")
    if isinstance(airflow, dict):
        yield from _unusable_schedule(document, airflow)
        yield from _refusal((*_AIRFLOW, "timezone"), airflow.get("timezone"), parse_timezone)
        zone = _timezone(airflow.get("timezone"))
        start_date = (*_AIRFLOW, "start_date")
        yield from _refusal(start_date, airflow.get("start_date"), lambda text: parse_start_date(text, zone))
        yield from _unusable_memory((*_AIRFLOW, "memory"), airflow.get("memory"))
        stages = airflow.get("stages")
        for name, stage in stages.items() if isinstance(stages, dict) else ():
            path = (*_AIRFLOW, "stages", name)
            try:
                check_stage_name(name)
            except ValueError as exc:
                yield Flaw(path, str(exc), at_key=True)
            if isinstance(stage, dict):
                yield from _unusable_memory((*path, "memory"), stage.get("memory"))


_AIRFLOW: Final = ("options", "airflow")


def _unusable_schedule(document: Mapping[str, Any], airflow: Mapping[str, Any]) -> Iterator[Flaw]:
    path = (*_AIRFLOW, "schedule")
    value = airflow.get("schedule")
    is_told = any(key.path[: len(path)] == path for key in misspelt(document))
    if value is None or is_told or not compile_schema(at(path))(value):
        return
    flaws: list[Flaw] = []
    schedule = read_schedule(value, lambda place, message: flaws.append(Flaw((*path, *place), message)))
    yield from flaws
    if not flaws and schedule.time == "@continuous":
        yield from _too_many_runs(airflow.get("max_active_runs"))


def _too_many_runs(runs: Any) -> Iterator[Flaw]:
    path = (*_AIRFLOW, "max_active_runs")
    if runs is not None and compile_schema(at(path))(runs):
        try:
            check_continuous(runs)
        except ValueError as exc:
            yield Flaw(path, str(exc), beside=(*_AIRFLOW, "schedule"))


def _timezone(name: Any) -> tzinfo | None:
    with suppress(ValueError):
        return parse_timezone(name) if isinstance(name, str) else None
    return None


def _unusable_memory(path: Path, value: Any) -> Iterator[Flaw]:
    if compile_schema(at(path))(value):
        yield from _refusal(path, value, parse_memory)


def _refusal(path: Path, value: Any, reader: Callable[[str], object]) -> Iterator[Flaw]:
    if isinstance(value, str) and value:
        try:
            reader(value)
        except ValueError as exc:
            yield Flaw(path, str(exc))


def _wrong_type(it: Departure) -> Iterator[Flaw]:
    found = f"found {_found(it.value)}.{_rewritten(it.part, it.value)}"
    yield Flaw(it.path, f"Expected {_expected(it.part)}, {found}")


def _not_a_choice(it: Departure) -> Iterator[Flaw]:
    names = tuple(choice for choice in it.operand if isinstance(choice, str))
    near = did_you_mean(it.value, names) if isinstance(it.value, str) else ""
    yield Flaw(it.path, f"Expected {_either(map(shown, it.operand))}, found {_found(it.value)}.{near}")


def _other_version(it: Departure) -> Iterator[Flaw]:
    remedy = "Only 2.0 is understood: rewrite the document, or use a version of this package that knows it."
    if str(it.value).strip().removeprefix("v") in {"2", "2.0", "2.0.0"}:
        remedy = 'Write "2.0".'
    yield Flaw(it.path, f'Expected the specVersion "2.0", found {_found(it.value)}. {remedy}')


def _missing(it: Departure) -> Iterator[Flaw]:
    for name in it.operand:
        if name not in it.value:
            yield from _missing_key(it, name)


def _no_datasource(it: Departure) -> Iterator[Flaw]:
    if "datasource" in it.value:
        yield Flaw((*it.path, "dataSource"), _TWICE.format("datasource", "dataSource"), at_key=True)
    else:
        yield from _missing_key(it, "datasource")


def _missing_key(it: Departure, name: str) -> Iterator[Flaw]:
    if not it.path and any(key.path[:-1] == () and key.slip_of == name for key in misspelt(it.value)):
        return  # told already, at the misspelt key
    part = at((*it.path, name), it.root)
    what = part["description"].partition(". ")[0].rstrip(".")
    near = nearest(name, tuple(it.value.keys() - known_keys(*it.path)))
    remedy = f'Did you mean it by "{near}"?' if near else f'Add "{name}": {_example(part)}.'
    yield Flaw(it.path, f'Expected the key "{name}" ({what[0].lower()}{what[1:]}), which is missing. {remedy}')


def _two_artifacts(it: Departure) -> Iterator[Flaw]:
    yield Flaw((*it.path, "artifacts"), _TWICE.format("artifact", "artifacts"), at_key=True)


def _too_short(it: Departure) -> Iterator[Flaw]:
    yield Flaw(it.path, f"Expected {_expected(it.part)}, found an empty string. Fill it in{_or_null(it)}.")


def _too_few(it: Departure) -> Iterator[Flaw]:
    yield Flaw(it.path, f"Expected a list with something in it, found an empty list. Fill it{_or_null(it)}.")


def _too_long(it: Departure) -> Iterator[Flaw]:
    yield Flaw(it.path, f"Expected at most {it.operand} characters, found {len(it.value)}. Shorten it.")


def _too_small(it: Departure) -> Iterator[Flaw]:
    bound = "above" if "exclusiveMinimum" in it.part else "of at least"
    kind = _number(it.part)
    yield Flaw(it.path, f"Expected {kind} {bound} {it.operand}, found {shown(it.value)}. Correct it{_or_null(it)}.")


def _too_large(it: Departure) -> Iterator[Flaw]:
    kind = _number(it.part)
    yield Flaw(it.path, f"Expected {kind} of at most {it.operand}, found {shown(it.value)}. Correct it{_or_null(it)}.")


def _number(part: Schema) -> str:
    return _KINDS[next(iter(_kinds(part)), "number")]


def _unfit_text(it: Departure) -> Iterator[Flaw]:
    yield Flaw(it.path, _unfit(it.part, it.value))


def _unfit_name(it: Departure) -> Iterator[Flaw]:
    yield Flaw((*it.path, it.value), _unfit(it.part["propertyNames"], it.value), at_key=True)


def _unknown_keys(it: Departure) -> Iterator[Flaw]:
    """Yield the keys of defaults that these do not have; every other object is open."""
    for name in it.value.keys() - it.part["properties"].keys():
        near = did_you_mean(name, ("options", "environment"))
        remedy = near or (' Write it below "options".' if name in known_keys("options") else " Remove it.")
        yield Flaw(
            (*it.path, name),
            f'Expected only the keys "options" and "environment" in the defaults of a folder, found "{name}".{remedy}',
            at_key=True,
        )


def _unfit(part: Schema, value: str) -> str:
    what = part["description"].partition(". ")[0].rstrip(".")
    return f"Expected the {what[0].lower()}{what[1:]}, such as {_example(part)}, found {shown(value)}. Correct it."


_TWICE: Final = 'Expected either "{}" or "{}", found both, which are spellings of one key. Remove one of them.'
_TRANSLATORS: Final[Mapping[str, Callable[[Departure], Iterator[Flaw]]]] = {
    "type": _wrong_type,
    "enum": _not_a_choice,
    "const": _other_version,
    "required": _missing,
    "oneOf": _no_datasource,
    "not": _two_artifacts,
    "additionalProperties": _unknown_keys,
    "minLength": _too_short,
    "minItems": _too_few,
    "maxLength": _too_long,
    "pattern": _unfit_text,
    "propertyNames": _unfit_name,
    "minimum": _too_small,
    "maximum": _too_large,
    "exclusiveMinimum": _too_small,
}


def _or_null(it: Departure) -> str:
    return ", or write null" if "null" in _kinds(it.part) else ""


def _expected(part: Schema) -> str:
    return f"{_either(_KINDS[name] for name in _kinds(part))}, such as {_example(part)}"


def _kinds(part: Schema) -> list[str]:
    kinds = part.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def _example(part: Schema) -> str:
    return shown(part["examples"][0], 120)


def _either(choices: Iterator[str]) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def _found(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return shown(value)
    for kind, name in ((str, "string"), (list, "list"), (dict, "object")):
        if isinstance(value, kind):
            return f"the {name} {shown(value)}" if value else f"an empty {name}"
    return f"the number {shown(value)}"


def _rewritten(part: Schema, value: Any) -> str:
    """Return the remedy where the value itself shows it: a missing bracket, or quotes too few or too many."""
    fits = compile_schema(part)
    return next((f" Write {shown(candidate)}." for candidate in _variants(part, value) if fits(candidate)), "")


_MINUTES: Final = re.compile(r"(?<=[\d ])m(?:ins|inutes?)?$")


def _variants(part: Schema, value: Any) -> Iterator[Any]:
    """Yield what may be meant; of several kinds of values none is guessed, only brackets are."""
    several = len(set(_kinds(part)) - {"null"}) > 1
    if several:
        pass
    elif isinstance(value, str):
        with suppress(ValueError):
            yield json.loads(value.lower())
        if part.get("description", "").startswith("Seconds"):
            with suppress(ValueError):
                yield round(read_duration(_MINUTES.sub("min", value)).total_seconds())
        if "processor" in part.get("required", ()):
            yield {"processor": value}
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    if "items" in part:
        yield [value]
    if "items" in part and not several:
        yield from ([variant] for variant in _variants(_item(part), value))


def _item(part: Schema) -> Schema:
    item: Schema = part["items"]
    return item
