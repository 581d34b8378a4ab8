"""Where stages run."""

from pipcook_provider.launchers.base import Launch, Launcher, Listener

__all__ = ["Launch", "Launcher", "Listener"]
