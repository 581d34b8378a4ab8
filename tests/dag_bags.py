"""DAGs as Airflow's own DAG processor sees them: found in a file, and written to the metadata database."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from airflow.sdk import DAG
from airflow.serialization import serialized_objects

# Airflow 3.1 has no DagSerialization yet, and its DagBag lies elsewhere.
_SERIALIZATION: Any = getattr(serialized_objects, "DagSerialization", serialized_objects.SerializedDAG)

LOADER = """# Airflow looks for DAGs here.
from pipcook_provider import load_pipelines

globals().update(load_pipelines(__file__))
"""


def serialized(dag: DAG) -> dict[str, Any]:
    """Return a DAG as it is written to the metadata database."""
    return _SERIALIZATION.to_dict(dag)


def stored(dag: DAG) -> Any:
    """Return a DAG as the scheduler reads it from the metadata database."""
    return _SERIALIZATION.from_dict(json.loads(json.dumps(serialized(dag))))


def dag_bag(file: Path, folder: Path) -> Any:
    """Return what Airflow's importer makes of a DAG file in a bundle's folder."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    known = inspect.signature(DagBag).parameters
    options = {"include_examples": False, "bundle_name": "dags"}
    return DagBag(str(file), bundle_path=folder, **{name: value for name, value in options.items() if name in known})
