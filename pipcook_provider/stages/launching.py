"""From a stage to what its launcher is given: the context document, and what of this machine the stage sees."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipcook_provider.launchers import Launch, Listener, Site
from pipcook_provider.plan import Stage
from pipcook_provider.runtime.context import StageContext
from pipcook_provider.settings import Settings
from pipcook_provider.spec import ArtifactSpec, PipelineSpec, ScriptSpec
from pipcook_provider.spec.stages import PREPARE
from pipcook_provider.stages.needs import named_files
from pipcook_provider.stages.places import Place
from pipcook_provider.stages.targets import for_initialization, into
from pipcook_provider.store.scripts import script_path
from pipcook_provider.store.workspace import CONFIG_NAME, Workspace


def script_context(
    spec: PipelineSpec, workspace: Workspace, stage: Stage, place: Place, settings: Settings
) -> StageContext:
    """Return what the stage of a script is told."""
    assert isinstance(stage.subject, ScriptSpec)
    script = script_path(workspace.scripts, stage.order, stage.subject.basename)
    trains = stage.role == "model"
    return StageContext(
        stage=stage.task_id,
        role=stage.role,
        parameters={**spec.train, **stage.subject.parameters} if trains else dict(stage.subject.parameters),
        options=spec.options,
        origin=spec.origin,
        downloads=_downloads(workspace, place.site, settings),
        script=workspace.relative(script.file),
        script_uri=stage.subject.uri,
        modules=workspace.relative(script.modules) if script.modules else None,
        framework=str(place.folder) if place.folder else None,
        input=workspace.relative(workspace.output(stage.source)) if stage.source else None,
        output=workspace.relative(workspace.partial_output(stage.task_id)),
    )


def artifact_context(
    spec: PipelineSpec, workspace: Workspace, stage: Stage, place: Place, settings: Settings
) -> StageContext:
    """Return what the stage of an artifact processor is told."""
    assert isinstance(stage.subject, ArtifactSpec)
    options = dict(stage.subject.options)
    if not place.site.shares_files:
        options = into(workspace.partial_output(stage.task_id), options, workspace)
    return StageContext(
        stage=stage.task_id,
        role="artifact_build",
        parameters=options,
        options=spec.options,
        origin=spec.origin,
        downloads=_downloads(workspace, place.site, settings),
    )


def initialization_context(
    spec: PipelineSpec, workspace: Workspace, artifacts: list[ArtifactSpec], site: Site, settings: Settings
) -> StageContext:
    """Return what those are told that check the options of artifact processors.

    :raises WorkspaceError: a target cannot be written.
    """
    options = [dict(artifact.options) for artifact in artifacts]
    if not site.shares_files:
        options = [for_initialization(entry, workspace) for entry in options]
    return StageContext(
        stage=PREPARE,
        role="artifact_initialize",
        parameters=options,
        options=spec.options,
        origin=spec.origin,
        downloads=_downloads(workspace, site, settings),
    )


def launch_of(
    workspace: Workspace, context: StageContext, site: Site, subject: str, environment: Mapping[str, str]
) -> Launch:
    """Return what a launcher is given to run the stage of a context document, which lies in the workspace.

    :param subject: what runs, as errors name it.
    :param environment: the variables that the document declares, rendered.
    """
    is_script = context.script is not None
    described = workspace.context(context.stage).relative_to(workspace.root)
    inputs = [context.input] if context.input else []
    return Launch(
        site=site,
        workspace=workspace.root,
        context=described,
        subject=subject,
        framework=Path(context.framework) if context.framework else None,
        environment=environment,
        script_uris=_script_uris(context),
        reads=("scripts", "data", *workspace.kept(), *inputs) if is_script else ("model",),
        writes=("data", "cache") if is_script else (workspace.relative(workspace.partial_output(context.stage)),),
        read_only=("scripts", CONFIG_NAME, described.as_posix(), *inputs),
    )


def files_of(context: StageContext, settings: Settings, listener: Listener) -> Mapping[Path, Path]:
    """Return the files beside the workspace that a stage's parameters name, for a place that does not share them."""
    return named_files(context.parameters, context.origin, settings.docker_data, listener) if context.script else {}


def _downloads(workspace: Workspace, site: Site, settings: Settings) -> str:
    """Return the folder of downloads: shared by all runs where the stage can see it, else the run's own."""
    return str(settings.home / "data" if site.shares_files else workspace.root / "cache" / "downloads")


def _script_uris(context: StageContext) -> dict[str, str]:
    """Return where the scripts of a stage came from, by file and, for modules, by folder."""
    if context.script is None or context.script_uri is None:
        return {}
    known = {context.script: context.script_uri}
    if context.modules:
        known[context.modules] = context.script_uri.rpartition("/")[0]
    return known
