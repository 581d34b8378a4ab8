"""Frameworks: bundles of heavy packages, fetched or built once per machine and shared by all runs."""

from __future__ import annotations

from pipcook_provider.frameworks.ensure import absolute_reference, build_framework, ensure_framework, platform_key
from pipcook_provider.frameworks.framework import Framework
from pipcook_provider.frameworks.pin import FrameworkPin

__all__ = ["Framework", "FrameworkPin", "absolute_reference", "build_framework", "ensure_framework", "platform_key"]
