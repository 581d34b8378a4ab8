"""``airflow standalone`` in a folder of its own: its environment, its start, its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from filelock import FileLock, Timeout

from .errors import DemoError

_KEEPER = Path(__file__).with_name("keeper.py")
_HOST = "127.0.0.1"

#: Of the caller's own Airflow only these reach the demo; a database or a dags folder configured elsewhere must not.
_KEPT_PREFIXES = ("AIRFLOW_CONN_", "AIRFLOW__PIPCOOK__")

#: What ``[dag_processor] dag_bundle_config_list`` says so that every pipeline document is a DAG file of its own.
PIPELINES: Final = ({"name": "dags-folder", "classpath": "pipcook_provider.bundles.PipcookDagBundle", "kwargs": {}},)


@dataclass(frozen=True)
class Setup:
    """Where an Airflow lives, and what it reads.

    :param home: the folder of its configuration, its logs, and its database unless there is another.
    :param dags: the dags folder.
    :param cache: where frameworks and downloads are kept, unless ``PIPCOOK_HOME`` says otherwise.
    :param bundles: the DAG bundles; by default the dags folder as it is.
    :param database: the SQLAlchemy URL of its database; by default an SQLite file in ``home``.
    :param first_port: the first port to try for its web UI; 0 lets the kernel choose one.
    """

    home: Path
    dags: Path
    cache: Path
    bundles: Sequence[Mapping[str, Any]] = ()
    database: str | None = None
    first_port: int = 8080


class Standalone:
    """A running ``airflow standalone``."""

    def __init__(self, setup: Setup) -> None:
        port = free_port(setup.first_port)
        self.url = f"http://{_HOST}:{port}"
        self.log = setup.home / "standalone.log"
        self._process = subprocess.Popen(
            [sys.executable, str(_KEEPER), str(self.log), "airflow", "standalone"],
            env=environment(os.environ, setup, port),
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        """End it and all its processes, whatever signal comes meanwhile: the keeper needs some seconds at most."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def check(self) -> None:
        """Do nothing while it is up.

        :raises DemoError: it ended by itself.
        """
        code = self._process.poll()
        if code is not None:
            raise DemoError(f"Airflow ended by itself (exit status {code}). {self.last_words()}")

    def last_words(self) -> str:
        """Return the last lines of its log, with the log's place; requests, the demo's own above all, tell nothing."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        telling = [line for line in lines if "[http.access]" not in line]
        return "\n  ".join([f"The last lines of {self.log}:", *telling[-20:]])


@contextmanager
def alone_in(home: Path) -> Iterator[None]:
    """Keep ``home`` for one demo at a time.

    :raises DemoError: another one has it.
    """
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / "demo.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DemoError(
            f"A demo is already running in {home}: two would share one database, so none was started. "
            "Use the running one, or stop it (Ctrl-C) and start again."
        ) from None
    with lock:
        yield


def environment(outer: Mapping[str, str], setup: Setup, port: int) -> dict[str, str]:
    """Return the environment of an Airflow that takes nothing from the caller's but Pipcook's settings."""
    url = f"http://{_HOST}:{port}"
    inherited = {
        name: value
        for name, value in outer.items()
        if not name.startswith("AIRFLOW") or name.startswith(_KEPT_PREFIXES)
    }
    configured: dict[str, str] = {}
    if setup.bundles:
        configured["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps(setup.bundles)
    if setup.database:
        configured["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = setup.database
    # Where the network is reached through a proxy, this machine is not.
    direct = {name: ",".join([*filter(None, [outer.get(name)]), _HOST]) for name in ("NO_PROXY", "no_proxy")}
    return {
        "PIPCOOK_HOME": str(setup.cache),
        **inherited,
        **direct,
        **configured,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{outer.get('PATH', os.defpath)}",
        "PIPCOOK_WORKSPACE_ROOT": str(setup.home / "workspace"),
        "AIRFLOW_HOME": str(setup.home),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": _HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_FOLDER": str(setup.dags),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(setup.home / "dag_bundles"),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "NO_COLOR": "1",
    }


def free_port(first: int = 0) -> int:
    """Return ``first``, or the next port after it that nothing listens on; for 0, one that the kernel chooses."""
    for port in range(first, first + 1000):
        with socket.socket() as probe:
            if port and probe.connect_ex((_HOST, port)) == 0:
                continue
        with socket.socket() as listener:
            # As servers do: a port whose last connections are still timing out is free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((_HOST, port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise DemoError(f"Expected a free port among {first} to {first + 999}, found none; Airflow was not started.")
