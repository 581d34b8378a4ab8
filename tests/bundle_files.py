"""What Airflow makes of a bundle's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow.dag_processing.bundles.base import BaseDagBundle
from airflow.sdk import DAG
from airflow.utils.file import list_py_file_paths
from dag_bags import dag_bag


@dataclass(frozen=True)
class Parsed:
    """DAGs by dag_id, and import errors by file."""

    dags: dict[str, DAG]
    errors: dict[str, str]


def listed(bundle: BaseDagBundle) -> list[str]:
    """Return the DAG files that Airflow finds in a bundle."""
    return sorted(str(Path(path).relative_to(bundle.path)) for path in list_py_file_paths(bundle.path))


def parse(bundle: BaseDagBundle, *files: str) -> Parsed:
    """Parse files of a bundle, all by default, one by one, as the DAG processor and workers do."""
    parsed = Parsed({}, {})
    for file in files or listed(bundle):
        bag = dag_bag(bundle.path / file, bundle.path)
        parsed.dags.update(bag.dags)
        if bag.import_errors:
            (parsed.errors[file],) = bag.import_errors.values()
    return parsed
