"""Airflow DAGs of the pipeline documents beside this file and below it."""

from pipcook_provider.dag_factory import load_pipelines

globals().update(load_pipelines(__file__))
