"""What each kind of stage does in the child: call the user's function, check what it returns, write it down."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pipcook_provider.errors import ScriptError
from pipcook_provider.runtime.context import Context, ScriptWorkspace, StageContext, TaskType
from pipcook_provider.runtime.devices import describe_device
from pipcook_provider.runtime.loading import load_function
from pipcook_provider.runtime.messages import MessageWriter, Metric, Progress
from pipcook_provider.runtime.processors import load_processor

if TYPE_CHECKING:
    from pipcook_provider.runtime.datasets import DatasetPool


class Forked(BaseException):
    """A process that the script forked has come out of the script's function: it is no stage, and has to leave."""


class ModelRuntime:
    """What a model script is handed as ``runtime``.

    :param dataset: the last dataflow's dataset.
    :param model_dir: where the model's files go.
    """

    def __init__(self, dataset: DatasetPool, model_dir: Path, writer: MessageWriter) -> None:
        self.dataset = dataset
        self._model_dir = model_dir
        self._writer = writer

    def notify_progress(self, value: float, **extend_data: Any) -> None:
        """Tell how far the training is, ``value`` from 0 to 1, with figures such as ``epoch=3`` beside.

        Figures that JSON cannot hold are told as their text.
        """
        # In this order NaN becomes 0.
        done = min(max(0.0, float(_item(value))), 1.0)
        self._writer.send(Progress(done, {name: _plain(figure) for name, figure in extend_data.items()}))

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Report a figure, for a ``step`` (an epoch, say) or, without one, for the run."""
        self._writer.send(Metric(str(name), float(_item(value)), None if step is None else int(step)))

    def save_model(self, source: str | Path | bytes | BinaryIO, filename: str) -> Path:
        """Put a file, its bytes or a readable binary stream into the model's folder as ``filename``; return its path.

        :raises ValueError: ``filename`` would lie outside the model's folder.
        """
        import shutil

        target = (self._model_dir / filename).resolve()
        if not target.is_relative_to(self._model_dir.resolve()) or target == self._model_dir.resolve():
            raise ValueError(
                f"expected a file name inside the model's folder, found {filename!r}; choose one without '..'"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            target.write_bytes(source)
        elif isinstance(source, str | Path):
            if Path(source).resolve() != target:
                shutil.copyfile(source, target)
        else:
            with target.open("wb") as file:
                shutil.copyfileobj(source, file)
        return target

    def read_model(self) -> Path:
        """Return the folder that holds the model's files."""
        return self._model_dir


def run_role(root: Path, context: StageContext, writer: MessageWriter) -> dict[str, Any]:
    """Run the stage and return its result: small figures and references.

    :raises Forked: this process is a copy that the user's code forked and that went on as the stage.
    :raises Exception: whatever the user's code raises.
    """
    result = _ROLES[context.role](root, context, writer)
    if writer.forked:
        raise Forked
    return result


def _datasource(root: Path, context: StageContext, writer: MessageWriter) -> dict[str, Any]:
    function = _script_function(root, context)
    returned = function(context.parameters, _script_context(root, context))
    return _write_dataset(root, context, _settle(returned, context, writer))


def _dataflow(root: Path, context: StageContext, writer: MessageWriter) -> dict[str, Any]:
    function = _script_function(root, context)
    returned = function(_read_dataset(root, context), context.parameters, _script_context(root, context))
    return _write_dataset(root, context, _settle(returned, context, writer))


def _model(root: Path, context: StageContext, writer: MessageWriter) -> dict[str, Any]:
    function = _script_function(root, context)
    script_context = _script_context(root, context)
    model_dir = script_context.workspace.model_dir
    runtime = ModelRuntime(_read_dataset(root, context), model_dir, writer)
    _settle(function(runtime, context.parameters, script_context), context, writer)
    files = [path for path in model_dir.rglob("*") if path.is_file()]
    if not files:
        raise ScriptError(
            "expected the model script to save its model in the model's folder, found nothing there: the run would end "
            "without a model. Call runtime.save_model(...), or write into context.workspace.model_dir."
        )
    return {"files": len(files), "bytes": sum(path.stat().st_size for path in files), "device": describe_device()}


