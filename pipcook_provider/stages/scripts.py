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
    for order, (role, script) in enumerate(zip(roles(spec), spec.scripts, strict=True)):
        target = script_path(folder, order, script.basename)
        collect_script(script.reference, script.path, target, folder / f"{order}-modules", fetch)
        check_script(target.file, role, script.uri)
        collected.append(script_path(folder, order, script.basename))
    return collected


def roles(spec: PipelineSpec) -> tuple[str, ...]:
    """Return the role of each script of a document, in their order."""
    return ("datasource", *["dataflow"] * len(spec.dataflow), "model")


def check_script(file: Path, role: str, uri: str) -> None:
    """Refuse a script that surely does not work; nothing of it runs.

    :param uri: what messages call it.
    :raises ScriptError: it is no Python, or does not define what a stage of its role calls.
    """
    name = ENTRY_POINTS[role]
    if not offers(file, name):
        raise ScriptError(
            f"the {role} script {uri} defines no {name!r}, which is what its stage calls: nothing was run. "
            f"Define a function {name}(...) in it."
        )
