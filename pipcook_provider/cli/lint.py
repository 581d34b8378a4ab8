"""``pipcook lint``: what is wrong with documents, without running them."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pipcook_provider.cli.base import FAILED, Commands
from pipcook_provider.errors import SettingsError
from pipcook_provider.settings import Settings

if TYPE_CHECKING:
    from pipcook_provider.spec.lint import Finding


def add_commands(commands: Commands) -> None:
    """Add ``lint``."""
    lint = commands.add(
        "lint",
        _lint,
        purpose="check pipeline documents without running them",
        description="Check pipeline documents: keys, scripts on this machine, parameters, schedules, templates, references "
        "that move. Exit status 1 when one cannot be used.",
        example="lint dags/ --online --format github",
    )
    lint.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="documents, or folders with documents")
    lint.add_argument(
        "--online", action="store_true", help="ask servers for scripts, frameworks and watched addresses, too"
    )
    lint.add_argument("--strict", action="store_true", help="exit with status 1 when there are warnings, too")
    lint.add_argument(
        "--skip-others", action="store_true", help="leave files alone that are no pipelines, such as those of a hook"
    )
    output = lint.add_mutually_exclusive_group()
    output.add_argument(
        "--format",
        choices=tuple(_FORMATS),
        default="text",
        help="how problems are printed: for people and editors (default), as JSON, or as annotations of GitHub Actions",
    )
    output.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")


def _lint(options: argparse.Namespace, settings: Settings) -> int:
    from pipcook_provider.linting import find_documents, lint_documents

    for path in options.paths:
        if not path.exists():
            raise SettingsError(f"expected the path of a document or folder on this machine, found none at {path}.")
    documents = find_documents(options.paths, skip_others=options.skip_others)
    found = lint_documents(documents, settings, online=options.online)
    for line in _FORMATS[options.format](found):
        print(line)
    errors = sum(finding.level == "error" for finding in found)
    if options.format != "json" and not (options.skip_others and not documents):
        none = "" if documents else f"no pipeline document found in {', '.join(map(str, options.paths))}: "
        print(f"{none}{len(documents)} document(s) checked: {errors} error(s), {len(found) - errors} warning(s)")
    return FAILED if errors or (options.strict and found) else 0


def _as_text(found: Sequence[Finding]) -> list[str]:
    return [f"{level}: {problem.render(file)}" for level, file, problem in found]


def _as_json(found: Sequence[Finding]) -> list[str]:
    return [json.dumps([{"level": level, "file": file, **asdict(problem)} for level, file, problem in found])]


def _for_github(found: Sequence[Finding]) -> list[str]:
    """Return workflow commands, which GitHub shows at the lines of a change.

    Their form: https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
    """
    return [
        f"::{level} file={_property(os.path.relpath(file))},line={problem.line},col={problem.column},"
        f"title={_property(f'pipcook: {problem.path}')}::{_data(problem.message)}"
        for level, file, problem in found
    ]


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


_FORMATS: Final[Mapping[str, Callable[[Sequence[Finding]], list[str]]]] = {
    "text": _as_text,
    "json": _as_json,
    "github": _for_github,
}
