"""The first task of a pipeline's DAG."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import Context

from pipcook_provider.operators.base import PipcookOperator, airflow_errors

if TYPE_CHECKING:
    from pipcook_provider.store.workspace import Workspace

#: Characters of a value that are written where people look; all of it stands in the run's ``pipeline-config.json``.
_LONGEST = 200


class PipcookPrepareOperator(PipcookOperator):
    """Fails early: fetches scripts and framework, checks artifact processors, writes the run's ``pipeline-config.json``.

    Pushes ``workspace`` (the run's folder), ``host`` (the worker that made it) and ``changed`` (what the run was triggered
    with, where that is not what the document says) as its XCom. What its stages run with is in its rendered templates.

    :param document: path of the pipeline document.
    :param origin: the URL that the document was fetched from; None for one that lies where it belongs.
    :param runner: where the run's stages are to run, so that what they need there is got here: ``process`` or ``docker``; by
        default as the document says, else the settings.
    """

    # No template of Airflow's: this is where its pages show what a task has worked with.
    template_fields = ("parameters",)
    template_fields_renderers: ClassVar[dict[str, str]] = {"parameters": "json"}
    overwrite_rtif_after_execution = True

    def __init__(
        self, *, document: str | Path, origin: str | None = None, runner: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.document = str(document)
        self.origin = origin
        self.runner = runner
        self.parameters: dict[str, Any] = {}

    def execute(self, context: Context) -> dict[str, Any]:
        """Prepare the run with the trigger form's values in the place of the document's."""
        from pipcook_provider.spec import load_pipeline_spec
        from pipcook_provider.store.workspace import Workspace, run_folder

        run = context["dag_run"]
        with airflow_errors(self.log):
            spec = load_pipeline_spec(Path(self.document), self.origin)
        with self._stage_runner(context, self.runner or spec.airflow.runner) as runner:
            workspace = Workspace.create(run_folder(runner.settings.workspace_root, run.dag_id, run.run_id))
            runner.prepare(spec, workspace, context["params"])
            self.log.info("workspace %s", workspace.root)
            changed = self._tell(workspace)
            return {"workspace": str(workspace.root), "host": socket.gethostname(), "changed": changed}

    def _tell(self, workspace: Workspace) -> dict[str, Any]:
        """Show what the run's stages run with; return what of it the run has changed."""
        from pipcook_provider.plan import run_parameters
        from pipcook_provider.spec import load_pipeline_spec
        from pipcook_provider.stages.document import CHANGED

        spec = load_pipeline_spec(workspace.config)
        self.parameters = {parameter.name: parameter.value for parameter in run_parameters(spec)}
        changed: Mapping[str, list[Any]] = spec.document.get(CHANGED, {})
        if changed:
            width = max(map(len, changed))
            for name, (stated, value) in changed.items():
                self.log.info("%-*s  %s instead of %s", width, name, _shortened(value), _shortened(stated))
        return {name: _shortened(value) for name, (_, value) in changed.items()}


def _shortened(value: Any) -> Any:
    """Return a value that is short, or else the beginning of it."""
    text = str(value)
    return value if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
