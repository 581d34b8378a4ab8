"""The hook through which Airflow reaches frameworks: the ``[pipcook]`` settings, and what connections add to them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk import BaseHook, Connection

from pipcook_provider.errors import FetchNotFound, PipcookError, SettingsError
from pipcook_provider.frameworks import Framework, absolute_reference, ensure_framework
from pipcook_provider.frameworks.report import LogReport
from pipcook_provider.hooks.connection import address_of, credential_of, headers_of
from pipcook_provider.settings import Credential, Settings


class PipcookFrameworkHook(BaseHook):
    """Ensures frameworks on this worker.

    The connection names a framework mirror that is asked before those of ``[pipcook] framework_mirror``: host (with a
    path, or a whole URL), schema (``https`` by default, ``http`` or ``file``) and port. Login and password, or a token,
    or ``{"headers": {...}}`` in the extra authenticate requests to it. Nothing needs the default connection to exist.

    The connections that ``[pipcook] connections`` names authenticate downloads from their hosts. No other one is read.

    :param pipcook_framework_conn_id: the mirror's connection; None for no connection.
    :param settings: by default those of this machine.
    """

    conn_name_attr = "pipcook_framework_conn_id"
    default_conn_name = "pipcook_framework_default"
    conn_type = "pipcook_framework"
    hook_name = "Pipcook framework"

    def __init__(
        self, pipcook_framework_conn_id: str | None = default_conn_name, settings: Settings | None = None
    ) -> None:
        super().__init__()
        self.pipcook_framework_conn_id = pipcook_framework_conn_id
        self._given = settings

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's own fields for Airflow 3.1, which does not read them from the provider's info."""
        from wtforms import PasswordField

        from pipcook_provider.provider_info import TOKEN

        return {"token": PasswordField(TOKEN["label"], description=TOKEN["description"])}

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return how Airflow 3.1 shows the form's standard fields."""
        from pipcook_provider.provider_info import FORM

        return {name.replace("-", "_"): value for name, value in FORM.items()}

    def settings(self) -> Settings:
        """Return the settings, the connection's mirror before the others, with what the connections authenticate.

        :raises SettingsError: the settings of this machine or a connection cannot be used, or one that
            ``[pipcook] connections`` names does not exist.
        :raises AirflowNotFoundException: a connection other than the default one is named, and does not exist.
        """
        settings = self._with_mirror(self._given or Settings.load())
        others = tuple(self._credential(conn_id) for conn_id in settings.connections)
        return replace(settings, credentials=(*settings.credentials, *others))

    def get_conn(self) -> Settings:
        """Return :meth:`settings`: frameworks are files, and there is nothing to keep open."""
        return self.settings()

    def resolve(
        self, framework: str, gpu: bool = False, origin: str | None = None, *, verify: bool = False
    ) -> Framework:
        """Return a framework that is there, after fetching or building it.

        :param framework: ``name@version``, the URL of a zip, or the path of a zip or directory.
        :param gpu: whether the GPU variant is wanted.
        :param origin: path or URL of the document, which relative paths are relative to.
        :param verify: compare each file of a cached one with its record, and get it anew where one differs.
        :raises PipcookError: it cannot be had; the kinds are those of
            :func:`~pipcook_provider.frameworks.ensure_framework`.
        """
        reference = absolute_reference(framework, origin) if origin else framework
        return ensure_framework(reference, self.settings(), gpu=gpu, verify=verify, report=LogReport(self.log))

    def ensure(self, framework: str, gpu: bool = False, *, verify: bool = False) -> Path:
        """Return the directory of a framework that is there, after fetching or building it; as :meth:`resolve`."""
        return self.resolve(framework, gpu, verify=verify).path

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the connection's mirror answers, and a sentence about it."""
        from pipcook_provider.store.fetch import read_text

        try:
            connection = self._connection()
            mirror = connection and address_of(connection)
            if not mirror:
                return True, "The connection names no mirror; frameworks are built from the package registries."
            parts = urlsplit(mirror)
            if parts.scheme == "file":
                there = Path(parts.path).is_dir()
                return there, f"{parts.path} is {'a' if there else 'no'} directory on this machine."
            settings = replace(self._given or Settings.load(), allowed_origins=())
            read_text(f"{mirror}/", self._with_mirror(settings))
        except FetchNotFound:
            pass  # A mirror need not have an index page.
        except PipcookError as exc:
            return False, str(exc)
        return True, f"{mirror} answers."

    def _with_mirror(self, settings: Settings) -> Settings:
        connection = self._connection()
        mirror = connection and address_of(connection)
        if not connection or not mirror:
            return settings
        headers = headers_of(connection)
        return replace(
            settings,
            framework_mirror=(mirror, *settings.framework_mirror),
            credentials=(Credential(mirror, headers), *settings.credentials) if headers else settings.credentials,
        )

    def _connection(self) -> Connection | None:
        conn_id = self.pipcook_framework_conn_id
        if conn_id is None:
            return None
        try:
            return self.get_connection(conn_id)
        except AirflowNotFoundException as exc:
            _refuse_unreadable(conn_id, exc)
            if conn_id == self.default_conn_name:
                return None
            raise

    def _credential(self, conn_id: str) -> Credential:
        try:
            return credential_of(self.get_connection(conn_id))
        except AirflowNotFoundException as exc:
            _refuse_unreadable(conn_id, exc)
            raise SettingsError(
                f"The option [pipcook] connections names {conn_id!r}, but Airflow has no connection of that id, so "
                "downloads cannot be authenticated by it. Add it (Admin > Connections), or remove it from the option."
            ) from exc


def _refuse_unreadable(conn_id: str, cause: Exception) -> None:
    """Refuse a connection that a variable holds in a form that Airflow cannot read, and so takes for absent."""
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if variable in os.environ:
        raise SettingsError(
            f"{variable} was expected to hold an Airflow connection, as URI or JSON, but Airflow cannot read it. Nothing was "
            "downloaded with it or without it. Correct it."
        ) from cause
