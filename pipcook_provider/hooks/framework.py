"""The hook through which Airflow reaches frameworks: the ``[pipcook]`` settings, and a mirror from a connection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk import BaseHook, Connection

from pipcook_provider.errors import FetchNotFound, PipcookError
from pipcook_provider.frameworks import Framework, ensure_framework
from pipcook_provider.settings import Settings


class PipcookFrameworkHook(BaseHook):
    """Ensures frameworks on this worker.

    The connection names a framework mirror that is asked before those of ``[pipcook] framework_mirror``: host (with a
    path, or a whole URL), schema (``https`` by default, ``http`` or ``file``), port, and login and password for basic
    authentication. Nothing needs the default connection to exist.

    :param pipcook_framework_conn_id: the connection; None for no connection.
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

    def settings(self) -> Settings:
        """Return the settings, the connection's mirror before the others.

        :raises SettingsError: the settings of this machine cannot be used.
        :raises AirflowNotFoundException: a connection other than the default one is named, and does not exist.
        """
        settings = self._given or Settings.load()
        mirror = self._mirror()
        return replace(settings, framework_mirror=(mirror, *settings.framework_mirror)) if mirror else settings

    def get_conn(self) -> Settings:
        """Return :meth:`settings`: frameworks are files, and there is nothing to keep open."""
        return self.settings()

    def resolve(self, framework: str, gpu: bool = False, origin: str | None = None) -> Framework:
        """Return a framework that is there, after fetching or building it.

        :param framework: ``name@version``, the URL of a zip, or the path of a zip or directory.
        :param gpu: whether the GPU variant is wanted.
        :param origin: path or URL of the document, which relative paths are relative to.
        :raises PipcookError: it cannot be had; the kinds are those of
            :func:`~pipcook_provider.frameworks.ensure_framework`.
        """
        return ensure_framework(framework, self.settings(), gpu=gpu, origin=origin, report=self.log.info)

    def ensure(self, framework: str, gpu: bool = False) -> Path:
        """Return the directory of a framework that is there, after fetching or building it; as :meth:`resolve`."""
        return self.resolve(framework, gpu).path

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the connection's mirror answers, and a sentence about it."""
        from pipcook_provider.store.fetch import read_text, shown

        mirror = self._mirror()
        if mirror is None:
            return True, "The connection names no mirror; frameworks are built from the package registries."
        parts = urlsplit(mirror)
        if parts.scheme == "file":
            there = Path(parts.path).is_dir()
            return there, f"{parts.path} is {'a' if there else 'no'} directory on this machine."
        try:
            read_text(f"{mirror}/", replace(self._given or Settings.load(), allowed_origins=()))
        except FetchNotFound:
            pass  # A mirror need not have an index page.
        except PipcookError as exc:
            return False, str(exc)
        return True, f"{shown(mirror)} answers."

    def _mirror(self) -> str | None:
        if self.pipcook_framework_conn_id is None:
            return None
        try:
            connection = self.get_connection(self.pipcook_framework_conn_id)
        except AirflowNotFoundException:
            if self.pipcook_framework_conn_id == self.default_conn_name:
                return None
            raise
        return mirror_of(connection)


def mirror_of(connection: Connection) -> str | None:
    """Return the address of the mirror that a connection describes, with user and password; None without a host."""
    if not connection.host:
        return None
    host = connection.host if "://" in connection.host else f"{connection.schema or 'https'}://{connection.host}"
    parts = urlsplit(host.rstrip("/"))
    netloc = parts.netloc.rpartition("@")[2]
    if connection.port and parts.port is None:
        netloc = f"{netloc}:{connection.port}"
    if connection.login or connection.password:
        user = ":".join(quote(part or "", safe="") for part in (connection.login, connection.password))
        netloc = f"{user}@{netloc}"
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))
