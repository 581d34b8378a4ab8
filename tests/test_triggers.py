"""Watching an address with a real server; the triggerer around it is that of tests/system/test_watching.py."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import pytest
from airflow.triggers.base import BaseEventTrigger
from helpers import wait_until
from http_server import Server, server, serving
from structlog.testing import capture_logs

from pipcook_provider import triggers
from pipcook_provider.triggers import UrlChangeTrigger

__all__ = ["server"]

Payloads = list[dict[str, Any]]
Log = list[MutableMapping[str, Any]]


@pytest.fixture(autouse=True)
def _settled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "_SETTLED", 0.0)
    monkeypatch.setattr(triggers, "_LONGEST_PAUSE", 0.01)


@pytest.fixture
def log() -> Iterator[Log]:
    """What is logged: Airflow's loggers pass pytest by."""
    with capture_logs() as entries:
        yield entries


def logged(log: Log, level: str) -> list[str]:
    return [entry["event"] for entry in log if entry["log_level"] == level]


def warned(log: Log, reason: str) -> bool:
    """Wait until a warning has told a reason."""
    return wait_until(lambda: any(reason in message for message in logged(log, "warning")))


@contextmanager
def watching(*watchers: UrlChangeTrigger) -> Iterator[Payloads]:
    """Run triggers for as long as the block lasts; yield what they tell, as they tell it."""
    payloads: Payloads = []

    async def collect(watcher: UrlChangeTrigger) -> None:
        async for event in watcher.run():
            payloads.append(event.payload)

    async def run() -> None:
        tasks = [asyncio.create_task(collect(watcher)) for watcher in watchers]
        await stop.wait()
        for task in tasks:
            assert not task.done(), task
            task.cancel()

    stop = asyncio.Event()
    loop = asyncio.new_event_loop()
    work = loop.create_task(run())
    thread = threading.Thread(target=loop.run_until_complete, args=[work])
    thread.start()
    try:
        yield payloads
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
        work.result()


def looked_at(server: Server, path: str = "/data", times: int = 3) -> bool:
    """Wait until a path was asked for so many times more."""
    seen = server.hits[path]
    return wait_until(lambda: server.hits[path] >= seen + times)


def serve(server: Server, tag: int) -> str:
    """Serve a version of the data; return their address."""
    return server.put("/data", b"data", headers={"ETag": f'"{tag}"'}, ranges=True)


def tags(payloads: Payloads) -> list[tuple[str, str]]:
    return [(payload["from"]["etag"].strip('"'), payload["to"]["etag"].strip('"')) for payload in payloads]


def watcher_of(url: str, interval: float = 0.01) -> UrlChangeTrigger:
    return UrlChangeTrigger(url, interval)


def test_change(server: Server) -> None:
    """What is there at first is no event, nor what stays; each change is one."""
    with watching(watcher_of(serve(server, 1))) as told:
        assert looked_at(server)
        assert told == []
        serve(server, 2)
        assert wait_until(lambda: told)
        assert looked_at(server)
        serve(server, 1)
        assert wait_until(lambda: len(told) == 2)
        assert looked_at(server)
    assert tags(told) == [("1", "2"), ("2", "1")]


def test_payload(server: Server) -> None:
    """An event tells address and versions, and no password."""
    serve(server, 1)
    with watching(watcher_of(f"http://me:s3cret@{server.address}/data")) as told:
        assert looked_at(server)
        serve(server, 2)
        assert wait_until(lambda: told)
    assert told == [
        {"uri": f"{server.url}/data", "from": {"etag": '"1"', "length": 4}, "to": {"etag": '"2"', "length": 4}}
    ]


def test_restart(server: Server) -> None:
    """What changed while nobody looked is one event, and none when that is over or nothing changed."""
    url = serve(server, 1)
    with watching(watcher_of(url)) as told:
        assert looked_at(server)
    serve(server, 2)
    for expected in ([("1", "2")], []):
        with watching(watcher_of(url)) as told:
            assert looked_at(server)
        assert tags(told) == expected


