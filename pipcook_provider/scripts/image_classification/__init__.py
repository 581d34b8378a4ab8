"""Images to categories: ``datasource.py``, ``dataflow.py`` and ``model.py``."""
