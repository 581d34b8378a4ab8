"""What each kind of stage does in the child: call the user's function, check what it returns, write it down."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pipcook_provider.errors import ScriptError
from pipcook_provider.runtime.context import Context, ScriptWorkspace, StageContext, TaskType
from pipcook_provider.runtime.loading import load_function
from pipcook_provider.runtime.messages import MessageWriter, Metric, Progress
from pipcook_provider.runtime.processors import load_processor

if TYPE_CHECKING:
    from pipcook_provider.runtime.datasets import DatasetPool


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
        """Tell how far the training is, ``value`` from 0 to 1, with figures such as ``epoch=3`` beside."""
        self._writer.send(Progress(min(max(float(value), 0.0), 1.0), _plain_mapping(extend_data)))

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Report a figure, for a ``step`` (an epoch, say) or, without one, for the run."""
        self._writer.send(Metric(name, float(value), step))

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

    :raises Exception: whatever the user's code raises.
    """
    return _ROLES[context.role](root, context, writer)


def _datasource(root: Path, context: StageContext, _writer: MessageWriter) -> dict[str, Any]:
    function = _script_function(root, context)
    return _write_dataset(root, context, function(context.parameters, _script_context(root, context)))


def _dataflow(root: Path, context: StageContext, _writer: MessageWriter) -> dict[str, Any]:
    function = _script_function(root, context)
    incoming = _read_dataset(root, context)
    return _write_dataset(root, context, function(incoming, context.parameters, _script_context(root, context)))


def _model(root: Path, context: StageContext, writer: MessageWriter) -> dict[str, Any]:
    function = _script_function(root, context)
    script_context = _script_context(root, context)
    model_dir = script_context.workspace.model_dir
    runtime = ModelRuntime(_read_dataset(root, context), model_dir, writer)
    _settle(function(runtime, context.parameters, script_context), context)
    files = [path for path in model_dir.rglob("*") if path.is_file()]
    if not files:
        raise ScriptError(
            f"expected the model script to save its model in {model_dir.name}/, found nothing there: the run would end "
            "without a model. Call runtime.save_model(...), or write into context.workspace.model_dir."
        )
    return {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}


def _artifact_initialize(_root: Path, context: StageContext, _writer: MessageWriter) -> dict[str, Any]:
    for options in context.parameters:
        load_processor(options["processor"]).initialize(options)
    return {}


def _artifact_build(root: Path, context: StageContext, _writer: MessageWriter) -> dict[str, Any]:
    options = context.parameters
    built = load_processor(options["processor"]).build(root / "model", options)
    return {"built": None if built is None else str(root / built)}


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
        workspace=ScriptWorkspace.at(root, context.framework),
        task_type=TaskType(context.task_type),
        origin=context.origin,
        downloads_dir=Path(context.downloads),
    )


def _read_dataset(root: Path, context: StageContext) -> DatasetPool:
    from pipcook_provider.runtime.arrow import read_pool

    assert context.input is not None
    return read_pool(root / context.input)


def _write_dataset(root: Path, context: StageContext, returned: Any) -> dict[str, Any]:
    from pipcook_provider.runtime.arrow import write_pool
    from pipcook_provider.runtime.datasets import DatasetPool

    returned = _settle(returned, context)
    if not isinstance(returned, DatasetPool):
        raise ScriptError(
            f"expected {context.role}() to return a DatasetPool, found {_describe(returned)}: the next stage would have "
            "no data. Return DatasetPool.from_samples(...), or what pool.transform(...) gives."
        )
    assert context.output is not None
    directory = root / context.output
    directory.mkdir(parents=True, exist_ok=True)
    write_pool(returned, directory)
    return {
        "samples": {split: len(getattr(returned, split)) for split in _SPLITS if getattr(returned, split) is not None}
    }


_SPLITS = ("train", "test", "valid", "predicted")


def _settle(returned: Any, context: StageContext) -> Any:
    """Wait for what an ``async def`` script function returns."""
    if inspect.iscoroutine(returned):
        import asyncio

        return asyncio.run(returned)
    if inspect.isgenerator(returned):
        raise ScriptError(
            f"expected {context.role}'s function to run and return, found a generator: it holds a 'yield', so nothing of "
            "it has run. Return a value instead."
        )
    return returned


def _describe(value: Any) -> str:
    return "None (is a 'return' missing?)" if value is None else f"a {type(value).__name__}"


def _plain_mapping(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures that JSON can carry: numpy's scalars become Python's, what is no figure becomes its text."""
    return {
        name: value if isinstance(value, str | int | float | bool | None) else _plain(value)
        for name, value in values.items()
    }


def _plain(value: Any) -> Any:
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "size", 1) == 1 else str(value)
