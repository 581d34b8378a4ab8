"""What Airflow's connections say about places that things are downloaded from: an address, and what opens it.

Addresses and what authenticates requests to them are kept apart: addresses are shown in logs and records.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from airflow.sdk import Connection
from airflow.sdk.log import mask_secret

from pipcook_provider.errors import SettingsError
from pipcook_provider.settings import Credential

#: What connections of the type ``http`` keep beside headers in their extra, for Airflow's own HTTP hook.
_OPTIONS_OF_HTTP_HOOK = {
    "allow_redirects",
    "auth_kwargs",
    "auth_type",
    "cert",
    "check_response",
    "headers",
    "max_redirects",
    "proxies",
    "stream",
    "timeout",
    "token",
    "trust_env",
    "verify",
}


def address_of(connection: Connection) -> str | None:
    """Return the address that a connection describes, without user and password; None without a host.

    The host may hold a path or be a whole URL. Without a scheme it is ``https``; for connections of the type ``http``
    it is ``http``, as Airflow's own HTTP hook has it.

    :raises SettingsError: host, schema and port make no ``http``, ``https`` or ``file`` address.
    """
    if not connection.host:
        return None
    scheme = connection.schema or ("http" if connection.conn_type == "http" else "https")
    if connection.host.startswith("/"):
        scheme = "file"
    host = connection.host if "://" in connection.host else f"{scheme}://{connection.host}"
    try:
        parts = urlsplit(host.rstrip("/"))
        netloc = _netloc(parts, connection.port)
    except ValueError:
        # What the parser says may hold a password.
        raise _unusable(connection, "a host whose address can be read, found one that cannot") from None
    if parts.scheme not in {"http", "https", "file"}:
        raise _unusable(connection, f"http, https or file as its schema, found {parts.scheme!r}")
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))


def headers_of(connection: Connection) -> dict[str, str]:
    """Return the headers that authenticate requests; Airflow's logs mask them from here on.

    Extra headers come first (``{"headers": {...}}`` in the extra; in connections of the type ``http`` also its other
    texts, as Airflow's own HTTP hook has it). Unless ``Authorization`` is among them, it is made of the extra's
    ``token`` (bearer), of login and password (basic), or of a password alone (bearer).

    :raises SettingsError: the extra's headers are no object of texts.
    """
    extra = connection.extra_dejson if connection.extra else {}
    headers = _extra_headers(connection, extra)
    if not any(name.lower() == "authorization" for name in headers) and (
        authorization := _authorization(connection, extra)
    ):
        headers["Authorization"] = authorization
    for value in headers.values():
        mask_secret(value)
        mask_secret(value.rpartition(" ")[2])
    return headers


def credential_of(connection: Connection) -> Credential:
    """Return what a connection says about downloads from its host.

    :raises SettingsError: it names no http or https host, or nothing that authenticates.
    """
    address = address_of(connection)
    if address is None or address.startswith("file:"):
        raise _unusable(connection, "an http or https host that its credentials are for, found none")
    headers = headers_of(connection)
    if not headers:
        raise _unusable(connection, "a login, a password, a token or headers, found none of them")
    return Credential(address, headers)


def _netloc(parts: SplitResult, port: int | None) -> str:
    netloc = parts.netloc.rpartition("@")[2]
    is_complete = parts.port is not None or not netloc
    return netloc if is_complete or not port else f"{netloc}:{port}"


def _extra_headers(connection: Connection, extra: Mapping[str, Any]) -> dict[str, str]:
    headers = extra.get("headers") or {}
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise _unusable(connection, "an object of texts as the headers in its extra, found something else")
    if connection.conn_type == "http":
        plain = {name: value for name, value in extra.items() if isinstance(value, str)}
        headers = {**{name: value for name, value in plain.items() if name not in _OPTIONS_OF_HTTP_HOOK}, **headers}
    return dict(headers)


def _authorization(connection: Connection, extra: Mapping[str, Any]) -> str | None:
    if token := extra.get("token"):
        return f"Bearer {token}"
    if connection.login:
        pair = f"{connection.login}:{connection.password or ''}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"
    return f"Bearer {connection.password}" if connection.password else None


def _unusable(connection: Connection, expectation: str) -> SettingsError:
    return SettingsError(
        f"The Airflow connection {connection.conn_id!r} was expected to have {expectation}. Nothing can be downloaded "
        "with it. Correct it in Airflow (Admin > Connections), or do not name it."
    )
