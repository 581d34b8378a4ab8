"""The official scripts, one package per kind of pipeline. Documents name them by path; nothing here is imported."""
