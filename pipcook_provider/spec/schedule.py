"""``options.airflow.schedule``: times, assets, or either of them; and the rules that a JSON Schema cannot express."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from pipcook_provider.spec.assets import CONDITIONS, TIME_AND_ASSETS, AssetReader, Report, stated
from pipcook_provider.spec.model import Duration, Schedule
from pipcook_provider.spec.names import did_you_mean
from pipcook_provider.spec.places import Path

PRESETS: Final = (
    *("@once", "@continuous", "@hourly", "@daily", "@midnight"),
    *("@weekly", "@monthly", "@quarterly", "@yearly", "@annually"),
)
#: Presets that mean runs of a pipeline, not times: a run when an asset changes is none of them.
_NOT_WITH_ASSETS: Final = frozenset({"@once", "@continuous"})
_CRON_FIELDS: Final = ("minute", "hour", "day of the month", "month", "day of the week", "second", "year")
# Airflow asks a schedule for the runs before and after now: both must exist, at whatever time a document is read.
_BEGUN: Final = datetime(2026, 1, 1)  # noqa: DTZ001 - Airflow too gives croniter the wall clock
_LASTING: Final = datetime(2090, 1, 1)  # noqa: DTZ001

#: What people write for no schedule, and for a duration.
_NEVER: Final = frozenset({"none", "null", "never", "manual", "@none"})
_AMOUNT: Final = re.compile(r"(\d{1,9}) *(m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)", re.IGNORECASE)
_CRON_LIKE: Final = re.compile(r"[\d*/,?#L -]*[*?][\d*/,?#L -]*")
#: Characters that Airflow's database keeps of a time in words, when assets are told before it: one more, and its DAG
#: processors end.
_LONGEST_WORDS: Final = 1000 - len("Triggered by assets or ")
#: Shorter expressions are never that long in words.
_SHORT_CRON: Final = 40
#: croniter's own: a time that is drawn whenever the expression is read.
_RANDOM: Final = re.compile(r"(?:^|[\s,])r", re.IGNORECASE)

_NUMBER: Final = r"[0-9]{1,9}(?:[.,][0-9]{1,9})?"
_DURATION: Final = re.compile(
    rf"P(?=[0-9T])(?:({_NUMBER})Y)?(?:({_NUMBER})M)?(?:({_NUMBER})W)?(?:({_NUMBER})D)?"
    rf"(?:T(?=[0-9])(?:({_NUMBER})H)?(?:({_NUMBER})M)?(?:({_NUMBER})S)?)?"
)
_MONTHS: Final = (12, 1)
_SECONDS: Final = (604_800, 86_400, 3600, 60, 1)
_SHORTEST: Final = 60
_LONGEST_MONTHS: Final = 120
_LONGEST_SECONDS: Final = 3653 * 86_400


def read_schedule(value: Any, report: Report) -> Schedule:
    """Make the record of a schedule that conforms to the schema.

    :param value: a time, a list of assets, or an object with ``any``, ``all``, ``time`` or ``assets``.
    :param report: is told of everything that cannot be used; what is returned then means nothing.
    """
    if isinstance(value, str):
        return Schedule(time=_time(value, (), report))
    reader = AssetReader(report)
    if isinstance(value, list):
        return Schedule(assets=reader.entries("all", value, ()))
    if stated(value, TIME_AND_ASSETS) and not stated(value, CONDITIONS):
        time, assets = value.get("time"), value.get("assets")
        if assets is not None and isinstance(time, str) and time.strip() in _NOT_WITH_ASSETS:
            report(
                ("time",),
                f'Expected a time that comes again, such as "@weekly", beside "assets", found "{time}", which does '
                'not go with assets. Write another time, or remove "assets".',
            )
        return Schedule(
            time=None if time is None else _time(time, ("time",), report),
            assets=None if assets is None else reader.assets(assets, ("assets",)),
        )
    return Schedule(assets=reader.condition(value, (), '"any" or "all" with a list of assets, or "time" and "assets"'))


def parse_time(text: str) -> str | Duration:
    """Read a time: a preset, a duration in ISO 8601, or a cron expression as Airflow's timetables read it.

    :raises ValueError: it is none, or Airflow could not tell the runs before and after a moment from it.
    """
    time = text.strip()
    if time.startswith("@"):
        if time not in PRESETS:
            raise ValueError(
                f'Expected one of {", ".join(PRESETS)}, a cron expression or a duration, found "{text}".'
                f"{did_you_mean(time, PRESETS)}"
            )
        return time
    if time[:1] in {"P", "p"}:
        return parse_duration(time)
    if not 5 <= len(time.split()) <= 7:
        raise ValueError(
            'Expected a cron expression of five fields such as "0 3 * * *", a preset such as "@daily", or a duration '
            f'such as "PT6H", found "{text}".{_meant(time)}'
        )
    if reason := _cron_flaw(time) or _length_flaw(time):
        raise ValueError(f'Expected a cron expression such as "0 3 * * *", found "{text}", {reason}')
    return time


def _meant(time: str) -> str:
    """Return what to do about a text that is no time."""
    if time.lower() in _NEVER:
        return " Write null, without quotes, to run on demand only."
    if "://" in time:
        return f' Assets stand in a list: ["{time}"].'
    if amount := _AMOUNT.fullmatch(time):
        unit = amount[2][0].upper()
        return f' Did you mean "P{"T" if unit in "HM" else ""}{amount[1]}{unit}"?'
    if _CRON_LIKE.fullmatch(time):
        count = len(time.split())
        return f" It has {count} of the fields: minute, hour, day of the month, month, day of the week."
    return did_you_mean(time, PRESETS) or " Write null to run on demand only."


@lru_cache(maxsize=1024)
def parse_duration(text: str) -> Duration:
    """Read a duration in ISO 8601, such as ``P1D``, ``PT6H`` or ``P1M``; fractions where they are exact.

    :raises ValueError: it is none, not exact, or not between a minute and ten years.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        near = next((one for one in (text.upper(), f"PT{text[1:].upper()}") if _DURATION.fullmatch(one)), None)
        remedy = (
            f'Did you mean "{near}"?' if near else "Write years, months, weeks and days, T, then hours and minutes."
        )
        raise ValueError(
            f'Expected a duration in ISO 8601, such as "P1D", "PT6H" or "P1M", found "{text}", which is none. {remedy}'
        )
    from fractions import Fraction

    amounts = [Fraction((amount or "0").replace(",", ".")) for amount in found.groups()]
    months = sum(amount * size for amount, size in zip(amounts[:2], _MONTHS, strict=True))
    seconds = sum(amount * size for amount, size in zip(amounts[2:], _SECONDS, strict=True))
    if Fraction(months).denominator != 1 or Fraction(seconds * 10**6).denominator != 1:
        raise ValueError(
            f'Expected a duration of whole months and microseconds, found "{text}", which is none: months are not '
            "equally long. Write it in smaller units."
        )
    too_short = not months and seconds < _SHORTEST
    if too_short or Fraction(months) / _LONGEST_MONTHS + Fraction(seconds) / _LONGEST_SECONDS > 1:
        raise ValueError(
            f'Expected a duration between a minute ("PT1M") and ten years ("P10Y"), found "{text}". Correct it.'
        )
    return Duration(months=int(months), seconds=float(seconds))


