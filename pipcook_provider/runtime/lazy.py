"""Transforms that are carried to later stages by name: the script that defines them, and the function in it."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipcook_provider.errors import DatasetError
from pipcook_provider.runtime.samples import Sample


def describe_transform(function: Callable[[Sample], Sample], directory: Path) -> dict[str, str]:
    """Return what :func:`load_transform` needs to find the function again.

    :param directory: folder of the dataset; the script is named relative to it, so that both can move together.
    :raises DatasetError: it is no function at the top level of a script.
    """
    name = getattr(function, "__qualname__", repr(function))
    if not inspect.isfunction(function) or not name.isidentifier():
        raise DatasetError(
            f"expected a lazy transform to be a function at the top level of its script, found {name}: the next stage, "
            "another process, could not find it. Move it there, or transform without lazy=True."
        )
    return {"script": Path(os.path.relpath(function.__code__.co_filename, directory)).as_posix(), "function": name}


def load_transform(directory: Path, entry: Mapping[str, str]) -> Callable[[Sample], Sample]:
    """Load the script again, once for each process, and return the function.

    :raises DatasetError: the script is no longer there, or does not define the function.
    """
    from pipcook_provider.runtime.loading import load_module

    path = Path(os.path.normpath(directory / entry["script"]))
    loaded = (module for module in tuple(sys.modules.values()) if getattr(module, "__file__", None) == str(path))
    try:
        module = next(loaded, None) or load_module(path, f"pipcook_transforms_{path.stem.replace('-', '_')}")
        function: Any = getattr(module, entry["function"])
    except (OSError, AttributeError) as exc:
        raise DatasetError(
            f"expected the lazy transform {entry['function']}() in {path}, found none ({exc}): the script was "
            "changed or removed since the dataset was written. Run the stages before again."
        ) from exc
    return function  # type: ignore[no-any-return]
