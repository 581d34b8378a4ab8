"""``options.airflow``: from JSON to `AirflowOptions`, and the rules that a JSON Schema cannot express."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from pipcook_provider.spec.model import AirflowOptions, StageOptions
from pipcook_provider.spec.names import did_you_mean
from pipcook_provider.units import read_memory

PRESETS: Final = (
    *("@once", "@continuous", "@hourly", "@daily", "@midnight"),
    *("@weekly", "@monthly", "@quarterly", "@yearly", "@annually"),
)
_CRON_FIELDS: Final = ("minute", "hour", "day of the month", "month", "day of the week", "second", "year")
_FIRST_DATE: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DATE: Final = datetime(2200, 1, 1, tzinfo=UTC)
# Airflow asks a schedule for the runs before and after now: both must exist, at whatever time a document is read.
_BEGUN: Final = datetime(2026, 1, 1)  # noqa: DTZ001 - Airflow too gives croniter the wall clock
_LASTING: Final = datetime(2090, 1, 1)  # noqa: DTZ001
_FIELDS: Final = frozenset(option.name for option in fields(AirflowOptions))
_STAGE_FIELDS: Final = frozenset(option.name for option in fields(StageOptions))


def airflow_options(given: Mapping[str, Any]) -> AirflowOptions:
    """Make the record of an ``options.airflow`` that conforms to the schema; ``null`` is as good as absent.

    :raises ValueError: the schedule, the start date or a size cannot be used, or what else is given does not go with them.
    """
    if not given:
        return _NONE
    values = {name: value for name, value in given.items() if value is not None and name in _FIELDS}
    if "schedule" in values:
        values["schedule"] = parse_schedule(values["schedule"])
        if values["schedule"] == "@continuous":
            check_continuous(values.setdefault("max_active_runs", 1))
    if "start_date" in values:
        values["start_date"] = parse_start_date(values["start_date"])
    if "tags" in values:
        values["tags"] = tuple(values["tags"])
    if "stages" in values:
        values["stages"] = {name: _stage_options(stage or {}) for name, stage in values["stages"].items()}
    for name in values.keys() & {"retries", "priority_weight", "max_active_runs", "gpus"}:
        values[name] = int(values[name])  # JSON's 2.0 is an integer too
    for name in values.keys() & {"retry_delay", "execution_timeout"}:
        values[name] = float(values[name])
    return AirflowOptions(**_container(values))


_NONE: Final = AirflowOptions()


def _stage_options(given: Mapping[str, Any]) -> StageOptions:
    values = {name: value for name, value in given.items() if value is not None and name in _STAGE_FIELDS}
    return StageOptions(**_container(values))


def _container(values: dict[str, Any]) -> dict[str, Any]:
    """Return options with those read that a pipeline and a single stage share."""
    image = values.get("image")
    if isinstance(image, str):
        values["image"] = {"cpu": image, "gpu": image}
    elif image is not None:
        values["image"] = {kind: name for kind, name in image.items() if name is not None}
    if "memory" in values:
        values["memory"] = parse_memory(values["memory"])
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


def parse_start_date(text: str) -> datetime:
    """Read a date, or a date and time, in ISO 8601; UTC where no offset is given.

    :raises ValueError: it is none, no day of the calendar, or not between 1970 and 2200.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as exc:
        reason = "" if "isoformat" in str(exc) else f": {exc}"
        raise ValueError(
            f'Expected a date such as "2026-01-01" or "2026-01-01T08:00:00+08:00", found "{text}"{reason}. '
            "Write year, month and day in this order."
        ) from exc
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not _FIRST_DATE <= moment <= _LAST_DATE:
        raise ValueError(
            f'Expected a date between 1970-01-01 and 2200-01-01 (UTC), found "{text}", which Airflow cannot reckon '
            "with. Correct the year."
        )
    return moment


def parse_schedule(text: str) -> str:
    """Check a schedule: a preset, or a cron expression as Airflow's timetables read it.

    :raises ValueError: it is neither, or Airflow could not tell the runs before and after a moment from it.
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
    elif reason := _cron_flaw(schedule):
        raise ValueError(f'Expected a cron expression such as "0 3 * * *", found "{text}", {reason}')
    return schedule


def check_continuous(max_active_runs: float) -> None:
    """Check what goes with the schedule ``@continuous``.

    :raises ValueError: more than one run is to be under way at once.
    """
    if max_active_runs != 1:
        raise ValueError(
            f'Expected 1 with the schedule "@continuous", which begins a run when the one before has ended, found '
            f"{max_active_runs}. Write 1, or leave it out."
        )


@lru_cache(maxsize=4096)
def _cron_flaw(expression: str) -> str | None:
    """Return what is wrong with a cron expression and what to do, or ``None``.

    croniter decides, as in ``airflow/timetables/_cron.py``; it is Airflow's dependency, and loaded there anyway.
    """
    from croniter import CroniterBadDateError, croniter  # type: ignore[import-untyped]

    fields = expression.split()
    try:
        croniter(expression, _BEGUN).get_prev()
        croniter(expression, _LASTING).get_next()
    except CroniterBadDateError:
        if len(fields) == 7 and fields[6] != "*":
            return 'which fires in some years only: Airflow needs a run before and a run after. Write "*" for the year.'
        return "which never fires. Name a day that the calendar has."
    except ValueError as exc:
        for index, field in enumerate(fields):
            alone = ["*"] * len(fields)
            alone[index] = field
            try:
                croniter(" ".join(alone))
            except ValueError:
                return f'whose {_CRON_FIELDS[index]}, "{field}", means nothing. Correct it.'
        return f"which cannot be read ({exc}). Correct it."
    return None
