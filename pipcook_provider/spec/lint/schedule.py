"""Schedules that never fire, or fire for ever, and what has no effect beside a schedule."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pipcook_provider.spec.diagnose import Flaw
from pipcook_provider.spec.lint.facts import Facts
from pipcook_provider.spec.lint.sections import AIRFLOW, airflow_section
from pipcook_provider.spec.model import AssetCondition, AssetSpec, PipelineSpec, Schedule
from pipcook_provider.spec.places import Path

_SCHEDULE: Final = (*AIRFLOW, "schedule")
#: Nobody who writes a document today waits that long for its first run.
_FAR: Final = datetime(2100, 1, 1, tzinfo=UTC)
#: The fields of a cron expression, and after how many each begins anew.
_FIELDS: Final = {"minute": 60, "hour": 24, "day of the month": 31, "month": 12, "day of the week": 7}
_STEP: Final = re.compile(r"/(\d+)")
#: Presets that have no times which could be missed, and none that a zone could move.
_TIMELESS: Final = frozenset({"@once", "@continuous"})


def schedule_flaws(spec: PipelineSpec, facts: Facts) -> Iterator[Flaw]:
    """Yield what is most likely not meant by a schedule and what belongs to it."""
    airflow = spec.airflow
    schedule = airflow.schedule
    time = schedule.time if schedule else None
    if airflow.catchup and airflow.start_date is None:
        yield Flaw(
            (*AIRFLOW, "catchup"),
            'There is nothing to catch up with: "start_date" is missing. Add it, or remove "catchup".',
        )
    elif airflow.catchup and (time is None or time in _TIMELESS):
        yield _pointless("catchup", "there are no times in the schedule that could be missed")
    if airflow.timezone is not None and (time is None or time in _TIMELESS):
        yield _pointless("timezone", "there are no times in the schedule that it could be the zone of")
    if schedule is not None and airflow.start_date is not None and airflow.start_date >= _FAR:
        yield Flaw(
            (*AIRFLOW, "start_date"),
            f"The schedule fires for the first time after {airflow.start_date:%Y-%m-%d}: none of us will see it. Correct the "
            "year.",
        )
    if isinstance(time, str) and not time.startswith("@"):
        yield from _of_cron(
            time, (*_SCHEDULE, "time") if isinstance(airflow_section(spec)["schedule"], dict) else _SCHEDULE
        )
    if schedule is not None and schedule.assets is not None:
        yield from _of_assets(spec, schedule, facts)


def _of_cron(expression: str, path: Path) -> Iterator[Flaw]:
    fields = expression.split()
    if len(fields) > len(_FIELDS):
        yield Flaw(
            path,
            f'The sixth field of a schedule is the second ("{fields[5]}"), which stands first elsewhere: this one fires in '
            f'the minute "{fields[0]}" of the hour "{fields[1]}". Leave it out, unless that is meant.',
        )
    for name, length, one in zip(_FIELDS, _FIELDS.values(), fields, strict=False):
        for step in _STEP.findall(one):
            if len(step) > 2 or int(step) > length:
                yield Flaw(
                    path,
                    f'The step of "{one}" never comes: the field is the {name}, and begins anew after {length}. Write a step '
                    "that is shorter, or a duration.",
                )


def watched(spec: PipelineSpec) -> Iterator[tuple[Path, str]]:
    """Yield the URIs that are watched, with their paths."""
    if spec.airflow.schedule is not None and spec.airflow.schedule.assets is not None:
        for path, entry in _entries(spec):
            if isinstance(entry, Mapping) and entry.get("watch"):
                name = "uri" if entry.get("uri") is not None else "name"
                yield (*path, name), entry[name]


def assets_of(spec: PipelineSpec) -> Iterator[tuple[Path, AssetSpec]]:
    """Yield the assets that a pipeline is scheduled on, with their paths."""
    if spec.airflow.schedule is not None and spec.airflow.schedule.assets is not None:
        for (path, _), asset in zip(_entries(spec), _leaves(spec.airflow.schedule.assets), strict=True):
            yield path, asset


def _leaves(condition: AssetCondition | AssetSpec) -> Iterator[AssetSpec]:
    if isinstance(condition, AssetSpec):
        yield condition
    else:
        for entry in condition.entries:
            yield from _leaves(entry)


def _pointless(name: str, why: str) -> Flaw:
    return Flaw((*AIRFLOW, name), f'"{name}" has no effect: {why}. Remove it.', at_key=True)


def _of_assets(spec: PipelineSpec, schedule: Schedule, facts: Facts) -> Iterator[Flaw]:
    assert schedule.assets is not None
    for path, entry in _entries(spec):
        if facts.model is not None and facts.model in _names(entry):
            if schedule.time is None and not _may_hold(schedule.assets, facts.model):
                yield Flaw(
                    path,
                    "This schedule never fires: the asset is the model of this very pipeline, which waits for itself. "
                    "Name the assets that it is trained on.",
                )
            elif _suffices(schedule.assets, facts.model):
                yield Flaw(
                    path,
                    "The asset is the model of this very pipeline: each run brings about the next one, without end. Remove "
                    'it, or write the schedule "@continuous" if that is meant.',
                )


def _may_hold(condition: AssetCondition | AssetSpec, without: str) -> bool:
    """Tell whether a condition may become true while one asset never changes."""
    if isinstance(condition, AssetSpec):
        return without not in (condition.name, condition.uri)
    holds = [_may_hold(entry, without) for entry in condition.entries]
    return all(holds) if condition.kind == "all" else any(holds)


def _suffices(condition: AssetCondition | AssetSpec, asset: str) -> bool:
    """Tell whether a condition becomes true whenever one asset changes."""
    if isinstance(condition, AssetSpec):
        return asset in (condition.name, condition.uri)
    suffices = [_suffices(entry, asset) for entry in condition.entries]
    return all(suffices) if condition.kind == "all" else any(suffices)


def _names(entry: Any) -> tuple[Any, ...]:
    return (entry.get("name"), entry.get("uri")) if isinstance(entry, Mapping) else (entry,)


def _entries(spec: PipelineSpec) -> Iterator[tuple[Path, Any]]:
    """Yield the assets of a schedule as the document has them."""
    schedule = airflow_section(spec).get("schedule")
    if isinstance(schedule, Mapping) and schedule.get("assets"):
        yield from _entries_of((*_SCHEDULE, "assets"), schedule["assets"])
    else:
        yield from _entries_of(_SCHEDULE, schedule)


def _entries_of(path: Path, condition: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(condition, list):
        for index, entry in enumerate(condition):
            yield from _entries_of((*path, index), entry)
    elif isinstance(condition, Mapping) and (
        kind := next((name for name in ("any", "all") if condition.get(name)), None)
    ):
        yield from _entries_of((*path, kind), condition[kind])
    elif condition is not None:
        yield path, condition
