"""Where stages run."""

from __future__ import annotations

from pipcook_provider.launchers.base import Launch, Launcher, Listener, Needs, Site
from pipcook_provider.settings import Settings

__all__ = ["Launch", "Launcher", "Listener", "Needs", "Site", "open_launcher"]


def open_launcher(runner: str, settings: Settings) -> Launcher:
    """Return the launcher of a runner as this machine's settings have it.

    :param runner: ``process`` or ``docker``.
    :raises EngineError: there is no Docker engine, or it does not answer.
    """
    if runner == "docker":
        from pipcook_provider.launchers.docker import DockerLauncher, Engine

        return DockerLauncher(Engine.connect(settings), settings)
    from pipcook_provider.launchers.process import ProcessLauncher

    return ProcessLauncher(settings)
