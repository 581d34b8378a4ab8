"""Pipeline documents as Airflow DAGs: ``prepare >> datasource >> dataflow_n >> model >> artifact_n``.

This is the DAG-parse path: it reads JSON, and nothing else happens here. No network, no child process, no connection,
nothing that changes from one parse to the next.
"""

from pipcook_provider.dag_factory.building import DocumentSource, load_pipeline
from pipcook_provider.dag_factory.folder import load_pipelines
from pipcook_provider.plan import dag_id_of

__all__ = ["DocumentSource", "dag_id_of", "load_pipeline", "load_pipelines"]
