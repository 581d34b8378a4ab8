"""A pipeline as a list of stages, and how one stage is run: the same for Airflow's tasks and the ``pipcook`` command.

``prepare`` decides everything that a run needs to know and writes it into the workspace; each stage then reads the
workspace only, so editing the document during a run changes nothing in it.
"""

from __future__ import annotations

import copy
import difflib
import json
import math
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipcook_provider.errors import LaunchError, LockError, ParameterError, ScriptError, StageError
from pipcook_provider.frameworks import Framework, FrameworkPin, absolute_reference, ensure_framework, platform_key
from pipcook_provider.frameworks.report import Report
from pipcook_provider.launchers import Launch, Launcher, Listener, Needs
from pipcook_provider.lockfile import (
    Lock,
    LockedFramework,
    describe_processor,
    describe_script,
    describe_scripts,
    lock_path,
)
from pipcook_provider.plan import PREPARE, Stage, plan, training_parameters
from pipcook_provider.runtime.context import StageContext
from pipcook_provider.runtime.loading import ENTRY_POINTS
from pipcook_provider.runtime.messages import Log, Message, Metric, Progress
from pipcook_provider.runtime.processors import find_processor
from pipcook_provider.settings import Settings
from pipcook_provider.spec import ArtifactSpec, Gpu, PipelineSpec, ScriptSpec, load_pipeline_spec, parse_pipeline
from pipcook_provider.store.scripts import CollectedScript, collect_script, offers, script_path
from pipcook_provider.store.web import fetch_cached
from pipcook_provider.store.workspace import Workspace
from pipcook_provider.units import show_size

