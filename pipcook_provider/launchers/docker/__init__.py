"""Where stages run in containers of a Docker engine."""

from pipcook_provider.launchers.docker.engine import Engine
from pipcook_provider.launchers.docker.launcher import DockerLauncher
from pipcook_provider.launchers.docker.options import ContainerOptions

__all__ = ["ContainerOptions", "DockerLauncher", "Engine"]
