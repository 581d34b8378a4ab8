"""The scripts of a document, brought together and looked at."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipcook_provider.errors import ScriptError
from pipcook_provider.frameworks.report import Report
from pipcook_provider.runtime.loading import ENTRY_POINTS
from pipcook_provider.settings import Settings
from pipcook_provider.spec import PipelineSpec
from pipcook_provider.store.scripts import CollectedScript, collect_script, offers, script_path
from pipcook_provider.store.web import fetch_cached


def collect_scripts(spec: PipelineSpec, folder: Path, settings: Settings, report: Report) -> list[CollectedScript]:
    """Bring the scripts of a document into a folder, in their order; refuse those that cannot work."""

    def fetch(uri: str, target: Path) -> None:
        shutil.copyfile(fetch_cached(uri, settings, on_stale=report.warning), target)

    collected = []
    roles = ["datasource", *["dataflow"] * len(spec.dataflow), "model"]
    for order, (role, script) in enumerate(zip(roles, spec.scripts, strict=True)):
        target = script_path(folder, order, script.basename)
        collect_script(script.reference, script.path, target, folder / f"{order}-modules", fetch)
        name = ENTRY_POINTS[role]
        if not offers(target.file, name):
            raise ScriptError(
                f"the {role} script {script.uri} defines no {name!r}, which is what its stage calls: nothing was run. "
                f"Define a function {name}(...) in it."
            )
        collected.append(script_path(folder, order, script.basename))
    return collected
