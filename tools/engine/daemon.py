"""The engine: the one that is there, else one of its own, which ends when it is told to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tools.debian import install_packages
from tools.errors import ToolError

from .client import Client

#: Debian's and Ubuntu's packages of an engine, of images and of what tests/docker uses, by the program that is looked for.
_PACKAGES = {
    "dockerd": "docker.io",
    "docker-compose": "docker-compose",
    "docker-registry": "docker-registry",
    "iptables": "iptables",
    "debootstrap": "debootstrap",
}
_SECONDS_TO_ANSWER = 60.0
_SECONDS_TO_END = 60.0
_LAST_LINES = 15
_INSTALL = "Install Docker Engine 20.10 or newer with BuildKit (https://docs.docker.com/engine/install/) and start it"


def need_engine() -> Client:
    """Return a client that an engine answers.

    :raises ToolError: there is no client that builds, or no engine.
    """
    client = Client.find()
    if client is None:
        raise ToolError(
            "Expected a `docker` on PATH that can build with BuildKit, found none; nothing was built or tested. "
            f"{_INSTALL}, or as root on Debian or Ubuntu: .venv/bin/python -m tools.engine start"
        )
    if client.engine() is None:
        place = client.environment.get("DOCKER_HOST") or "this machine's socket"
        raise ToolError(
            f"Expected a Docker engine at {place}, but none answers {client.program}; nothing was built or tested. Start it, "
            "or let it be done, as root on Debian or Ubuntu: .venv/bin/python -m tools.engine start"
        )
    return client


@dataclass(frozen=True, slots=True)
class Daemon:
    """An engine that this tool starts.

    :param folder: of its log, and of the note by which it is found again.
    :param command: what starts ``dockerd``.
    """

    folder: Path = Path("/run/pipcook-engine")
    command: Sequence[str] = ("dockerd",)

    @property
    def log(self) -> Path:
        """Its log."""
        return self.folder / "dockerd.log"

    @property
    def _note(self) -> Path:
        return self.folder / "process.json"

    def start(self, client: Client) -> None:
        """Start it, and wait until it answers ``client``.

        :raises ToolError: it ends, or does not answer in time.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            process = psutil.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._note.write_text(json.dumps({"pid": process.pid, "began": process.create_time()}), encoding="utf-8")
        deadline = time.monotonic() + _SECONDS_TO_ANSWER
        while client.engine() is None:
            if process.poll() is not None or time.monotonic() > deadline:
                happened = "ended by itself" if process.poll() is not None else "does not answer"
                self.stop()
                raise ToolError(f"dockerd was started and {happened}, so there is no engine. {self._last_words()}")
            time.sleep(0.1)

    def stop(self) -> bool:
        """End it, with its containers; return whether there was one to end."""
        process = self._process()
        if process is not None:
            process.terminate()
            try:
                process.wait(_SECONDS_TO_END)
            except psutil.TimeoutExpired:
                process.kill()
        self._note.unlink(missing_ok=True)
        return process is not None

    def _process(self) -> psutil.Process | None:
        """Return the process that was started, unless it is gone: a later one may have its number."""
        with suppress(OSError, psutil.NoSuchProcess):
            noted = json.loads(self._note.read_text(encoding="utf-8"))
            process = psutil.Process(noted["pid"])
            if process.create_time() == noted["began"] and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        return "\n    ".join([f"The last lines of {self.log}:", *lines])


def ensure_engine(daemon: Daemon) -> tuple[Client, bool]:
    """Return a client that an engine answers, and whether the engine was started for that.

    :raises ToolError: there is no engine, and none can be started here.
    """
    client = Client.find()
    if client is not None and client.engine() is not None:
        return client, False
    _check_that_one_may_start()
    install_missing(*_PACKAGES)
    client = Client.find()
    if client is None:
        raise ToolError(
            f"Debian's packages are installed, and still no `docker` on PATH builds with BuildKit. {_INSTALL}."
        )
    if client.engine() is None:
        daemon.start(client)
        return client, True
    # Where services are started by their installation, the engine belongs to the machine now.
    return client, False


def install_missing(*programs: str) -> None:
    """Install the packages of those programs that are not there.

    :raises ToolError: this is not root on Debian or Ubuntu, or it fails.
    """
    install_packages([_PACKAGES[program] for program in programs if not shutil.which(program)])


def _check_that_one_may_start() -> None:
    address = os.environ.get("DOCKER_HOST")
    if address:
        raise ToolError(
            "DOCKER_HOST names an engine, and it does not answer; another one would not be the one that was meant, so none "
            "was started. Start that one, or unset DOCKER_HOST."
        )
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        raise ToolError(
            f"No Docker engine answers, and only root on Linux can start one here. {_INSTALL}; your user must be allowed to "
            "use it (group docker)."
        )
