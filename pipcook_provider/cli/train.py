"""``pipcook train``: all stages of a pipeline, one after the other, in this terminal."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipcook_provider.cli.base import Commands, add_mirrors, argument, with_mirrors
from pipcook_provider.errors import PipcookError
from pipcook_provider.settings import RUNNERS, Settings

if TYPE_CHECKING:
    from pipcook_provider.spec import PipelineSpec
    from pipcook_provider.stages import StageResult
    from pipcook_provider.store.workspace import Workspace
    from pipcook_provider.templating import Templates


def add_commands(commands: Commands) -> None:
    """Add ``train`` and its other name ``run``."""
    train = commands.add(
        "train",
        _train,
        aliases=["run"],
        purpose="run a pipeline and keep its model",
        description="Run all stages of a pipeline document; the model is in DIR/model afterwards.",
        example="train https://example.com/pipeline.json -o out",
    )
    train.add_argument("uri", metavar="URI", help="path or URL of a pipeline document")
    train.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="the run's folder (default: named after the time)"
    )
    train.add_argument(
        "--runner", choices=RUNNERS, help="where stages run (default: as the document says, else the settings)"
    )
    train.add_argument(
        "--logical-date",
        type=argument(_read_date),
        metavar="DATE",
        help="what templates such as {{ ds }} stand for: a date, or a date and time (UTC unless it says; default: now)",
    )
    add_mirrors(train)
    train.add_argument("--nocache", action="store_true", help="fetch the framework again although it is cached")
    train.add_argument("--debug", action="store_true", help="show Python's traceback when something fails")
    train.add_argument("--json", action="store_true", help="print the result as JSON on stdout")


def _train(options: argparse.Namespace, settings: Settings) -> int:
    from pipcook_provider.console import open_console
    from pipcook_provider.launchers import open_launcher
    from pipcook_provider.plan import plan
    from pipcook_provider.spec.stages import PREPARE
    from pipcook_provider.stages import StageRunner
    from pipcook_provider.store.workspace import Workspace

    settings = with_mirrors(settings, options)
    spec = _read_document(options.uri, settings)
    stages = plan(spec)
    launcher = open_launcher(options.runner or spec.airflow.runner or settings.runner, settings)
    titles = {PREPARE: "prepare", **{stage.task_id: stage.title for stage in stages}}
    folder = options.output or _folder_named_after_time()
    is_new = not folder.exists()
    workspace = Workspace.create(folder)
    results: list[StageResult] = []
    failures: list[PipcookError] = []
    with workspace.alone(), open_console(titles) as console:
        runner = StageRunner(
            settings,
            launcher,
            console,
            refresh=options.nocache,
            everything_here=True,
            templates=_templates(options, settings, spec),
        )
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


def _read_date(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ValueError(f"expected a date such as 2026-01-01 or 2026-01-01T08:00+08:00, found {text!r}") from exc
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _templates(options: argparse.Namespace, settings: Settings, spec: PipelineSpec) -> Templates:
    """Return what renders the document's templates as Airflow would for a run of the date that the options name."""
    from pipcook_provider.plan import run_parameters
    from pipcook_provider.templating import Templates

    @cache
    def values() -> Mapping[str, Any]:
        from pipcook_provider.templating.day import values_of_day

        params = {parameter.name: parameter.value for parameter in run_parameters(spec)}
        return values_of_day(options.logical_date or datetime.now(UTC), Path(spec.origin).stem, params)

    templates = Templates(lambda name: values().get(name))
    if options.find_connection is None:
        return templates
    return replace(templates, connection=partial(options.find_connection, settings))


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


def _read_document(uri: str, settings: Settings) -> PipelineSpec:
    from urllib.parse import unquote, urlsplit

    from pipcook_provider.spec import load_pipeline_spec, parse_pipeline
    from pipcook_provider.store.fetch import shown
    from pipcook_provider.store.web import read_document

    def warn(text: str) -> None:
        print(f"warning: {text}", file=sys.stderr)

    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        return parse_pipeline(read_document(uri, settings, on_stale=warn), shown(uri))
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
