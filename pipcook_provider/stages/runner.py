"""Preparing a run, and running its stages one by one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipcook_provider.errors import StageError
from pipcook_provider.frameworks import FrameworkPin, absolute_reference, keep_framework, platform_key
from pipcook_provider.launchers import Launch, Launcher, Listener, Needs, Site
from pipcook_provider.lockfile import Lock, describe_script
from pipcook_provider.plan import Stage, plan, stage_options
from pipcook_provider.runtime.context import StageContext
from pipcook_provider.runtime.messages import Log
from pipcook_provider.runtime.processors import find_processor
from pipcook_provider.settings import Settings
from pipcook_provider.spec import ArtifactSpec, Gpu, PipelineSpec, ScriptSpec, load_pipeline_spec, parse_pipeline
from pipcook_provider.spec.stages import PREPARE
from pipcook_provider.stages.document import PINNED, as_it_runs, without_airflow
from pipcook_provider.stages.job import StageJob, StageResult
from pipcook_provider.stages.launching import (
    artifact_context,
    files_of,
    initialization_context,
    launch_of,
    script_context,
)
from pipcook_provider.stages.listening import ListenerReport, Recorder
from pipcook_provider.stages.needs import stage_needs
from pipcook_provider.stages.places import Place, Places, WantedFramework
from pipcook_provider.stages.rendering import rendered_environment, with_rendered_queries
from pipcook_provider.stages.scripts import collect_scripts
from pipcook_provider.stages.targets import as_published, made_for, target_path
from pipcook_provider.store.publish import publish
from pipcook_provider.store.workspace import Workspace
from pipcook_provider.templating import Templates


@dataclass(frozen=True, slots=True)
class StageRunner:
    """Prepares runs and runs their stages.

    :param settings: the machine's settings.
    :param launcher: where stages run.
    :param listener: who hears of them.
    :param refresh: whether frameworks are fetched again although they are cached.
    :param everything_here: whether all stages of a run run on this machine, so that what is missing here is missing.
    :param templates: renders the templates of the document that runs.
    """

    settings: Settings
    launcher: Launcher
    listener: Listener
    refresh: bool = False
    everything_here: bool = False
    templates: Templates = Templates()

    def prepare(self, spec: PipelineSpec, workspace: Workspace, changes: Mapping[str, Any] | None = None) -> None:
        """Prepare a run: fail on whatever can be known to fail before anything is trained.

        What an earlier attempt left in the workspace gives way only when nothing can fail any more.

        :param spec: the document.
        :param workspace: the run's folder.
        :param changes: values that replace the document's, by the names of
            :func:`~pipcook_provider.plan.run_parameters`.
        :raises PipcookError: something that the run needs is not there.
        """
        document = as_it_runs(spec, changes or {})
        prepared = parse_pipeline(json.dumps(document), spec.origin)
        rendered = with_rendered_queries(prepared, document, self.templates, ListenerReport(self.listener).info)
        if rendered is not document:
            prepared = parse_pipeline(json.dumps(rendered), spec.origin)
        try:
            self._prepare(prepared, rendered, workspace)
        except BaseException:
            workspace.abandon_preparation()
            raise

    def _prepare(self, spec: PipelineSpec, document: dict[str, Any], workspace: Workspace) -> None:
        processors = self._find_processors(spec)
        environment = rendered_environment(spec, self.templates)
        lock = Lock.beside(spec.origin)
        scripts = collect_scripts(spec, workspace.begin_preparation(), self.settings, ListenerReport(self.listener))
        if lock:
            lock.check_scripts(spec, map(describe_script, scripts))
            lock.check_processors(spec)
            lock.check_environment(spec)
            lock.check_framework(spec)
        framework = None
        if spec.framework:
            place, pin = self._first_framework(spec, spec.framework, lock)
            framework = place.framework
            document["options"]["framework"] = place.reference
            if pin:
                document[PINNED] = pin.to_json()
        self._look_ahead(spec, framework.images if framework else {})
        for site, artifacts in processors:
            self._initialize_processors(spec, workspace, site, artifacts, environment)
        self.launcher.end_all(workspace.root)
        workspace.commit(document)
        if framework:
            workspace.show_framework(framework.path)

    def _first_framework(
        self, spec: PipelineSpec, framework: str, lock: Lock | None
    ) -> tuple[Place, FrameworkPin | None]:
        """Find the framework that a run begins with, and what it must be in all stages; of a locked one each file is read."""
        reference = lock.framework_reference(spec) if lock else absolute_reference(framework, spec.origin)
        wanted = WantedFramework(reference=reference, gpu=self._wants_gpu(spec), refresh=self.refresh)
        needs = replace(stage_needs(spec, plan(spec)[0]), gpus=0)
        if lock:
            platform = self._places.platform(needs)
            pin = lock.framework_pin(spec, platform_key(gpu=wanted.gpu, platform=platform))
            wanted = replace(wanted, pin=pin, verify=True)
        place = self._places.find(needs, wanted)
        return place, wanted.pin or (FrameworkPin.of_zip(place.framework) if place.framework else None)

    def _look_ahead(self, spec: PipelineSpec, images: Mapping[str, str]) -> None:
        """Look whether the scripts' stages will find what they need, as far as this machine can tell.

        :param images: those that the framework names.
        :raises LaunchError: one will not.
        """
        opened: list[Needs] = []
        for stage in plan(spec):
            needs = stage_needs(spec, stage)
            needs = replace(needs, images={**images, **needs.images})
            elsewhere = stage_options(spec, stage).queue != spec.airflow.queue
            unknown = elsewhere or (needs.gpus > 0 and not self.launcher.has_gpu())
            if stage.role == "artifact" or needs in opened or (unknown and not self.everything_here):
                continue
            if self.launcher.open(needs, self.listener).shares_files:
                return
            opened.append(needs)

    def _find_processors(self, spec: PipelineSpec) -> list[tuple[Site, list[ArtifactSpec]]]:
        """Return where the artifact processors run: those that need the same, together.

        :raises ArtifactError: no package of this machine, where they are to run, offers one of them.
        """
        groups: list[tuple[Site, list[ArtifactSpec]]] = []
        for stage in plan(spec):
            if not isinstance(stage.subject, ArtifactSpec):
                continue
            needs = stage_needs(spec, stage)
            group = next((group for group in groups if group[0].needs == needs), None)
            if group is None:
                group = (self.launcher.open(needs, self.listener), [])
                groups.append(group)
            if group[0].shares_files:
                find_processor(stage.subject.processor)
            group[1].append(stage.subject)
        return groups

    def _initialize_processors(
        self,
        spec: PipelineSpec,
        workspace: Workspace,
        site: Site,
        artifacts: list[ArtifactSpec],
        environment: Mapping[str, str],
    ) -> None:
        context = initialization_context(spec, workspace, artifacts, site, self.settings)
        workspace.write_context(PREPARE, context.to_json())
        names = ", ".join(artifact.processor for artifact in artifacts)
        self.launcher.run(
            launch_of(workspace, context, site, f"artifact processor {names}", environment), Recorder(self.listener)
        )

    def run(self, workspace: Workspace, task_id: str) -> StageResult:
        """Run one stage of a prepared run.

        :raises StageError: it did not end with a result; what an earlier attempt left is still there.
        """
        job = self.begin(workspace, task_id)
        return self.complete(job, self.launcher.run)

    def begin(self, workspace: Workspace, task_id: str) -> StageJob:
        """Get ready whatever a stage takes.

        :raises PipcookError: it cannot be had.
        """
        spec, stage = _stage_of(workspace, task_id)
        environment = rendered_environment(spec, self.templates)
        workspace.check_folders()
        is_script = isinstance(stage.subject, ScriptSpec)
        place = self._places.find(stage_needs(spec, stage), self._wanted(spec) if is_script else None)
        if is_script or not place.site.shares_files:
            workspace.begin_output(task_id)
        make_context = script_context if is_script else artifact_context
        context = make_context(spec, workspace, stage, place, self.settings)
        workspace.write_context(task_id, context.to_json())
        launch = launch_of(workspace, context, place.site, _subject(stage), environment)
        if not place.site.shares_files:
            launch = replace(launch, files=files_of(context, self.settings, self.listener))
        return StageJob(spec, stage, workspace, launch)

    def resume(self, workspace: Workspace, task_id: str, outlives: float) -> StageJob:
        """Return a stage that a process which is gone has launched, and that may still run.

        :param outlives: seconds that it may go on after this process is gone too.
        :raises ProtocolError: that process was of another version of this package.
        """
        spec, stage = _stage_of(workspace, task_id)
        context = StageContext.read(workspace.context(task_id))
        site = Site(needs=stage_needs(spec, stage), shares_files=False, outlives=outlives)
        if context.framework:
            keep_framework(Path(context.framework), outlives)
        # What runs already was given its variables.
        return StageJob(spec, stage, workspace, launch_of(workspace, context, site, _subject(stage), environment={}))

    def complete(self, job: StageJob, run: Callable[[Launch, Listener], Mapping[str, Any]]) -> StageResult:
        """Run a stage to its end, and make what it wrote the stage's output.

        :param run: the launcher's, or what follows a stage that runs already.
        :raises StageError: it did not end with a result; what an earlier attempt left is still there.
        """
        recorder = Recorder(self.listener)
        started = time.monotonic()
        value = run(job.launch, recorder)
        seconds = time.monotonic() - started
        if "device" in value:
            self.listener.message(Log("info", f"device: {value['device']}"))
        return StageResult(job.stage.task_id, seconds, self._publish(job, value), recorder.metrics)

    def _publish(self, job: StageJob, value: Mapping[str, Any]) -> Mapping[str, Any]:
        workspace, task_id = job.workspace, job.stage.task_id
        workspace.check_folders()
        if job.stage.role == "model":
            digest = workspace.publish_model(task_id, without_airflow(job.spec.document))
            value = {**value, "digest": digest}
        elif job.stage.role != "artifact":
            workspace.publish(task_id)
        elif not job.launch.site.shares_files:
            assert isinstance(job.stage.subject, ArtifactSpec)
            if target := target_path(job.stage.subject.options, workspace):
                value = self._publish_artifact(value, workspace.partial_output(task_id), target)
            workspace.discard_output(task_id)
        return value

    def _publish_artifact(self, value: Mapping[str, Any], folder: Path, target: Path) -> Mapping[str, Any]:
        made, others = made_for(target, folder)
        if others:
            names = ", ".join(entry.name for entry in others)
            ListenerReport(self.listener).warning(
                f"{names}: left out, since its name does not begin with {target.name}."
            )
        publish(made, target.parent)
        return {**value, "built": as_published(value.get("built"), folder, target)}

    def _wanted(self, spec: PipelineSpec) -> WantedFramework | None:
        """Return the framework of a prepared run: its document has the exact reference, and what is known of it."""
        if spec.framework is None:
            return None
        pin = FrameworkPin.read(spec.document[PINNED]) if PINNED in spec.document else None
        return WantedFramework(reference=spec.framework, gpu=self._wants_gpu(spec), pin=pin)

    def _wants_gpu(self, spec: PipelineSpec) -> bool:
        """Tell whether frameworks are wanted for the GPU here; another worker of the same run may have one, or none."""
        return spec.gpu is Gpu.YES or (spec.gpu is Gpu.AUTO and self.launcher.has_gpu())

    @property
    def _places(self) -> Places:
        return Places(self.settings, self.launcher, self.listener)


def _stage_of(workspace: Workspace, task_id: str) -> tuple[PipelineSpec, Stage]:
    """Return the document of a prepared run, and one of its stages.

    :raises StageError: it has no such stage.
    """
    spec = load_pipeline_spec(workspace.config)
    stages = {stage.task_id: stage for stage in plan(spec)}
    if task_id not in stages:
        raise StageError(
            f"expected a stage of this run's pipeline, found {task_id!r}. It has {', '.join(stages)}. If the document "
            f"was changed, start a new run or clear {PREPARE!r}."
        )
    return spec, stages[task_id]


def _subject(stage: Stage) -> str:
    if isinstance(stage.subject, ScriptSpec):
        return f"{stage.role} script {stage.subject.uri}"
    return f"artifact processor {stage.subject.processor}"
