"""Watching: the Airflow trigger that tells an asset of a change, without a worker slot being held meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, ParamSpec, TypeVar
from weakref import WeakValueDictionary

from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from pipcook_provider.errors import PipcookError
from pipcook_provider.settings import Settings
from pipcook_provider.store.origins import shown
from pipcook_provider.store.watch import Baselines, UrlVersion, baseline_key, current_version

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

#: How many servers are asked at once, whatever the number of watchers.
_THREADS = 16
#: Seconds in which an event that was fired reaches Airflow's database: the triggerer sends what it has every second.
_SETTLED = 3.0
#: Seconds between two looks at what cannot be looked at, at most; the interval, where that is longer.
_LONGEST_PAUSE = 900.0

#: Who looks at an address at this moment: the watchers of one asset, whatever their intervals, tell of a change once.
_looking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


class UrlChangeTrigger(BaseEventTrigger):
    """Fires when what lies at an address is another version: by its ``ETag``, its ``Last-Modified``, or its content.

    What was seen last is kept with the asset (Airflow 3.3 and later), else in a file below ``[pipcook] home``, which several
    triggerers need on a disk that they share. So a restart of the triggerer neither fires nor misses: whatever changed
    meanwhile is one event. The first look of all fires nothing; it keeps what is there.

    Events are at least once: one is given some seconds to reach Airflow's database before the new version is kept. Whoever
    kills the triggerer within them has it fire once more when it is back, and a pipeline trains once too often. The other
    way round, a kill would lose a change, and nobody would hear of it until the next one.

    What cannot be looked at (a server that is down, a file that is gone while it is replaced) is told in the log once, and
    looked at less and less often until that succeeds; what was seen last stays. The watch goes on whatever happens: a trigger
    that ended would be begun anew by Airflow at once, over and over.

    The payload of an event is ``uri`` (without user and password) and the versions ``from`` and ``to``, each as
    :meth:`.UrlVersion.to_json` has it.

    :param uri: an ``http`` or ``https`` address. It is asked by the rules of ``[pipcook]`` (allowed origins, rewrites,
        connections, timeout), which are read at each look.
    :param interval: seconds between two looks.
    """

    def __init__(self, uri: str, interval: float = 300.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.uri = uri
        self.interval = float(interval)
        # What Airflow sets from 3.3 on.
        self.asset_state_store: Any = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow makes the trigger of again."""
        return "pipcook_provider.triggers.UrlChangeTrigger", {"uri": self.uri, "interval": self.interval}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look again and again, for ever."""
        told: UrlVersion | None = None
        failures = 0
        while True:
            try:
                async with _looking.setdefault(self.uri, asyncio.Lock()):
                    known = await self._known()
                    found = await _in_thread(_look, self.uri, known)
                    if known is not None and found.differs(known) and found != told:
                        # Where it then cannot be kept, the next look must not tell it again.
                        told = found
                        yield self._event(known, found)
                        await asyncio.sleep(_SETTLED)
                    if known is None or found.differs(known):
                        await self._keep(found)
                        told = None
            except Exception as exc:
                failures += 1
                if failures == 1:
                    self._warn(exc)
            else:
                if failures:
                    self.log.info("%s can be looked at again.", shown(self.uri))
                failures = 0
            await asyncio.sleep(self._pause(failures))

    def _pause(self, failures: int) -> float:
        """Return the seconds until the next look after so many that failed in a row."""
        return min(self.interval * 2.0 ** min(failures, 20), max(self.interval, _LONGEST_PAUSE))

    def _event(self, known: UrlVersion, found: UrlVersion) -> TriggerEvent:
        payload = {"uri": shown(self.uri), "from": known.to_json(), "to": found.to_json()}
        return TriggerEvent(payload)  # type: ignore[no-untyped-call]

    async def _known(self) -> UrlVersion | None:
        """Return the version that was kept last, by this trigger or another one of the same asset."""
        if self.asset_state_store is not None:
            try:
                return UrlVersion.read(await self.asset_state_store.aget(_state_key(self.uri)))
            except ValueError:  # Several assets share this trigger, and none has a state for all of them.
                self.asset_state_store = None
        return await _in_thread(lambda: _baselines().read(self.uri))

    async def _keep(self, found: UrlVersion) -> None:
        if self.asset_state_store is not None:
            record = {"uri": shown(self.uri), **found.to_json()}
            await self.asset_state_store.aset(_state_key(self.uri), record)
        else:
            await _in_thread(lambda: _baselines().keep(self.uri, found))

    def _warn(self, exc: Exception) -> None:
        expected = isinstance(exc, PipcookError)
        self.log.warning(
            "%s is watched, but cannot be looked at. What was seen last stays; it is looked at again in %g s and later, and "
            "nothing more is said until that succeeds. %s",
            shown(self.uri),
            self._pause(1),
            exc if expected else f"{type(exc).__name__}: {exc}",
            exc_info=None if expected else exc,
        )


def _look(uri: str, known: UrlVersion | None) -> UrlVersion:
    return current_version(uri, _settings(), known)


def _settings() -> Settings:
    """Return the settings of this machine, with what Airflow's connections add where they name any."""
    settings = Settings.load()
    if not settings.connections:
        return settings
    from pipcook_provider.hooks.framework import PipcookFrameworkHook

    return PipcookFrameworkHook(None, settings).settings()


def _baselines() -> Baselines:
    return Baselines(Settings.load().home / "watch")


def _state_key(uri: str) -> str:
    """Return the key of an asset's state; an asset may have several watchers."""
    return f"url_version_{baseline_key(uri)[:16]}"


async def _in_thread(
    work: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Result:
    """Do what blocks in a thread from which Airflow's connections can be had (on 3.1 by way of asgiref only)."""
    return await sync_to_async(work, thread_sensitive=False, executor=_threads())(*args, **kwargs)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="pipcook-watch")
