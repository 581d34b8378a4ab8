"""Frameworks: bundles of heavy packages, fetched or built once per machine and shared by all runs."""

from __future__ import annotations

from pipcook_provider.frameworks.ensure import ensure_framework, pin_framework
from pipcook_provider.frameworks.framework import Framework

__all__ = ["Framework", "ensure_framework", "pin_framework"]
