"""One real PostgreSQL a session, with a database for each Airflow: SQLite is locked when much happens at once."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from postgresql import PostgreSQL, running_postgresql

from tools.programs import POSTGRESQL


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of Airflow's log with a test that failed."""
    report = yield
    airflow = getattr(item, "funcargs", {}).get("airflow")
    if report.failed and airflow is not None:
        report.sections.append(("Airflow's log", airflow.last_words()))
    return report


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    if POSTGRESQL.find() is None:
        pytest.skip(POSTGRESQL.remedy)
    with running_postgresql() as server:
        yield server
