"""The ``pipcook`` command: the same stages as in Airflow, without any Airflow service."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pipcook_provider import __version__
from pipcook_provider.errors import PipcookError, ScriptError, SettingsError, SpecError
from pipcook_provider.settings import Settings

if TYPE_CHECKING:
    from pipcook_provider.spec import PipelineSpec
    from pipcook_provider.stages import StageResult
    from pipcook_provider.store.workspace import Workspace

_FAILED = 1
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, 1 for a failure, 2 for wrong usage, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        with _leaving_in_order():
            return int(options.run(options))
    except BrokenPipeError:
        # Whoever reads our output has seen enough; nothing must be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except (PipcookError, OSError) as exc:
        if getattr(options, "debug", False):
            raise
        if isinstance(exc, ScriptError) and exc.details:
            print(exc.details.rstrip(), file=sys.stderr)
        print(f"pipcook: {exc}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        print("pipcook: interrupted; the stage that was running has been ended", file=sys.stderr)
        return _INTERRUPTED


@contextmanager
def _leaving_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command as an exception does: the stage with it, the terminal as it was."""

    def leave(number: int, _frame: object) -> NoReturn:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pipcook",
        description="Train models from Pipcook pipeline documents.",
        epilog="example: pipcook train dags/digits-image-classification.json -o digits",
    )
    parser.add_argument("--version", action="version", version=f"pipcook-provider {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    train = commands.add_parser(
        "train",
        aliases=["run"],
        help="run a pipeline and keep its model",
        description="Run all stages of a pipeline document; the model is in DIR/model afterwards.",
        epilog="example: pipcook train https://example.com/pipeline.json -o out",
    )
    train.add_argument("uri", metavar="URI", help="path or URL of a pipeline document")
    train.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="the run's folder (default: named after the time)"
    )
    train.add_argument(
        "-m", "--mirror", action="append", metavar="URL", help="framework mirror; may be given repeatedly"
    )
    train.add_argument("--nocache", action="store_true", help="fetch the framework again although it is cached")
    train.add_argument("--debug", action="store_true", help="show Python's traceback when something fails")
    train.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    train.set_defaults(run=_train)

    lint = commands.add_parser(
        "lint",
        help="check pipeline documents without running them",
        description="Check pipeline documents; exit status 1 when one cannot be used.",
        epilog="example: pipcook lint dags/",
    )
    lint.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="documents, or folders with documents")
    lint.add_argument("--json", action="store_true", help="print the problems as JSON on stdout")
    lint.set_defaults(run=_lint)

    clean = commands.add_parser(
        "clean",
        help="remove cached frameworks and downloads",
        description="Remove what runs share and can fetch again: frameworks and downloads. Workspaces stay.",
        epilog="example: pipcook clean --dry-run",
    )
    clean.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    clean.set_defaults(run=_clean)
    return parser


def _train(options: argparse.Namespace) -> int:
    from pipcook_provider.console import open_console
    from pipcook_provider.launchers.process import ProcessLauncher
    from pipcook_provider.plan import PREPARE, plan
    from pipcook_provider.stages import StageRunner
    from pipcook_provider.store.workspace import Workspace

    settings = Settings.load()
    if options.mirror:
        settings = replace(settings, framework_mirror=tuple(options.mirror))
    spec = _read_document(options.uri, settings)
    stages = plan(spec)
    titles = {PREPARE: "prepare", **{stage.task_id: stage.title for stage in stages}}
    folder = options.output or _folder_named_after_time()
    is_new = not folder.exists()
    workspace = Workspace.create(folder)
    results: list[StageResult] = []
    failures: list[PipcookError] = []
    with workspace.alone(), open_console(titles) as console:
        runner = StageRunner(settings, ProcessLauncher(settings), console, refresh=options.nocache)
        console.begin(PREPARE)
        try:
            runner.prepare(spec, workspace)
        except BaseException:
            if is_new:
                workspace.discard()
            raise
        console.end()
        for stage in stages:
            console.begin(stage.task_id)
            try:
                results.append(runner.run(workspace, stage.task_id))
            except PipcookError as exc:
                if stage.role != "artifact":
                    raise
                # The model is there: what can be made of it still is.
                failures.append(exc)
            else:
                console.end(results[-1])
    _tell(workspace, results, as_json=options.json)
    for failure in failures[:-1]:
        print(f"pipcook: {failure}", file=sys.stderr)
    if failures:
        raise failures[-1]
    return 0


def _tell(workspace: Workspace, results: Sequence[StageResult], *, as_json: bool) -> None:
    """Print what came of a run."""
    metrics = {name: value for result in results for name, value in result.metrics.items()}
    if as_json:
        summary = {
            "workspace": str(workspace.root),
            "model": str(workspace.model),
            "metrics": metrics,
            "stages": [asdict(result) for result in results],
        }
        print(json.dumps(summary))
        return
    for name, value in metrics.items():
        print(f"{name}: {'not a finite number' if value is None else format(value, '.4g')}")
    for result in results:
        if result.value.get("built"):
            print(f"artifact: {result.value['built']}")
    print(f"model: {workspace.model}")


def _lint(options: argparse.Namespace) -> int:
    from pipcook_provider.spec import lint_pipeline
    from pipcook_provider.spec.folder import find_json_files, is_pipeline_file
    from pipcook_provider.spec.reader import read_file

    documents: list[Path] = []
    for path in options.paths:
        if not path.exists():
            raise SettingsError(f"expected the path of a document or folder on this machine, found none at {path}.")
        documents += [file for _, file in find_json_files(path) if is_pipeline_file(file)] if path.is_dir() else [path]
    found: list[dict[str, Any]] = []
    for path in documents:
        try:
            level, problems = "warning", lint_pipeline(read_file(path), str(path))
        except SpecError as exc:
            level, problems = "error", exc.problems
        found += [{"level": level, "file": str(path), **asdict(problem)} for problem in problems]
        if not options.json:
            for problem in problems:
                print(f"{level}: {problem.render(str(path))}")
    errors = sum(problem["level"] == "error" for problem in found)
    if options.json:
        print(json.dumps(found))
    else:
        print(f"{len(documents)} document(s) checked: {errors} error(s), {len(found) - errors} warning(s)")
    return _FAILED if errors else 0


def _clean(options: argparse.Namespace) -> int:
    import shutil

    home = Settings.load().home
    for name in ("framework", "data", "script"):
        folder = home / name
        if not folder.is_dir() or folder.is_symlink():
            continue
        size = sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())
        print(f"{'would remove' if options.dry_run else 'removing'} {folder} ({size / 1e6:.1f} MB)")
        if not options.dry_run:
            shutil.rmtree(folder)
    return 0


def _read_document(uri: str, settings: Settings) -> PipelineSpec:
    from urllib.parse import unquote, urlsplit

    from pipcook_provider.spec import load_pipeline_spec, parse_pipeline
    from pipcook_provider.store.fetch import read_text, shown

    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        return parse_pipeline(read_text(uri, settings), shown(uri))
    path = unquote(parts.path) if parts.scheme == "file" else uri
    return load_pipeline_spec(Path(path).absolute())


def _folder_named_after_time() -> Path:
    name = datetime.now().astimezone().strftime("%Y-%m-%dT%H-%M-%S")
    folder = Path.cwd() / name
    number = 2
    while folder.exists():
        folder = Path.cwd() / f"{name}-{number}"
        number += 1
    return folder


if __name__ == "__main__":
    sys.exit(main())
