"""``pipcook lint``: what is wrong with documents, without running them."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from pipcook_provider.cli.base import FAILED, Commands
from pipcook_provider.errors import SettingsError
from pipcook_provider.settings import Settings


def add_commands(commands: Commands) -> None:
    """Add ``lint``."""
    lint = commands.add(
        "lint",
        _lint,
        purpose="check pipeline documents without running them",
        description="Check pipeline documents; exit status 1 when one cannot be used.",
        example="lint dags/",
    )
    lint.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="documents, or folders with documents")
    lint.add_argument("--json", action="store_true", help="print the problems as JSON on stdout")


def _lint(options: argparse.Namespace, _settings: Settings) -> int:
    from pipcook_provider.spec.folder import find_json_files, is_pipeline_file
    from pipcook_provider.spec.lint import lint_file

    documents: list[Path] = []
    for path in options.paths:
        if not path.exists():
            raise SettingsError(f"expected the path of a document or folder on this machine, found none at {path}.")
        documents += [file for _, file in find_json_files(path) if is_pipeline_file(file)] if path.is_dir() else [path]
    # Documents share defaults: what is wrong with these is told once.
    found = list(dict.fromkeys(finding for path in documents for finding in lint_file(path)))
    errors = sum(finding.level == "error" for finding in found)
    if options.json:
        print(json.dumps([{"level": level, "file": file, **asdict(problem)} for level, file, problem in found]))
    else:
        for level, file, problem in found:
            print(f"{level}: {problem.render(file)}")
        print(f"{len(documents)} document(s) checked: {errors} error(s), {len(found) - errors} warning(s)")
    return FAILED if errors else 0
