"""``options.airflow.schedule`` as the scheduler gets it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.timetables.base import TimeRestriction
from dag_bags import serialized, stored
from dateutil.relativedelta import relativedelta
from pendulum import instance

from pipcook_provider.dag_factory import load_pipeline
from pipcook_provider.triggers import UrlChangeTrigger


def loaded(write_pipeline: Any, **airflow: Any) -> DAG:
    """Return the DAG of a document with these options."""
    return load_pipeline(write_pipeline(options={"airflow": airflow}))


def timetable_of(dag: DAG) -> dict[str, Any]:
    """Return a DAG's timetable as it is written to the metadata database."""
    return serialized(dag)["dag"]["timetable"]


def condition_of(dag: DAG) -> Any:
    """Return the assets that a DAG waits for: names, and conditions as pairs of a kind and entries."""
    return _condition(timetable_of(dag)["__var"]["asset_condition"])


def _condition(entry: dict[str, Any]) -> Any:
    kind = entry["__type"]
    return (entry["name"], entry["uri"]) if kind == "asset" else (kind, [_condition(one) for one in entry["objects"]])


def first_run(dag: DAG, start: datetime) -> datetime:
    """Return when the scheduler starts the first run after a moment."""
    restriction = TimeRestriction(earliest=instance(start), latest=None, catchup=True)
    found = stored(dag).timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    return found.run_after


def test_schedule_without_start_date_is_scheduled(write_pipeline) -> None:
    """A scheduled document needs no start_date: without one Airflow would never run it."""
    dag = load_pipeline(write_pipeline(options={"airflow": {"schedule": "@daily"}}))
    assert dag.start_date is not None
    assert dag.catchup is False


@pytest.mark.parametrize("schedule", [None, "@once", "@continuous", "@daily", "@midnight", "0 3 * * 1-5"])
def test_texts_are_airflows_own(write_pipeline, schedule: str | None) -> None:
    """A preset, a cron expression or nothing is what a DAG file in Python would pass."""
    dag = loaded(write_pipeline, schedule=schedule)
    assert dag.schedule == schedule
    assert stored(dag).timetable.can_be_scheduled is (schedule is not None)


@pytest.mark.parametrize(
    ("schedule", "expected", "first"),
    [
        ("PT6H", timedelta(hours=6), datetime(2026, 1, 31, tzinfo=UTC)),
        ("P1M", relativedelta(months=1), datetime(2026, 1, 31, tzinfo=UTC)),
        ("P1Y2MT30M", relativedelta(months=14, minutes=30), datetime(2026, 1, 31, tzinfo=UTC)),
    ],
)
def test_durations(write_pipeline, schedule: str, expected: object, first: datetime) -> None:
    """A duration that a clock can measure is one; months stay months. Both reach the scheduler."""
    dag = loaded(write_pipeline, schedule=schedule)
    assert dag.schedule == expected
    assert first_run(dag, first) == first


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (["s3://bucket/data", "digits"], ("asset_all", [("s3://bucket/data",) * 2, ("digits", "digits")])),
        ([{"name": "digits", "uri": "s3://b/d"}], ("asset_all", [("digits", "s3://b/d")])),
        (
            {"any": ["a", {"all": ["b", "c"]}]},
            ("asset_any", [("a", "a"), ("asset_all", [("b", "b"), ("c", "c")])]),
        ),
    ],
)
def test_assets(write_pipeline, schedule: object, expected: tuple[str, list[object]]) -> None:
    """A list of assets is all of them, as in Airflow; conditions nest at will; all of it reaches the scheduler."""
    dag = loaded(write_pipeline, schedule=schedule)
    assert condition_of(dag) == expected
    kind = type(stored(dag).timetable.asset_condition).__name__
    assert kind.removeprefix("Serialized") == {"asset_all": "AssetAll", "asset_any": "AssetAny"}[expected[0]]


def test_watched_asset_has_a_trigger(write_pipeline) -> None:
    """An asset that is watched brings the trigger that asks its address; others bring none."""
    entry = {"name": "digits", "uri": "https://example.com/d.zip", "watch": True, "interval": 60}
    dag = loaded(write_pipeline, schedule=[entry, "other"])
    watched, other = timetable_of(dag)["__var"]["asset_condition"]["objects"]
    classpath, kwargs = UrlChangeTrigger("https://example.com/d.zip", 60).serialize()
    assert watched["watchers"] == [{"name": "digits", "trigger": {"classpath": classpath, "kwargs": kwargs}}]
    assert not other.get("watchers")
    assert stored(dag).timetable.asset_condition is not None


@pytest.mark.parametrize("intervals", ["True", "False"])
@pytest.mark.parametrize("time", ["@weekly", "0 3 * * *", "PT6H", "P1M"])
def test_assets_or_time(write_pipeline, monkeypatch, time: str, intervals: str) -> None:
    """Beside assets a time means what it means alone, whichever way Airflow is configured to read it."""
    monkeypatch.setenv("AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS", intervals)
    zone = "Europe/Berlin"
    alone = loaded(write_pipeline, schedule=time, timezone=zone)
    both = loaded(write_pipeline, schedule={"time": time, "assets": {"any": ["a", "b"]}}, timezone=zone)
    assert timetable_of(both)["__var"]["timetable"] == timetable_of(alone)
    assert condition_of(both) == ("asset_any", [("a", "a"), ("b", "b")])
    assert stored(both).timetable.can_be_scheduled


@pytest.mark.parametrize("start_date", [None, "2026-01-01", "2026-01-01T00:00:00+05:00"])
def test_clock_of_a_schedule(write_pipeline, start_date: str | None) -> None:
    """A schedule goes by the clock of its time zone, summer time included, whatever the offset of start_date."""
    dag = loaded(write_pipeline, schedule="0 3 * * *", timezone="Europe/Berlin", start_date=start_date)
    assert first_run(dag, datetime(2026, 1, 10, tzinfo=UTC)) == datetime(2026, 1, 10, 2, tzinfo=UTC)
    assert first_run(dag, datetime(2026, 7, 10, tzinfo=UTC)) == datetime(2026, 7, 10, 1, tzinfo=UTC)
    assert stored(dag).timezone.name == "Europe/Berlin"


def test_clock_without_a_zone(write_pipeline) -> None:
    """Without a zone the offset of start_date counts, and else UTC."""
    midnight = datetime(2026, 1, 10, tzinfo=UTC)
    dag = loaded(write_pipeline, schedule="0 3 * * *", start_date="2026-01-01T00:00:00+08:00")
    assert first_run(dag, midnight) == datetime(2026, 1, 10, 19, tzinfo=UTC)
    assert first_run(loaded(write_pipeline, schedule="0 3 * * *"), midnight) == datetime(2026, 1, 10, 3, tzinfo=UTC)
