"""Frameworks: bundles of heavy packages, fetched or built once per machine and shared by all runs."""

from __future__ import annotations

from pipcook_provider.frameworks.ensure import absolute_reference, build_framework, ensure_framework, platform_key
from pipcook_provider.frameworks.framework import Framework
from pipcook_provider.frameworks.housekeeping import keep_framework
from pipcook_provider.frameworks.pin import FrameworkPin
from pipcook_provider.frameworks.platform import Platform

__all__ = [
    "Framework",
    "FrameworkPin",
    "Platform",
    "absolute_reference",
    "build_framework",
    "ensure_framework",
    "keep_framework",
    "platform_key",
]