def _artifact_initialize(_root: Path, context: StageContext, _writer: MessageWriter) -> dict[str, Any]:
    for options in context.parameters:
        load_processor(options["processor"]).initialize(options)
    return {}


def _artifact_build(root: Path, context: StageContext, _writer: MessageWriter) -> dict[str, Any]:
    options = context.parameters
    built = load_processor(options["processor"]).build(root / "model", options)
    return {"built": None if built is None else os.path.normpath(root / built)}


_ROLES: dict[str, Callable[[Path, StageContext, MessageWriter], dict[str, Any]]] = {
    "datasource": _datasource,
    "dataflow": _dataflow,
    "model": _model,
    "artifact_initialize": _artifact_initialize,
    "artifact_build": _artifact_build,
}


def _script_function(root: Path, context: StageContext) -> Callable[..., Any]:
    assert context.script is not None
    return load_function(root / context.script, context.role)


def _script_context(root: Path, context: StageContext) -> Context:
    return Context(
        workspace=ScriptWorkspace.at(root, context.framework, _model_folder(context)),
        task_type=TaskType(context.task_type),
        origin=context.origin,
        downloads_dir=Path(context.downloads),
    )


def _model_folder(context: StageContext) -> str:
    """Return where the model is: while it is trained, not yet in the place of an earlier one."""
    return context.output if context.role == "model" and context.output else "model"


def _read_dataset(root: Path, context: StageContext) -> DatasetPool:
    from pipcook_provider.runtime.arrow import read_pool

    assert context.input is not None
    return read_pool(root / context.input)


def _write_dataset(root: Path, context: StageContext, returned: Any) -> dict[str, Any]:
    from pipcook_provider.runtime.arrow import write_pool
    from pipcook_provider.runtime.datasets import DatasetPool

    if not isinstance(returned, DatasetPool):
        raise ScriptError(
            f"expected {context.role}() to return a DatasetPool, found {_describe(returned)}: the next stage would have "
            "no data. Return DatasetPool.from_samples(...), or what pool.transform(...) gives."
        )
    sizes = {name: len(split) for name, split in returned.splits.items()}
    if not any(sizes.values()):
        found = ", ".join(f"{name} with 0 samples" for name in sizes) or "no split at all"
        raise ScriptError(
            f"expected {context.role}() to return a DatasetPool with samples, found {found}: the next stage would have no "
            "data. Look at what the script reads, and at what it leaves out."
        )
    assert context.output is not None
    directory = root / context.output
    directory.mkdir(parents=True, exist_ok=True)
    write_pool(returned, directory)
    return {"samples": sizes}


def _settle(returned: Any, context: StageContext, writer: MessageWriter) -> Any:
    """Wait for what an ``async def`` script function returns; from here on only the stage's own process goes on."""
    if inspect.iscoroutine(returned):
        import asyncio

        returned = asyncio.run(returned)
    if writer.forked:
        raise Forked
    if inspect.isgenerator(returned) or inspect.isasyncgen(returned):
        raise ScriptError(
            f"expected {context.role}'s function to run and return, found a generator: it holds a 'yield', so nothing of "
            "it has run. Return a value instead."
        )
    return returned


def _describe(value: Any) -> str:
    return "None (is a 'return' missing?)" if value is None else f"a {type(value).__name__}"


def _item(value: Any) -> Any:
    """Return the one number that an array of whatever library holds, and anything else as it is."""
    with suppress(Exception):
        return value.item()
    return value


def _plain(value: Any) -> Any:
    """Return a figure that JSON can carry: numpy's scalars become Python's, what is no figure becomes its text."""
    value = _item(value)
    if isinstance(value, str | int | float | None):
        return value
    try:
        return str(value)
    except Exception:
        return f"a {type(value).__name__}"
