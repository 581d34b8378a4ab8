"""The versions that development and CI use."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parents[2]


def airflow_of(name: str) -> str:
    """Return the version of Airflow in a file of constraints."""
    found = re.search(r"^apache-airflow==(.+)$", (REPOSITORY / name).read_text(encoding="utf-8"), re.M)
    assert found
    return found[1]


def test_oldest_airflow_is_of_the_oldest_minor_that_is_supported() -> None:
    """What pyproject.toml promises is what `make test-oldest` tests, and it is not what all other tests use."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (airflow,) = (r for r in map(Requirement, project["dependencies"]) if r.name == "apache-airflow")
    (supported,) = airflow.specifier
    assert supported.operator == ">="
    assert airflow_of("constraints-oldest.txt").startswith(f"{supported.version}.")
    assert not airflow_of("constraints.txt").startswith(f"{supported.version}.")
