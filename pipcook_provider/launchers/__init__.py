"""Where stages run."""

from pipcook_provider.launchers.base import Launch, Launcher, Listener, Needs, Site

__all__ = ["Launch", "Launcher", "Listener", "Needs", "Site"]
