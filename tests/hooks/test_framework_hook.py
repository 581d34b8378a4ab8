from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from http_server import Server

from pipcook_provider.errors import SettingsError
from pipcook_provider.hooks.framework import PipcookFrameworkHook
from pipcook_provider.settings import Settings
from pipcook_provider.store.fetch import read_text

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


def test_mirror(server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection's mirror comes before the others; its login goes to it alone, and its test says whether it answers."""
    host, _, port = server.address.partition(":")
    fields = {"conn_type": "pipcook_framework", "schema": "http", "host": f"{host}/m", "port": int(port)}
    monkeypatch.setenv(VARIABLE, json.dumps({**fields, "login": "me", "password": "s@crt"}))
    hook = PipcookFrameworkHook(settings=replace(settings, framework_mirror=("file:///other",)))
    mirror = f"{server.url}/m"
    assert hook.settings().framework_mirror == (mirror, "file:///other")
    assert [credential.prefix for credential in hook.settings().credentials] == [mirror]
    server.put("/elsewhere", b"text")
    read_text(f"{server.url}/elsewhere", hook.settings())
    assert server.authorizations["/elsewhere"] is None
    assert hook.test_connection() == (True, f"{mirror} answers.")
    assert server.authorizations["/m/"] == "Basic bWU6c0BjcnQ="
    server.put("/m/", status=401)
    succeeded, message = hook.test_connection()
    assert not succeeded
    assert "401" in message
    assert "crt" not in message


def test_token(server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form's token and extra headers go to the mirror."""
    extra = {"token": "t0ken", "headers": {"X-Key": "k3y"}}
    monkeypatch.setenv(VARIABLE, json.dumps({"conn_type": "pipcook_framework", "host": server.url, "extra": extra}))
    assert PipcookFrameworkHook(settings=settings).test_connection()[0]
    (request,) = server.requests
    assert request.headers["authorization"] == "Bearer t0ken"
    assert request.headers["x-key"] == "k3y"
    assert "t0ken" not in repr(PipcookFrameworkHook(settings=settings).settings())


def test_unusable_mirror(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that cannot be a mirror's fails its test and names what is wrong."""
    monkeypatch.setenv(VARIABLE, json.dumps({"conn_type": "pipcook_framework", "host": "h", "schema": "ftp"}))
    hook = PipcookFrameworkHook(settings=settings)
    succeeded, message = hook.test_connection()
    assert not succeeded
    assert "'ftp'" in message
    with pytest.raises(SettingsError, match="'ftp'"):
        hook.settings()


def test_allowed_connections(server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections that the option names authenticate downloads from their hosts; others are not even read."""
    monkeypatch.setenv("AIRFLOW_CONN_SCRIPTS", json.dumps({"host": f"{server.url}/private", "password": "t0ken"}))
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "not read, or this would be an error")
    credentials = PipcookFrameworkHook(settings=replace(settings, connections=("scripts",))).settings()
    for path in ("/private/a.py", "/public/a.py"):
        assert read_text(server.put(path, b"text"), credentials) == "text"
    assert server.authorizations == {"/private/a.py": "Bearer t0ken", "/public/a.py": None}


def test_missing_connection(settings: Settings) -> None:
    """A connection that the option names and Airflow does not know is an error that names both."""
    with pytest.raises(SettingsError, match=r"\[pipcook\] connections names 'gone'"):
        PipcookFrameworkHook(settings=replace(settings, connections=("gone",))).settings()


def test_verify(settings: Settings, framework: Path) -> None:
    """The hook can have a cached framework compared with its record, and repaired."""
    archive = framework.with_suffix(".zip")
    with ZipFile(archive, "w") as bundle:
        bundle.write(framework / "framework.json", "framework.json")
        bundle.writestr("site-packages/toy.py", "x = 1")
    hook = PipcookFrameworkHook(settings=settings)
    module = hook.ensure(str(archive)) / "site-packages" / "toy.py"
    module.unlink()
    assert (hook.ensure(str(archive), verify=True) / "site-packages" / "toy.py").read_text() == "x = 1"
