from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk import Connection
from http_server import Server

from pipcook_provider.hooks.framework import PipcookFrameworkHook, mirror_of
from pipcook_provider.settings import Settings

VARIABLE = "AIRFLOW_CONN_PIPCOOK_FRAMEWORK_DEFAULT"


@pytest.fixture(autouse=True)
def airflow_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def framework(tmp_path: Path) -> Path:
    path = tmp_path / "toy"
    path.mkdir()
    (path / "framework.json").write_text('{"name": "toy", "version": "1", "packages": []}')
    return path


def test_without_connection(settings: Settings, framework: Path) -> None:
    """The default connection need not exist."""
    hook = PipcookFrameworkHook(settings=settings)
    assert hook.ensure(str(framework)) == framework
    assert hook.resolve("./toy", origin=str(framework.with_name("a.json"))).name == "toy"
    assert hook.get_conn() == settings
    assert hook.test_connection()[0]


def test_no_connection(settings: Settings) -> None:
    """No connection is looked up where none is wanted; another one than the default must exist."""
    assert PipcookFrameworkHook(None, settings).settings() == settings
    with pytest.raises(AirflowNotFoundException):
        PipcookFrameworkHook("another", settings).settings()


def test_connection(server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection's mirror comes before the others, with its login, and its test says whether it answers."""
    host, _, port = server.address.partition(":")
    fields = {"conn_type": "pipcook_framework", "schema": "http", "host": f"{host}/m", "port": int(port)}
    monkeypatch.setenv(VARIABLE, json.dumps({**fields, "login": "me", "password": "s@crt"}))
    hook = PipcookFrameworkHook(settings=replace(settings, framework_mirror=("file:///other",)))
    assert hook.settings().framework_mirror == (f"http://me:s%40crt@{server.address}/m", "file:///other")
    assert hook.test_connection() == (True, f"http://{server.address}/m answers.")
    server.put("/m/", status=401)
    succeeded, message = hook.test_connection()
    assert not succeeded
    assert "401" in message
    assert "crt" not in message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"host": "h"}, "https://h"),
        ({"host": "h/a/", "schema": "http", "port": 80}, "http://h:80/a"),
        ({"host": "https://h:1/a", "port": 2}, "https://h:1/a"),
        ({"host": "file:///mirror"}, "file:///mirror"),
        ({"host": "/mirror", "schema": "file"}, "file:///mirror"),
        ({"host": "h", "password": "p"}, "https://:p@h"),
    ],
)
def test_mirror_of(fields: dict[str, object], expected: str | None) -> None:
    """Host, schema and port make the mirror's address, however they are filled in."""
    assert mirror_of(Connection(conn_id="c", conn_type="pipcook_framework", **fields)) == expected
