"""``options.airflow.schedule`` in the terms of Airflow's DAG."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from airflow.sdk import DAG, Asset, AssetAll, AssetAny, AssetWatcher
from airflow.sdk.definitions.asset import BaseAsset
from dateutil.relativedelta import relativedelta  # type: ignore[import-untyped]

from pipcook_provider.spec import AirflowOptions, AssetCondition, AssetSpec, Duration, Schedule

#: A document with a schedule and no start_date starts now; this is the constant that Airflow needs for it.
_START_DATE = datetime(2020, 1, 1, tzinfo=UTC)

_CONDITIONS = {"all": AssetAll, "any": AssetAny}


def schedule_arguments(airflow: AirflowOptions) -> dict[str, Any]:
    """Return the arguments of Airflow's DAG that say when it runs.

    :raises Exception: whatever Airflow says of a schedule that it cannot take.
    """
    start_date = airflow.start_date or (_START_DATE if airflow.schedule else None)
    if start_date and airflow.timezone:
        start_date = start_date.astimezone(ZoneInfo(airflow.timezone))  # whose zone is that of the schedule's clock
    return {
        "schedule": _schedule(airflow.schedule, start_date) if airflow.schedule else None,
        "start_date": start_date,
        "catchup": airflow.catchup,
    }


def _schedule(schedule: Schedule, start_date: datetime | None) -> Any:
    time = _interval(schedule.time) if isinstance(schedule.time, Duration) else schedule.time
    if schedule.assets is None:
        return time
    assets = _condition(schedule.assets)
    if time is None:
        return assets
    # Which timetable a plain schedule becomes depends on Airflow's configuration: it is asked, not told.
    timetable: Any = DAG("times", schedule=time, start_date=start_date).timetable
    return _assets_or_time(timetable, assets)


def _interval(duration: Duration) -> timedelta | relativedelta:
    if duration.months:
        return relativedelta(months=duration.months, seconds=duration.seconds)
    return timedelta(seconds=duration.seconds)


def _condition(condition: AssetCondition) -> BaseAsset:
    entries = [_asset(entry) if isinstance(entry, AssetSpec) else _condition(entry) for entry in condition.entries]
    return _CONDITIONS[condition.kind](*entries)


def _asset(asset: AssetSpec) -> Asset:
    if not asset.watch:
        return Asset(asset.name, asset.uri)
    from pipcook_provider.triggers import UrlChangeTrigger

    watcher = AssetWatcher(asset.name, UrlChangeTrigger(asset.uri, asset.interval))
    return Asset(asset.name, asset.uri, watchers=[watcher])


def _assets_or_time(timetable: Any, assets: BaseAsset) -> Any:
    try:
        from airflow.sdk import AssetOrTimeSchedule
    except ImportError:  # Airflow 3.1
        from airflow.timetables.assets import AssetOrTimeSchedule  # type: ignore[assignment]
    return AssetOrTimeSchedule(timetable=timetable, assets=assets)
