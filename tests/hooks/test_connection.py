from __future__ import annotations

import base64
import json

import pytest
from airflow.sdk import Connection
from airflow.sdk.log import redact

from pipcook_provider.errors import SettingsError
from pipcook_provider.hooks.connection import address_of, credential_of, headers_of


def connection(conn_type: str = "generic", extra: object = None, **fields: object) -> Connection:
    return Connection(conn_id="c", conn_type=conn_type, extra=extra and json.dumps(extra), **fields)


def basic(pair: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"host": "h"}, "https://h"),
        ({"host": "h", "conn_type": "http"}, "http://h"),
        ({"host": "h", "conn_type": "http", "schema": "https"}, "https://h"),
        ({"host": "h/a/", "schema": "http", "port": 80}, "http://h:80/a"),
        ({"host": "https://h:1/a", "port": 2}, "https://h:1/a"),
        ({"host": "https://me:secret@h", "port": 2}, "https://h:2"),
        ({"host": "file:///mirror"}, "file:///mirror"),
        ({"host": "/mirror", "schema": "file"}, "file:///mirror"),
        ({"host": "/mirror"}, "file:///mirror"),
        ({"host": "h", "login": "me", "password": "secret"}, "https://h"),
    ],
)
def test_address(fields: dict[str, object], expected: str | None) -> None:
    """Host, schema and port make the address, however they are filled in; user and password are no part of it."""
    assert address_of(connection(**fields)) == expected


@pytest.mark.parametrize(
    ("fields", "found"), [({"schema": "sales"}, "'sales'"), ({"host": "h:p"}, "found one that cannot")]
)
def test_no_address(fields: dict[str, object], found: str) -> None:
    """What is no web address, such as a database's, is refused, and the connection named."""
    with pytest.raises(SettingsError, match=f"'c'.*{found}"):
        address_of(connection(**{"host": "h", **fields}))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"login": "me", "password": "s:é"}, basic("me:s:é")),
        ({"login": "me"}, basic("me:")),
        ({"password": "secret"}, {"Authorization": "Bearer secret"}),
        ({"login": "me", "extra": {"token": "t"}}, {"Authorization": "Bearer t"}),
        ({"password": "p", "extra": {"headers": {"X-Key": "k"}}}, {"X-Key": "k", "Authorization": "Bearer p"}),
        ({"login": "me", "extra": {"headers": {"authorization": "Token t"}}}, {"authorization": "Token t"}),
        ({"extra": {"X-Key": "k"}}, {}),
        ({"conn_type": "http", "extra": {"X-Key": "k", "verify": False, "cert": "c", "timeout": 3}}, {"X-Key": "k"}),
    ],
)
def test_headers(fields: dict[str, object], expected: dict[str, str]) -> None:
    """Extra headers come first, then a token, then login and password, then a password alone."""
    assert headers_of(connection(**fields)) == expected


def test_masked() -> None:
    """Whatever is sent is masked in logs, also in the form in which it is sent."""
    headers = headers_of(connection(login="me", password="a-password", extra={"headers": {"X-Some": "some-value"}}))
    shown = redact(f"{headers} {headers['Authorization'].split()[1]}")
    assert "some-value" not in shown
    assert basic("me:a-password")["Authorization"].split()[1] not in shown


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"password": "secret"}, "host"),
        ({"host": "/m", "schema": "file", "password": "secret"}, "host"),
        ({"host": "h"}, "a login, a password, a token or headers"),
        ({"host": "h", "extra": {"headers": {"X": ["secret"]}}}, "an object of texts"),
    ],
)
def test_no_credential(fields: dict[str, object], expected: str) -> None:
    """A connection that cannot authenticate anything is refused, without showing what it holds."""
    with pytest.raises(SettingsError, match=f"'c'.*{expected}") as raised:
        credential_of(connection(**fields))
    assert "secret" not in str(raised.value)
