"""One real PostgreSQL a session, with a database for each Airflow: SQLite is locked when much happens at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgresql import PostgreSQL, running_postgresql

from tools.programs import POSTGRESQL


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    if POSTGRESQL.find() is None:
        pytest.skip(POSTGRESQL.remedy)
    with running_postgresql() as server:
        yield server
