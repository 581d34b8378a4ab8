"""Registry builds: a recipe and the packages that it names become a framework.

A build has two steps. :func:`resolve` asks the registries which version a recipe stands for today and which exact packages
that needs, each known by a digest. :func:`build_from_recipe` installs exactly these. The ``framework.json`` that it writes
records them, and is a recipe itself: resolving that gives the same packages again, and asks nobody.
"""

from __future__ import annotations

from pipcook_provider.frameworks.build.framework import Resolution, build_from_recipe, newest_version, resolve

__all__ = ["Resolution", "build_from_recipe", "newest_version", "resolve"]
