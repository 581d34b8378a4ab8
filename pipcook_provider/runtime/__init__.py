"""The public module of script authors: what runs beside a user's script.

A script needs no more than ``from pipcook_provider.runtime import DatasetPool, Sample``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipcook_provider.archive import extract_zip
    from pipcook_provider.runtime import parameters
    from pipcook_provider.runtime.builders import images_from_folders, images_from_list
    from pipcook_provider.runtime.context import Context, TaskType
    from pipcook_provider.runtime.datasets import Dataset, DatasetMeta, DatasetPool, Dimension, Sample

_EXPORTS = {
    "Context": "pipcook_provider.runtime.context",
    "Dataset": "pipcook_provider.runtime.datasets",
    "DatasetMeta": "pipcook_provider.runtime.datasets",
    "DatasetPool": "pipcook_provider.runtime.datasets",
    "Dimension": "pipcook_provider.runtime.datasets",
    "Sample": "pipcook_provider.runtime.datasets",
    "TaskType": "pipcook_provider.runtime.context",
    "extract_zip": "pipcook_provider.archive",
    "images_from_folders": "pipcook_provider.runtime.builders",
    "images_from_list": "pipcook_provider.runtime.builders",
}

__all__ = [
    "Context",
    "Dataset",
    "DatasetMeta",
    "DatasetPool",
    "Dimension",
    "Sample",
    "TaskType",
    "extract_zip",
    "images_from_folders",
    "images_from_list",
    "parameters",
]


def __getattr__(name: str) -> Any:
    if name == "parameters":
        return import_module("pipcook_provider.runtime.parameters")
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
