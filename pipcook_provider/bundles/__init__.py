"""Pipeline documents as DAG files of their own: the DAG bundle that Airflow is configured with."""

from pipcook_provider.bundles.bundle import PipcookDagBundle

__all__ = ["PipcookDagBundle"]
