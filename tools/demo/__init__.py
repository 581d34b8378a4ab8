"""``make demo``: a whole Airflow of its own, and in it one run of a pipeline, shown while it happens."""
