"""The values of templates where no Airflow made the run: those of a manual run, whose data is that of a day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipcook_provider.templating import Namespace


def values_of_day(logical_date: datetime, dag_id: str, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what templates may name, as Airflow would have it for a run of this logical date.

    :param logical_date: with its zone; the run's data interval is the day from there on.
    :param dag_id: what the pipeline is called.
    :param params: the values that a run may be triggered with.
    """
    import pendulum

    start = pendulum.instance(logical_date)
    interval = {"data_interval_start": start, "data_interval_end": start.add(days=1)}
    run_id = f"manual__{start.isoformat()}"
    run = {
        "dag_id": dag_id,
        "run_id": run_id,
        "run_type": "manual",
        "logical_date": start,
        "run_after": start,
        "start_date": start,
        "conf": {},
        **interval,
    }
    return {
        "logical_date": start,
        "ds": start.strftime("%Y-%m-%d"),
        "ds_nodash": start.strftime("%Y%m%d"),
        "ts": start.isoformat(),
        "ts_nodash": start.strftime("%Y%m%dT%H%M%S"),
        "ts_nodash_with_tz": start.isoformat().replace("-", "").replace(":", ""),
        "run_id": run_id,
        "dag_run": Namespace(run),
        "params": params,
        **interval,
    }
