"""A pipeline's stages, and how one of them is run: the same for Airflow's tasks and the ``pipcook`` command.

``prepare`` decides everything that a run needs to know and writes it into the workspace; each stage then reads the
workspace only, so editing the document during a run changes nothing in it.
"""

from pipcook_provider.stages.job import StageJob, StageResult
from pipcook_provider.stages.locking import lock_pipeline
from pipcook_provider.stages.runner import StageRunner

__all__ = ["StageJob", "StageResult", "StageRunner", "lock_pipeline"]
