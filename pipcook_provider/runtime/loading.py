"""Loading what users wrote: a script's functions, a framework's initialisation, and what went wrong in them."""

from __future__ import annotations

import importlib.util
import linecache
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from pipcook_provider.errors import PipcookError, ScriptError
from pipcook_provider.runtime.messages import Failure

#: The functions that a script of each role must offer, in the words of the pipeline document.
ENTRY_POINTS = {"datasource": "datasource", "dataflow": "dataflow", "model": "train"}


def load_module(path: Path, name: str) -> ModuleType:
    """Import the file at ``path`` as module ``name``, so that pickles and ``inspect`` find it by that name."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScriptError(f"expected a Python script (.py), found {path.name}; its language is not supported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_function(path: Path, role: str) -> Callable[..., Any]:
    """Load a script and return the function that its stage calls.

    :raises ScriptError: there is no function of that name.
    """
    name = ENTRY_POINTS[role]
    module = load_module(path, f"pipcook_script_{role}")
    function = getattr(module, name, None)
    if callable(function):
        return function  # type: ignore[no-any-return]
    found = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    raise ScriptError(
        f"a {role} script must define a function {name!r}; this one defines {', '.join(found) or 'no function'}. "
        f"Rename it to {name!r}."
    )


def initialize_framework(directory: Path, options: Mapping[str, Any]) -> None:
    """Call ``initialize(options)`` of the framework's ``index.py``, where there is one."""
    script = directory / "index.py"
    if script.is_file():
        load_module(script, "pipcook_framework").initialize(options)


def describe_failure(exc: BaseException, root: Path) -> Failure:
    """Return what a person needs to know of an exception that left user code.

    The place is the innermost frame in the run's scripts; for a syntax error, where the text is wrong.

    :param root: the workspace; files below it are named relative to it.
    """
    scripts = root / "scripts"
    place: tuple[str, int, str] | None = None
    if isinstance(exc, SyntaxError) and exc.filename:
        place = (exc.filename, exc.lineno or 1, (exc.text or "").strip())
    else:
        for frame, line in traceback.walk_tb(exc.__traceback__):
            if Path(frame.f_code.co_filename).is_relative_to(scripts):
                place = (frame.f_code.co_filename, line, linecache.getline(frame.f_code.co_filename, line).strip())
    file, line_number, source = place or (None, None, "")
    return Failure(
        type=type(exc).__name__,
        message=_message(exc),
        file=_relative(file, root),
        line=line_number,
        source=source,
        traceback="".join(traceback.format_exception(type(exc), exc, _from_script(exc.__traceback__, scripts))),
        retryable=_retryable(exc),
    )


def _message(exc: BaseException) -> str:
    if isinstance(exc, SystemExit):
        return f"the script called sys.exit({exc.code!r}) before its stage had ended; return from the function instead"
    if isinstance(exc, SyntaxError):
        return exc.msg
    return "\n".join([str(exc), *getattr(exc, "__notes__", ())])


def _relative(file: str | None, root: Path) -> str | None:
    if file is None or not Path(file).is_relative_to(root):
        return file
    return Path(file).relative_to(root).as_posix()


def _from_script(trace: TracebackType | None, scripts: Path) -> TracebackType | None:
    """Drop the runtime's own frames: the traceback begins where the script does."""
    first = trace
    while first is not None and not Path(first.tb_frame.f_code.co_filename).is_relative_to(scripts):
        first = first.tb_next
    return first or trace


def _retryable(exc: BaseException) -> bool:
    if isinstance(exc, PipcookError):
        return exc.retryable
    return not isinstance(exc, SyntaxError | ImportError | SystemExit | NameError | AttributeError)
