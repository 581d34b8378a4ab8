"""A framework on an engine that sees none of this machine's files: copied once, for all stages that follow."""

from __future__ import annotations

import hashlib
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from pipcook_provider.launchers.base import Listener
from pipcook_provider.launchers.docker.container import LEASE_LABEL, volume
from pipcook_provider.launchers.docker.engine import Engine
from pipcook_provider.launchers.docker.images import PYTHON
from pipcook_provider.launchers.docker.removal import remove
from pipcook_provider.launchers.docker.tar import Owner, Source, pack, pack_text
from pipcook_provider.runtime.messages import Log

if TYPE_CHECKING:
    from docker.types import Mount

_COMPLETE = ".complete"
_FILLED_WITHIN = 3600
_PAUSE = 1


class FrameworkVolume:
    """The volume of one framework.

    :param engine: where it is.
    :param framework: the framework's folder, here and in containers.
    """

    def __init__(self, engine: Engine, framework: Path) -> None:
        self._engine = engine
        self._framework = framework
        found = framework.resolve().stat()
        identity = f"{framework.resolve()}\n{framework}\n{found.st_ino}\n{found.st_mtime_ns}"
        self._name = f"pipcook-framework-{hashlib.sha256(identity.encode()).hexdigest()[:32]}"

    def mount(self, *, read_only: bool) -> Mount:
        """Return its mount, at the place where the framework is on this machine."""
        return volume(self._framework, name=self._name, read_only=read_only)

    def fill(self, container: str, image: str, listener: Listener) -> None:
        """Copy the framework into the volume, unless that was done before.

        Who fills it is the one whose helper container has the volume's name; all others wait. The helper goes with whoever
        holds its stdin, so that a process that is lost keeps nobody waiting.

        :param container: a stage's, which mounts the volume.
        :param image: of the helper container.
        :raises LaunchError: the engine refuses, or does not answer.
        """
        deadline = time.monotonic() + _FILLED_WITHIN
        told = False
        while not self._is_complete(container):
            helper = self._helper(image)
            if helper is not None:
                self._copy(helper, listener)
                return
            if not told:
                told = True
                listener.message(Log("info", f"waiting for another process to copy the framework {self._framework}"))
            if time.monotonic() > deadline:
                remove(self._engine, self._name)
            time.sleep(_PAUSE)

    def _is_complete(self, container: str) -> bool:
        from docker.errors import NotFound

        with self._engine.translated("look into the framework's volume"):
            try:
                chunks, _ = self._engine.client.get_archive(container, str(self._framework / _COMPLETE))
            except NotFound:
                # Not filled yet; or somebody has removed the container, which is asked for here.
                self._engine.client.inspect_container(container)
                return False
            return bool(list(chunks))

    def _helper(self, image: str) -> str | None:
        """Return a container through which the volume can be written; None while another process has it."""
        from docker.errors import APIError

        client = self._engine.client
        with self._engine.translated("create a container to copy the framework with"):
            host_config = client.create_host_config(
                mounts=[self.mount(read_only=False)],
                network_mode="none",
                auto_remove=True,
                read_only=True,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
            )
            try:
                created = client.create_container(
                    image,
                    name=self._name,
                    labels={LEASE_LABEL: str(_FILLED_WITHIN)},
                    entrypoint=[PYTHON, "-c", "import sys; sys.stdin.read()"],
                    stdin_open=True,
                    host_config=host_config,
                )
            except APIError as exc:
                if exc.status_code == 409:
                    return None
                raise
            return str(created["Id"])

    def _copy(self, helper: str, listener: Listener) -> None:
        listener.message(Log("info", f"copying the framework {self._framework} to the Docker engine, this once"))
        begin = time.monotonic()
        client = self._engine.client
        try:
            with (
                self._engine.translated("take the framework"),
                closing(client.attach_socket(helper, params={"stdin": 1, "stream": 1})),
            ):
                client.start(helper)
                archive = pack([Source(".", self._framework.resolve())], Owner())
                client.put_archive(helper, str(self._framework), archive)
                client.put_archive(helper, str(self._framework), pack_text(_COMPLETE, "complete\n"))
        finally:
            remove(self._engine, helper)
        listener.message(Log("info", f"copied the framework in {time.monotonic() - begin:.1f} s"))