#: Where a prepared run's document keeps what its framework must be: by a lock, or since it is known by no exact name.
_PINNED = "pinnedFramework"


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a finished stage tells: small figures and references.

    :param task_id: the stage.
    :param seconds: wall time.
    :param value: what the stage's role reports: ``samples`` per split, the model's ``files`` and ``bytes``, what an
        artifact processor ``built``.
    :param metrics: what the script measured for the whole run, or else the last value of each metric of its steps; None
        for what is no finite number.
    """

    task_id: str
    seconds: float
    value: Mapping[str, Any]
    metrics: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StageRunner:
    """Prepares runs and runs their stages.

    :param settings: the machine's settings.
    :param launcher: where stages run.
    :param listener: who hears of them.
    :param refresh: whether frameworks are fetched again although they are cached.
    """

    settings: Settings
    launcher: Launcher
    listener: Listener
    refresh: bool = False

    def prepare(self, spec: PipelineSpec, workspace: Workspace, train: Mapping[str, Any] | None = None) -> None:
        """Prepare a run: fail on whatever can be known to fail before anything is trained.

        What an earlier attempt left in the workspace gives way only when nothing can fail any more.

        :param spec: the document.
        :param workspace: the run's folder.
        :param train: values that replace those of ``options.train``, by the names of
            :func:`~pipcook_provider.plan.training_parameters`.
        :raises PipcookError: something that the run needs is not there.
        """
        _require_process_runner(spec, self.settings)
        for artifact in spec.artifacts:
            find_processor(artifact.processor)
        document = _as_it_runs(spec, train or {})
        try:
            self._prepare(parse_pipeline(json.dumps(document), spec.origin), document, workspace)
        except BaseException:
            workspace.abandon_preparation()
            raise

    def _prepare(self, spec: PipelineSpec, document: dict[str, Any], workspace: Workspace) -> None:
        report = _ListenerReport(self.listener)
        lock = Lock.beside(spec.origin)
        scripts = _collect_scripts(spec, workspace.begin_preparation(), self.settings, report)
        if lock:
            lock.check_scripts(spec, map(describe_script, scripts))
            lock.check_processors(spec)
            lock.check_environment(spec)
        pin = lock.framework_pin(spec, platform_key(gpu=spec.gpu is not Gpu.NO)) if lock else None
        framework = None
        if spec.framework:
            reference = lock.framework_reference(spec) if lock else absolute_reference(spec.framework, spec.origin)
            framework = self._first_framework(reference, pin, report, gpu=spec.gpu is not Gpu.NO)
            document["options"]["framework"] = framework.reference
            pin = pin or FrameworkPin.of_zip(framework)
        if pin:
            document[_PINNED] = pin.to_json()
        if spec.artifacts:
            self._initialize_artifacts(spec, workspace)
        workspace.commit(document)
        if framework:
            workspace.show_framework(framework.path)

    def run(self, workspace: Workspace, task_id: str) -> StageResult:
        """Run one stage of a prepared run.

        :raises StageError: it did not end with a result; what an earlier attempt left is still there.
        """
        spec = load_pipeline_spec(workspace.config)
        stages = {stage.task_id: stage for stage in plan(spec)}
        if task_id not in stages:
            raise StageError(
                f"expected a stage of this run's pipeline, found {task_id!r}. It has {', '.join(stages)}. If the document "
                f"was changed, start a new run or clear {PREPARE!r}."
            )
        stage = stages[task_id]
        if stage.role == "artifact":
            return self._build_artifact(spec, workspace, stage)
        return self._run_script(spec, workspace, stage)

    def _run_script(self, spec: PipelineSpec, workspace: Workspace, stage: Stage) -> StageResult:
        assert isinstance(stage.subject, ScriptSpec)
        script = script_path(workspace.scripts, stage.order, stage.subject.basename)
        framework = self._framework(spec) if spec.framework else None
        trains = stage.role == "model"
        output = workspace.begin_output(stage.task_id)
        context = StageContext(
            stage=stage.task_id,
            role=stage.role,
            parameters={**spec.train, **stage.subject.parameters} if trains else dict(stage.subject.parameters),
            options=spec.options,
            origin=spec.origin,
            downloads=str(self.settings.home / "data"),
            script=workspace.relative(script.file),
            script_uri=stage.subject.uri,
            modules=workspace.relative(script.modules) if script.modules else None,
            framework=str(framework.path) if framework else None,
            input=workspace.relative(workspace.output(stage.source)) if stage.source else None,
            output=workspace.relative(output),
        )
        result = self._launch(spec, workspace, context, f"{stage.role} script {stage.subject.uri}")
        if trains:
            workspace.publish_model(stage.task_id, _without_airflow(spec.document))
        else:
            workspace.publish(stage.task_id)
        return result

    def _build_artifact(self, spec: PipelineSpec, workspace: Workspace, stage: Stage) -> StageResult:
        assert isinstance(stage.subject, ArtifactSpec)
        context = StageContext(
            stage=stage.task_id,
            role="artifact_build",
            parameters=dict(stage.subject.options),
            options=spec.options,
            origin=spec.origin,
            downloads=str(self.settings.home / "data"),
        )
        return self._launch(spec, workspace, context, f"artifact processor {stage.subject.processor}")

    def _initialize_artifacts(self, spec: PipelineSpec, workspace: Workspace) -> None:
        context = StageContext(
            stage=PREPARE,
            role="artifact_initialize",
            parameters=[dict(artifact.options) for artifact in spec.artifacts],
            options=spec.options,
            origin=spec.origin,
            downloads=str(self.settings.home / "data"),
        )
        names = ", ".join(artifact.processor for artifact in spec.artifacts)
        self._launch(spec, workspace, context, f"artifact processor {names}")

    def _launch(self, spec: PipelineSpec, workspace: Workspace, context: StageContext, subject: str) -> StageResult:
        context_file = workspace.write_context(context.stage, context.to_json())
        recorder = _Recorder(self.listener)
        started = time.monotonic()
        value = self.launcher.run(
            Launch(
                workspace=workspace.root,
                context=context_file.relative_to(workspace.root),
                site=self.launcher.open(Needs(), self.listener),
                framework=Path(context.framework) if context.framework else None,
                environment=spec.airflow.env,
                subject=subject,
                script_uris=_script_uris(context),
            ),
            recorder,
        )
        return StageResult(context.stage, time.monotonic() - started, value, recorder.metrics)

    def _first_framework(self, reference: str, pin: FrameworkPin | None, report: Report, *, gpu: bool) -> Framework:
        """Return the framework that a run begins with; a locked one after a look at each of its files."""
        framework = ensure_framework(
            reference,
            self.settings,
            gpu=gpu,
            refresh=self.refresh,
            verify=pin is not None,
            pin=pin,
            report=report,
        )
        report.info(f"framework {framework.reference} at {framework.path}")
        return framework

    def _framework(self, spec: PipelineSpec) -> Framework:
        """Return the framework of a prepared run: its document has the exact reference, and what is known of it."""
        assert spec.framework is not None
        report = _ListenerReport(self.listener)
        pin = FrameworkPin.read(spec.document[_PINNED]) if _PINNED in spec.document else None
        framework = ensure_framework(spec.framework, self.settings, gpu=spec.gpu is not Gpu.NO, pin=pin, report=report)
        report.info(f"framework {framework.reference} at {framework.path}")
        return framework


def lock_pipeline(spec: PipelineSpec, settings: Settings, report: Report) -> Path:
    """Write the lock beside a document: what it runs now is what it may run from now on.

    A lock that is there keeps what it says of the framework on other platforms, as long as it is the same framework.

    :returns: the lock's path.
    :raises LockError: the document is none on this machine, or the lock cannot be written.
    :raises PipcookError: something that the document names is not there.
    """
    path = lock_path(spec.origin)
    if path is None:
        raise LockError(
            f"a lock lies beside its document, so the document was expected on this machine, but {spec.origin} is in the "
            "network. Save the document, and lock that."
        )
    try:
        former = Lock.beside(spec.origin)
    except LockError:
        report.warning(f"{path} cannot be read as a lock; it is written anew.")
        former = None
    with tempfile.TemporaryDirectory(prefix="pipcook-lock-") as folder:
        collected = _collect_scripts(spec, Path(folder), settings, report)
        scripts = describe_scripts(spec, map(describe_script, collected))
    processors = {artifact.processor: describe_processor(artifact.processor) for artifact in spec.artifacts}
    framework = _lock_framework(spec, former, settings, report) if spec.framework else None
    Lock(scripts, processors, framework).write(path)
    return path


def _lock_framework(spec: PipelineSpec, former: Lock | None, settings: Settings, report: Report) -> LockedFramework:
    assert spec.framework is not None
    framework = ensure_framework(
        absolute_reference(spec.framework, spec.origin),
        settings,
        gpu=spec.gpu is not Gpu.NO,
        verify=True,
        report=report,
    )
    # A path is said as the document says it: the lock moves with the document.
    is_named = framework.reference == f"{framework.name}@{framework.version}"
    reference = framework.reference if is_named else spec.framework
    known = former.framework if former else None
    same = known is not None and (known.asked, known.reference) == (spec.framework, reference)
    others = known.platforms if known is not None and same else {}
    pin = FrameworkPin.of(framework)
    return LockedFramework(spec.framework, reference, {**others, platform_key(gpu=spec.gpu is not Gpu.NO): pin})


def _collect_scripts(spec: PipelineSpec, folder: Path, settings: Settings, report: Report) -> list[CollectedScript]:
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


class _ListenerReport:
    """Tells a run's listener how its framework is got."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._told: tuple[str, int] | None = None

    def info(self, text: str) -> None:
        self._listener.message(Log("info", text))

    def warning(self, text: str) -> None:
        self._listener.message(Log("warning", text))

    def progress(self, label: str, done: int, total: int | None) -> None:
        if not total or (label, 100 * done // total) == self._told:
            return
        if self._told is None or self._told[0] != label:
            self.info(f"{label} ({show_size(total)})")
        self._told = (label, 100 * done // total)
        self._listener.message(Progress(done / total, {}))


def _require_process_runner(spec: PipelineSpec, settings: Settings) -> None:
    runner = spec.airflow.runner or settings.runner
    if runner != "process":
        raise LaunchError(
            f"expected a runner that this version has, found {runner!r}: stages run in processes only. "
            'Remove "runner" from options.airflow, or set it, and [pipcook] runner, to "process".'
        )


class _Recorder:
    """Passes everything on and keeps the metrics."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._of_steps: dict[str, float] = {}
        self._of_run: dict[str, float] = {}

    @property
    def metrics(self) -> dict[str, float | None]:
        """The metrics of the whole run, or, where a script reports only steps, the last value of each.

        What is no finite number is None: neither Airflow's XCom nor JSON can hold it.
        """
        found = self._of_run or self._of_steps
        return {name: value if math.isfinite(value) else None for name, value in found.items()}

    def message(self, message: Message) -> None:
        if isinstance(message, Metric):
            (self._of_run if message.step is None else self._of_steps)[message.name] = message.value
        self._listener.message(message)

    def output(self, line: str) -> None:
        self._listener.output(line)


def _script_uris(context: StageContext) -> dict[str, str]:
    """Return where the scripts of a stage came from, by file and, for modules, by folder."""
    if context.script is None or context.script_uri is None:
        return {}
    known = {context.script: context.script_uri}
    if context.modules:
        known[context.modules] = context.script_uri.rpartition("/")[0]
    return known


def _as_it_runs(spec: PipelineSpec, train: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with ``train`` applied, carrying its origin: it no longer lies where it came from.

    :raises ParameterError: a name is none of the document's.
    """
    document: dict[str, Any] = copy.deepcopy(dict(spec.document))
    document["origin"] = spec.origin
    document.pop(_PINNED, None)
    known = {parameter.name: parameter for parameter in training_parameters(spec.train)}
    for name, value in train.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ParameterError(
                f"expected a parameter of the document's options.train, found {name!r}."
                + (f" Did you mean {near[0]!r}?" if near else "")
                + f" It has {', '.join(known) or 'none'}. Nothing was run; add it to the document, or leave it out."
            )
        target = document["options"]["train"]
        *outer, inner = known[name].path
        for part in outer:
            target = target[part]
        target[inner] = value
    return document


def _without_airflow(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document as ``model/pipeline.json`` keeps it: without what only concerns Airflow, or this machine."""
    kept = {name: value for name, value in document.items() if name not in ("origin", _PINNED)}
    if "options" in kept:
        kept["options"] = {name: value for name, value in kept["options"].items() if name != "airflow"}
    return kept
