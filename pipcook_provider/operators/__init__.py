"""The tasks of a pipeline's DAG."""
