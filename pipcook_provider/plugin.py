"""What Airflow's own processes do for Pipcook: they make the pool of the stages that train on a GPU.

Every Airflow process loads plugins, those of tasks too: nothing heavy is imported before a scheduler starts.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

_DESCRIPTION = (
    "Pipcook's stages that train on a GPU: one slot, so that no two trainings share a card. Raise it to the number of "
    "machines that have one."
)

log = logging.getLogger(__name__)


class PoolListener:
    """Makes the pool ``[pipcook] gpu_pool`` where it is missing; one that is there is left as it is."""

    @hookimpl
    def on_starting(self, component: object) -> None:
        """Look for the pool when a process with the database starts: the scheduler, beside it triggerer and DAG processor.

        Nothing is raised: a scheduler without this pool schedules all that needs none.
        """
        kind = type(component)
        # Its kind of job is not known yet here. Tasks have no database; importing the class would cost each of them time.
        if (kind.__module__, kind.__qualname__) != ("airflow.jobs.job", "Job"):
            return
        try:
            _make_pool()
        except Exception as exc:
            log.warning(
                "expected to make the pool of [pipcook] gpu_pool where it is missing, but could not (%s: %s); tasks that "
                "train on a GPU wait until it is there. Make it under Admin > Pools, or start the scheduler again.",
                type(exc).__name__,
                exc,
            )


class PipcookPlugin(AirflowPlugin):
    """The plugin, as Airflow finds it by its entry point."""

    name = "pipcook"
    listeners: list[Any] = [PoolListener()]  # noqa: RUF012 - the form that Airflow's class has


def _make_pool() -> None:
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import IntegrityError

    from pipcook_provider.settings import Settings

    name = Settings.load().gpu_pool
    try:
        with create_session(scoped=False) as session:
            if session.scalar(select(Pool.id).where(Pool.pool == name)) is not None:
                return
            session.add(Pool(pool=name, slots=1, description=_DESCRIPTION, include_deferred=False))
    except IntegrityError:
        return  # another process was faster
    log.info("made the pool %s of the stages that train on a GPU, with one slot", name)
