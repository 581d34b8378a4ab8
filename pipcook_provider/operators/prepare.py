"""The first task of a pipeline's DAG."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from airflow.sdk import Context

from pipcook_provider.operators.base import PipcookOperator, airflow_errors


class PipcookPrepareOperator(PipcookOperator):
    """Fails early: fetches scripts and framework, checks artifact processors, writes the run's ``pipeline-config.json``.

    Pushes ``workspace`` (the run's folder) and ``host`` (the worker that made it) as its XCom.

    :param document: path of the pipeline document.
    :param runner: where the run's stages are to run, so that what they need there is got here: ``process`` or ``docker``; by
        default as the document says, else the settings.
    """

    def __init__(self, *, document: str | Path, runner: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.document = str(document)
        self.runner = runner

    def execute(self, context: Context) -> dict[str, Any]:
        """Prepare the run with the trigger form's values in the place of the document's ``options.train``."""
        from pipcook_provider.spec import load_pipeline_spec
        from pipcook_provider.store.workspace import Workspace, run_folder

        run = context["dag_run"]
        with airflow_errors(self.log):
            spec = load_pipeline_spec(Path(self.document))
        with self._stage_runner(self.runner or spec.airflow.runner) as runner:
            workspace = Workspace.create(run_folder(runner.settings.workspace_root, run.dag_id, run.run_id))
            runner.prepare(spec, workspace, context["params"])
            self.log.info("workspace %s", workspace.root)
            return {"workspace": str(workspace.root), "host": socket.gethostname()}
