"""``options.airflow``: from JSON to `AirflowOptions`, and the rules that a JSON Schema cannot express."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, NoReturn

from pipcook_provider.spec.model import AirflowOptions, StageOptions
from pipcook_provider.spec.names import nearest
from pipcook_provider.spec.places import Path
from pipcook_provider.spec.schedule import check_continuous, read_schedule
from pipcook_provider.units import read_memory

_FIRST_DATE: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DATE: Final = datetime(2200, 1, 1, tzinfo=UTC)
_OFFSET: Final = re.compile(r"(UTC|GMT|Z)?\s*[+-]?\d.*", re.IGNORECASE)
_ABBREVIATION: Final = re.compile("[A-Z]{3,4}")
_DAY: Final = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})")
_WHOLE: Final = frozenset({"retries", "priority_weight", "max_active_runs", "gpus"})
_SECONDS: Final = frozenset({"retry_delay", "execution_timeout"})
_FIELDS: Final = frozenset(option.name for option in fields(AirflowOptions))
_STAGE_FIELDS: Final = frozenset(option.name for option in fields(StageOptions))


def airflow_options(given: Mapping[str, Any]) -> AirflowOptions:
    """Make the record of an ``options.airflow`` that conforms to the schema; ``null`` is as good as absent.

    :raises ValueError: the schedule, time zone, start date or a size cannot be used, or what else is given does not go
        with them.
    """
    if not given:
        return _NONE
    values = {name: value for name, value in given.items() if value is not None and name in _FIELDS}
    if "schedule" in values:
        values["schedule"] = schedule = read_schedule(values["schedule"], _refuse)
        if schedule.time == "@continuous":
            check_continuous(values.setdefault("max_active_runs", 1))
    zone = parse_timezone(values["timezone"]) if "timezone" in values else None
    if "start_date" in values:
        values["start_date"] = parse_start_date(values["start_date"], zone)
    if isinstance(values.get("on_failure"), str):
        values["on_failure"] = (values["on_failure"],)
    elif "on_failure" in values:
        values["on_failure"] = tuple(dict.fromkeys(values["on_failure"]))
    if "tags" in values:
        values["tags"] = tuple(values["tags"])
    if "stages" in values:
        values["stages"] = {name: _stage_options(stage or {}) for name, stage in values["stages"].items()}
    return AirflowOptions(**_shared(values))


_NONE: Final = AirflowOptions()


def _stage_options(given: Mapping[str, Any]) -> StageOptions:
    values = {name: value for name, value in given.items() if value is not None and name in _STAGE_FIELDS}
    return StageOptions(**_shared(values))


def _refuse(_: Path, message: str) -> NoReturn:
    raise ValueError(message)


def _shared(values: dict[str, Any]) -> dict[str, Any]:
    """Return options with those read that a pipeline and a single stage share."""
    image = values.get("image")
    if isinstance(image, str):
        values["image"] = {"cpu": image, "gpu": image}
    elif image is not None:
        values["image"] = {kind: name for kind, name in image.items() if name is not None}
    if "memory" in values:
        values["memory"] = parse_memory(values["memory"])
    for name in values.keys() & _WHOLE:
        values[name] = int(values[name])  # JSON's 2.0 is an integer too
    for name in values.keys() & _SECONDS:
        values[name] = float(values[name])
    return values


def parse_memory(text: str) -> int:
    """Read the most memory that a container may use, in bytes.

    :raises ValueError: it is no size with a unit, or one that no container engine takes.
    """
    try:
        return read_memory(text)
    except ValueError as exc:
        raise ValueError(
            f'Expected a size from 6MiB on, with its unit, such as "4GB" or "512MiB", found "{text}". Correct it, or '
            "write null for the limit of the settings."
        ) from exc


def parse_timezone(name: str) -> tzinfo:
    """Return the time zone of an IANA name; Airflow's cron goes by it, summer time included.

    :raises ValueError: there is none of this name.
    """
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (ValueError, LookupError, OSError) as exc:  # as the name would be that of no file, or of a folder
        raise ValueError(
            f'Expected the IANA name of a time zone, such as "Asia/Shanghai" or "UTC", found "{name}", which is none. '
            f"{_likely_timezone(name)}"
        ) from exc


def _likely_timezone(name: str) -> str:
    from zoneinfo import available_timezones

    if _OFFSET.fullmatch(name):
        return "An offset knows no summer time: name a place of that zone, or give start_date the offset."
    if _ABBREVIATION.fullmatch(name):
        return "An abbreviation may stand for several zones: name a place of the one that is meant."
    # "Etc/GMT+8" is eight hours behind UTC: nobody who is near it means it.
    places = tuple(sorted(zone for zone in available_timezones() if not zone.startswith(("Etc/", "posix", "right/"))))
    near = nearest(name, places)
    return f'Did you mean "{near}"?' if near else "Write the name of a place of that zone."


def parse_start_date(text: str, zone: tzinfo | None = None) -> datetime:
    """Read a date, or a date and time, in ISO 8601.

    :param zone: the zone of the result, and of a text without an offset; by default what the text says, or UTC.
    :raises ValueError: it is none, no day of the calendar, or not between 1970 and 2200.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as exc:
        reason = "" if "isoformat" in str(exc) else f": {exc}"
        remedy = "Name a day that the calendar has." if reason else "Write year, month and day in this order."
        if not reason and (day := _DAY.fullmatch(text.strip())):
            remedy = f'Did you mean "{day[1]}-{day[2]:0>2}-{day[3]:0>2}"?'
        raise ValueError(
            f'Expected a date such as "2026-01-01" or "2026-01-01T08:00:00+08:00", found "{text}"{reason}. {remedy}'
        ) from exc
    moment = moment if moment.tzinfo else moment.replace(tzinfo=zone or UTC)
    if not _FIRST_DATE <= moment <= _LAST_DATE:
        raise ValueError(
            f'Expected a date between 1970-01-01 and 2200-01-01 (UTC), found "{text}", which Airflow cannot reckon '
            "with. Correct the year."
        )
    return moment.astimezone(zone) if zone else moment