def check_continuous(max_active_runs: float) -> None:
    """Check what goes with the schedule ``@continuous``.

    :raises ValueError: more than one run is to be under way at once.
    """
    if max_active_runs != 1:
        raise ValueError(
            f'Expected 1 with the schedule "@continuous", which begins a run when the one before has ended, found '
            f"{max_active_runs}. Write 1, or leave it out."
        )


def _time(text: str, path: Path, report: Report) -> str | Duration | None:
    try:
        return parse_time(text)
    except ValueError as exc:
        report(path, str(exc))
        return None


@lru_cache(maxsize=4096)
def _cron_flaw(expression: str) -> str | None:
    """Return what is wrong with a cron expression and what to do, or ``None``.

    croniter decides, as in ``airflow/timetables/_cron.py``; it is Airflow's dependency, and loaded there anyway.
    """
    from croniter import CroniterBadDateError, croniter  # type: ignore[import-untyped]

    fields = expression.split()
    if _RANDOM.search(expression):
        return 'in which "R" is another time whenever the document is read. Write the time itself.'
    try:
        croniter(expression, _BEGUN).get_prev()
        croniter(expression, _LASTING).get_next()
    except CroniterBadDateError:
        if len(fields) == 7 and fields[6] != "*":
            return 'which fires in some years only: Airflow needs a run before and a run after. Write "*" for the year.'
        return "which never fires. Name a day that the calendar has."
    except ValueError as exc:
        for index, one in enumerate(fields):
            alone = ["*"] * len(fields)
            alone[index] = one
            try:
                croniter(" ".join(alone))
            except ValueError:
                return f'whose {_CRON_FIELDS[index]}, "{one}", means nothing. Correct it.'
        return f"which cannot be read ({exc}). Correct it."
    return None


@lru_cache(maxsize=1024)
def _length_flaw(expression: str) -> str | None:
    """Return that a cron expression is too long in words, and what to do, or ``None``."""
    if len(expression) <= _SHORT_CRON or len(_words(expression.split())) <= _LONGEST_WORDS:
        return None
    return 'which in words is longer than Airflow can keep. Write ranges and steps, such as "*/5", for its lists.'


def _words(fields: list[str]) -> str:
    """Return what Airflow tells of a cron expression, see ``airflow/timetables/_cron.py``."""
    from cron_descriptor import (  # type: ignore[import-untyped]
        CasingTypeEnum,
        ExpressionDescriptor,
        FormatException,
        MissingFieldException,
    )

    minute, hour, day, month, weekday, *others = fields
    if others:
        return ""
    told = [fields]
    if day != "*" and weekday != "*":
        told = [[minute, hour, day, month, "*"], [minute, hour, "*", month, weekday]]
    try:
        return " (or) ".join(
            ExpressionDescriptor(
                " ".join(one), casing_type=CasingTypeEnum.Sentence, use_24hour_time_format=True
            ).get_description()
            for one in told
        )
    except (FormatException, MissingFieldException):
        return ""
