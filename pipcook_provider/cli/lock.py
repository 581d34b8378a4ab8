"""``pipcook lock``: write down exactly what a document runs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pipcook_provider.cli.base import Commands, add_mirrors, with_mirrors
from pipcook_provider.settings import Settings


def add_commands(commands: Commands) -> None:
    """Add ``lock``."""
    lock = commands.add(
        "lock",
        _lock,
        purpose="hold documents to the scripts and framework that they have now",
        description="Write <name>.lock.json beside documents: the SHA-256 digests of their scripts, framework and artifact "
        "processors. Runs then use these or none. A lock that is there gets this platform's framework added.",
        example="lock dags/digits-image-classification.json",
    )
    lock.add_argument("documents", nargs="+", type=Path, metavar="DOCUMENT", help="path of a pipeline document")
    add_mirrors(lock)
    lock.add_argument("--json", action="store_true", help="print the paths of the locks as JSON on stdout")


def _lock(options: argparse.Namespace, settings: Settings) -> int:
    from pipcook_provider.console import open_report
    from pipcook_provider.spec import load_pipeline_spec
    from pipcook_provider.stages import lock_pipeline

    settings = with_mirrors(settings, options)
    with open_report() as report:
        locks = [
            lock_pipeline(load_pipeline_spec(document.absolute()), settings, report) for document in options.documents
        ]
    if options.json:
        print(json.dumps([str(lock) for lock in locks]))
        return 0
    for lock in locks:
        print(lock)
    return 0
