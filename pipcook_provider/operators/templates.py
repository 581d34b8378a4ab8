"""What the templates of a run's document may have, from Airflow."""

from __future__ import annotations

from functools import partial
from typing import Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk import BaseHook, Context
from airflow.sdk.log import mask_secret

from pipcook_provider.errors import TemplateError
from pipcook_provider.settings import Settings
from pipcook_provider.templating import ConnectionFields, Namespace, Templates

_OF_RUN = (
    *("dag_id", "run_id", "run_type", "logical_date", "run_after", "start_date"),
    *("data_interval_start", "data_interval_end", "conf"),
)


def templates_of(context: Context, settings: Settings) -> Templates:
    """Return what renders the templates of a task's run, with the connections that the settings allow."""
    return Templates(partial(_value, context), partial(find_connection, settings), mask_secret)


def find_connection(settings: Settings, conn_id: str) -> ConnectionFields:
    """Return what templates may have of a connection.

    :raises TemplateError: the settings do not allow it, or there is none.
    """
    if conn_id not in settings.template_connections:
        raise TemplateError(
            "expected a connection that the option [pipcook] template_connections allows "
            f"({', '.join(settings.template_connections) or 'none'}), found {conn_id!r}. Whoever runs this Airflow can add it "
            "there; or write the value itself."
        )
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise TemplateError(
            f"expected the connection {conn_id!r}, which the option [pipcook] template_connections allows, found none of that "
            f"id that Airflow can read. Add it (Admin > Connections, or AIRFLOW_CONN_{conn_id.upper()})."
        ) from None
    return ConnectionFields(
        conn_type=connection.conn_type,
        host=connection.host,
        port=connection.port,
        schema=connection.schema,
        login=connection.login,
        password=connection.password,
        extra=connection.extra,
        extra_dejson=connection.extra_dejson if connection.extra else {},
    )


def _value(context: Context, name: str) -> Any:
    """Return what a name stands for in a run; None where the run has no such value."""
    value: Any = context.get(name)
    if name == "dag_run":
        members = {member: getattr(value, member, None) for member in _OF_RUN}
        run_type = getattr(members["run_type"], "value", members["run_type"])
        return Namespace({**members, "run_type": run_type, "conf": members["conf"] or {}})
    if name == "params":
        return dict(value or {})
    # Airflow asks its server for the times of former runs when somebody looks at them.
    return getattr(value, "__wrapped__", value)