def test_kill_before_an_event_has_settled(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event of a triggerer that is killed at once may never have been heard of, so it is told again."""
    url = serve(server, 1)
    with watching(watcher_of(url)):
        assert looked_at(server)
    serve(server, 2)
    monkeypatch.setattr(triggers, "_SETTLED", 600.0)
    for _ in range(2):
        with watching(watcher_of(url)) as told:
            assert wait_until(lambda: told)
        assert tags(told) == [("1", "2")]


def test_watchers_of_one_address(server: Server) -> None:
    """Two intervals for the same data tell of a change once."""
    url = serve(server, 1)
    with watching(watcher_of(url), watcher_of(url, 0.02)) as told:
        assert looked_at(server)
        serve(server, 2)
        assert wait_until(lambda: told)
        assert looked_at(server, times=6)
    assert tags(told) == [("1", "2")]


@pytest.mark.parametrize("answer", [{"status": 404}, {"status": 503}, {"body": b"x", "announced": 9}])
def test_outage(server: Server, log: Log, answer: dict[str, Any]) -> None:
    """What cannot be looked at is told in the log once, changes nothing, and is watched on."""
    url = serve(server, 1)
    with watching(watcher_of(url)) as told:
        assert looked_at(server)
        server.put("/data", **answer)
        assert looked_at(server)
        serve(server, 1)
        assert looked_at(server)
        assert told == []
        server.put("/data", **answer)
        assert looked_at(server)
        serve(server, 2)
        assert wait_until(lambda: told)
        assert looked_at(server)
    assert tags(told) == [("1", "2")]
    assert len(logged(log, "warning")) == 2
    assert f"{url} is watched, but cannot be looked at." in logged(log, "warning")[0]
    assert logged(log, "info") == [f"{url} can be looked at again."] * 2


def test_server_that_comes_later(server: Server) -> None:
    """Data that are not there when watching begins are what is kept when they come."""
    url = server.put("/data", status=404)
    with watching(watcher_of(url)) as told:
        assert looked_at(server)
        serve(server, 1)
        assert looked_at(server)
        serve(server, 2)
        assert wait_until(lambda: told)
    assert tags(told) == [("1", "2")]


def test_server_that_is_down(log: Log) -> None:
    """A watch begins with a server that does not answer, and goes on."""
    with serving() as gone:
        url = serve(gone, 1)
    with watching(watcher_of(url)) as told:
        assert warned(log, "the connection failed")
    assert told == []


def test_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """After failures the pauses double up to a quarter of an hour, and are never shorter than the interval."""
    monkeypatch.undo()
    assert [UrlChangeTrigger("http://a/", 60)._pause(failures) for failures in (0, 1, 2, 4, 10**6)] == [
        60,
        120,
        240,
        900,
        900,
    ]
    assert [UrlChangeTrigger("http://a/", 86400)._pause(failures) for failures in (0, 1, 9)] == [86400] * 3


class State(dict[str, Any]):
    """What Airflow 3.3 keeps with one asset."""

    async def aget(self, key: str) -> Any:
        return self.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self[key] = value


def test_state_of_the_asset(server: Server, settings) -> None:
    """Where Airflow keeps an asset's state, what was seen last is there, readable, and in no file."""
    state = State()
    serve(server, 1)
    watcher = watcher_of(f"http://me:s3cret@{server.address}/data")
    watcher.asset_state_store = state
    with watching(watcher) as told:
        assert looked_at(server)
        serve(server, 2)
        assert wait_until(lambda: told)
        assert looked_at(server)
    assert tags(told) == [("1", "2")]
    ((key, record),) = state.items()
    assert key.startswith("url_version_")
    assert record == {"uri": f"{server.url}/data", "etag": '"2"', "length": 4}
    assert json.loads(json.dumps(record)) == record
    assert not (settings.home / "watch").exists()


def test_state_that_fails(server: Server, log: Log) -> None:
    """An error that nobody foresaw is told with its traceback, and the watch goes on."""
    state = State()
    watcher = watcher_of(serve(server, 1))
    watcher.asset_state_store = state
    state.aget = None  # type: ignore[assignment]
    with watching(watcher) as told:
        assert warned(log, "TypeError")
        del state.aget
        assert looked_at(server)
        serve(server, 2)
        assert wait_until(lambda: told)
    assert tags(told) == [("1", "2")]
    assert [type(entry.get("exc_info")) for entry in log] == [TypeError, type(None)]


def test_version_that_cannot_be_kept(server: Server, log: Log) -> None:
    """Where the new version cannot be kept, a change is told once all the same, and kept as soon as it can be."""

    async def fail(key: str, value: Any) -> None:
        raise RuntimeError("no room")

    state = State()
    watcher = watcher_of(serve(server, 1))
    watcher.asset_state_store = state
    with watching(watcher) as told:
        assert looked_at(server)
        state.aset = fail  # type: ignore[method-assign]
        serve(server, 2)
        assert warned(log, "no room")
        assert looked_at(server)
        del state.aset
        assert wait_until(lambda: [value["etag"] for value in state.values()] == ['"2"'])
        assert looked_at(server)
    assert tags(told) == [("1", "2")]


def test_trigger_of_several_assets(server: Server, settings) -> None:
    """A trigger that Airflow shares between assets has no state of one of them, and keeps a file."""
    context = pytest.importorskip("airflow.sdk.execution_time.context")
    if not hasattr(context, "AssetStateStoreAccessors"):
        pytest.skip("assets have a state from Airflow 3.3 on")
    from airflow.sdk import Asset

    watcher = watcher_of(serve(server, 1))
    watcher.asset_state_store = context.AssetStateStoreAccessors(inlets=[Asset("a"), Asset("b")])
    with watching(watcher) as told:
        assert looked_at(server)
        serve(server, 2)
        assert wait_until(lambda: told)
    assert tags(told) == [("1", "2")]
    assert list((settings.home / "watch").iterdir())


def test_connections(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections of the settings authenticate; each look asks for them anew."""
    monkeypatch.setenv("PIPCOOK_CONNECTIONS", "data")
    connection = {"conn_type": "http", "host": server.url, "password": "s3cret"}
    monkeypatch.setenv("AIRFLOW_CONN_DATA", json.dumps(connection))
    with watching(watcher_of(serve(server, 1))):
        assert wait_until(lambda: server.authorizations.get("/data") == "Bearer s3cret")
        monkeypatch.setenv("AIRFLOW_CONN_DATA", json.dumps({**connection, "password": "an0ther"}))
        assert wait_until(lambda: server.authorizations.get("/data") == "Bearer an0ther")


def test_origins(server: Server, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    """An address outside the allowed origins is never asked."""
    monkeypatch.setenv("PIPCOOK_ALLOWED_ORIGINS", "https://data.example/")
    with watching(watcher_of(serve(server, 1))):
        assert warned(log, "lies outside the allowed origins")
    assert not server.hits


def test_serialization() -> None:
    """Airflow makes the same trigger again, and takes two of the same address and interval for one."""
    classpath, arguments = UrlChangeTrigger("https://data.example/a", 60).serialize()
    assert classpath == f"{UrlChangeTrigger.__module__}.{UrlChangeTrigger.__qualname__}"
    assert UrlChangeTrigger(**arguments).serialize() == (classpath, arguments)
    again = UrlChangeTrigger("https://data.example/a", 60.0).serialize()
    assert BaseEventTrigger.hash(*again) == BaseEventTrigger.hash(classpath, arguments)
    assert arguments == {"uri": "https://data.example/a", "interval": 60.0}
    assert UrlChangeTrigger("https://data.example/a").interval == 300
