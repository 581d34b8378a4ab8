"""A real PostgreSQL for tests, which only processes of this machine reach: through a socket in its folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
from airflow_server import wait_for

from tools.demo import keeper
from tools.programs import POSTGRESQL

#: PostgreSQL refuses to run as root; Debian's package brings this user.
_USER = "postgres"
_AS_USER = ["setpriv", "--reuid", _USER, "--regid", _USER, "--clear-groups"] if os.geteuid() == 0 else []

#: Nothing is kept: a test's database need not survive a power failure.
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "max_connections=300")


class PostgreSQL:
    """A running server.

    :param folder: the folder of its socket.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def database(self, home: Path) -> str:
        """Return the SQLAlchemy URL of an Airflow's database, which is made unless it is there."""
        name = f"airflow_{hashlib.sha256(bytes(home)).hexdigest()[:16]}"
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if not cursor.fetchone():
                cursor.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg2://airflow@/{name}?host={self._folder}"

    def connect(self) -> psycopg2.extensions.connection:
        """Return a connection to no database of a test's."""
        connection = psycopg2.connect(host=str(self._folder), user="airflow", dbname="postgres")
        connection.autocommit = True
        return connection


@contextmanager
def running_postgresql() -> Iterator[PostgreSQL]:
    """Run a server until the end, or until the tests' process ends, however it does."""
    initdb = POSTGRESQL.find()
    assert initdb is not None
    # The path of a socket may have 107 characters, and the server's user has to reach it.
    folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
    try:
        if _AS_USER:
            shutil.chown(folder, _USER)
        options = ["--no-sync", "--auth=trust", "--username=airflow", "--encoding=UTF8", "--locale=C"]
        subprocess.run(
            [*_AS_USER, initdb, *options, folder / "data"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        settings = [part for setting in _FAST for part in ("-c", setting)]
        server = [Path(initdb).resolve().with_name("postgres"), "-D", folder / "data", "-k", folder, *settings]
        command = [sys.executable, keeper.__file__, folder / "log", *_AS_USER, *server]
        with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=folder) as process:
            postgresql = PostgreSQL(folder)
            wait_for(lambda: process.poll() is not None or _answers(postgresql), bool, seconds=60)
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8", errors="replace")
            yield postgresql
    finally:
        shutil.rmtree(folder)


def _answers(postgresql: PostgreSQL) -> bool:
    try:
        postgresql.connect().close()
    except psycopg2.OperationalError:
        return False
    return True
