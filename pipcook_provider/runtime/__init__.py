"""The public module of script authors: what runs beside a user's script.

A script needs no more than ``from pipcook_provider.runtime import DatasetPool, Sample``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipcook_provider.runtime.context import Context, TaskType
    from pipcook_provider.runtime.datasets import Dataset, DatasetMeta, DatasetPool, Sample

_EXPORTS = {
    "Context": "pipcook_provider.runtime.context",
    "Dataset": "pipcook_provider.runtime.datasets",
    "DatasetMeta": "pipcook_provider.runtime.datasets",
    "DatasetPool": "pipcook_provider.runtime.datasets",
    "Sample": "pipcook_provider.runtime.datasets",
    "TaskType": "pipcook_provider.runtime.context",
}

__all__ = ["Context", "Dataset", "DatasetMeta", "DatasetPool", "Sample", "TaskType"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
