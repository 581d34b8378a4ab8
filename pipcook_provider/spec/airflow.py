"""``options.airflow``: from JSON to `AirflowOptions`, and the rules that a JSON Schema cannot express."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, Final

from pipcook_provider.spec.model import AirflowOptions
from pipcook_provider.spec.names import did_you_mean

PRESETS: Final = (
    *("@once", "@continuous", "@hourly", "@daily", "@midnight"),
    *("@weekly", "@monthly", "@quarterly", "@yearly", "@annually"),
)
_FIELDS: Final = frozenset(option.name for option in fields(AirflowOptions))


def airflow_options(given: Mapping[str, Any]) -> AirflowOptions:
    """Make the record of an ``options.airflow`` that conforms to the schema; ``null`` is as good as absent.

    :raises ValueError: the schedule or the start date cannot be used.
    """
    if not given:
        return _NONE
    values = {name: value for name, value in given.items() if value is not None and name in _FIELDS}
    if "schedule" in values:
        values["schedule"] = parse_schedule(values["schedule"])
    if "start_date" in values:
        values["start_date"] = parse_start_date(values["start_date"])
    if "tags" in values:
        values["tags"] = tuple(values["tags"])
    for name in values.keys() & {"retries", "priority_weight", "max_active_runs"}:
        values[name] = int(values[name])  # JSON's 2.0 is an integer too
    for name in values.keys() & {"retry_delay", "execution_timeout"}:
        values[name] = float(values[name])
    return AirflowOptions(**values)


_NONE: Final = AirflowOptions()


def parse_start_date(text: str) -> datetime:
    """Read a date, or a date and time, in ISO 8601; UTC where no offset is given.

    :raises ValueError: it is none, or no day of the calendar.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as exc:
        reason = "" if "isoformat" in str(exc) else f": {exc}"
        raise ValueError(
            f'Expected a date such as "2026-01-01" or "2026-01-01T08:00:00+08:00", found "{text}"{reason}. '
            "Write year, month and day in this order."
        ) from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_schedule(text: str) -> str:
    """Check the form of a schedule, without the cost of a cron parser.

    :raises ValueError: it is neither a preset nor five to seven fields.
    """
    schedule = text.strip()
    if schedule.startswith("@"):
        if schedule not in PRESETS:
            raise ValueError(
                f'Expected one of {", ".join(PRESETS)}, or a cron expression, found "{text}".'
                f"{did_you_mean(schedule, PRESETS)}"
            )
    elif not 5 <= len(schedule.split()) <= 7:
        raise ValueError(
            f'Expected a cron expression of five fields such as "0 3 * * *", or a preset such as "@daily", found '
            f'"{text}". Write null to run on demand only.'
        )
    return schedule
