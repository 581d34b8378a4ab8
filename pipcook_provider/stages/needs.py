"""What a stage needs of the place where it runs, as far as its document says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipcook_provider.launchers import Listener, Needs
from pipcook_provider.plan import Stage, gpus_of, stage_options
from pipcook_provider.runtime.messages import Log
from pipcook_provider.spec import Gpu, PipelineSpec

_LONGEST_PATH = 1024


def stage_needs(spec: PipelineSpec, stage: Stage) -> Needs:
    """Return what a stage needs: the model's stage the GPU, the datasource's the network, unless the document says so."""
    options = stage_options(spec, stage)
    network = stage.role == "datasource" if options.network is None else options.network
    return Needs(
        gpus=gpus_of(spec, stage),
        gpu_required=spec.gpu is not Gpu.AUTO,
        network=network,
        memory=options.memory,
        images=options.image,
        framework=spec.framework,
    )


def named_files(parameters: Any, origin: str, folders: tuple[Path, ...], listener: Listener) -> Mapping[Path, Path]:
    """Return the files and folders that a script's parameters name: where a script looks for them, and where they lie.

    A document is code from elsewhere: only what lies in its own folder, or in one of ``folders``, links followed, is
    shown to a container. Of others the listener is told.

    :param parameters: the parameters of the script, as its stage gets them.
    :param origin: path or URL of the document, which relative paths are relative to.
    :param folders: other folders whose files documents may name.
    """
    scheme = urlsplit(origin).scheme
    if scheme in ("http", "https"):
        here, allowed = None, folders
    else:
        here = Path(unquote(urlsplit(origin).path) if scheme == "file" else origin).parent
        allowed = (here, *folders)
    roots = [folder.resolve() for folder in allowed]
    found: dict[Path, Path] = {}
    for text in _texts(parameters):
        path = _local_path(text, here)
        if path is None or not _is_there(path):
            continue
        real = path.resolve()
        if any(real.is_relative_to(root) for root in roots):
            found[path] = real
        elif path.is_absolute() and text.startswith(("/", "file:", ".")):
            listener.message(
                Log(
                    "warning",
                    f"{text!r} names {real}, which lies neither in the document's folder nor in one of [pipcook] docker_data: "
                    "the stage's container does not see it. Move it, or add its folder to that option.",
                )
            )
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _texts(entry)


def _local_path(text: str, here: Path | None) -> Path | None:
    """Return the path that a text may be, as ``Context.resolve`` would make it in a place without links."""
    try:
        parts = urlsplit(text.partition("#")[0]) if text.startswith("file:") else None
    except ValueError:
        return None
    if parts is None and (not text or len(text) > _LONGEST_PATH or "://" in text or "\0" in text):
        return None
    path = Path(unquote(parts.path) if parts else text)
    if not path.is_absolute():
        if here is None:
            return None
        path = here / path
    return Path(os.path.normpath(path))


def _is_there(path: Path) -> bool:
    """Tell whether a path leads to a file or folder that this worker can see; texts of any kind are asked about."""
    try:
        return path.is_file() or path.is_dir()
    except OSError:
        return False
