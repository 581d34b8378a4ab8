"""Loading what users wrote: a script's functions, a framework's initialisation, and what went wrong in them."""

from __future__ import annotations

import importlib.util
import json
import linecache
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from pipcook_provider.errors import PipcookError, ScriptError
from pipcook_provider.runtime.messages import Failure

#: The functions that a script of each role must offer, in the words of the pipeline document.
ENTRY_POINTS = {"datasource": "datasource", "dataflow": "dataflow", "model": "train"}


#: For processes that a script spawns: a JSON object of the names and files of the modules loaded so far. Only a
#: stage's own process and what it spawns have it.
MODULES_VARIABLE = "PIPCOOK_MODULES"


class LoadedModules:
    """A finder of the modules that :func:`load_module` has named, for processes that a script spawns.

    ``multiprocessing`` sends a function of the script by its name; the process that receives it imports the script.
    """

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module by the name that it was loaded by."""
        file = json.loads(os.environ.get(MODULES_VARIABLE, "{}")).get(name)
        return _spec(Path(file), name) if file else None


def load_module(path: Path, name: str) -> ModuleType:
    """Import the file at ``path``, Python whatever its suffix, as module ``name``.

    Pickles and ``inspect`` find it by that name, in processes that a script spawns too.
    """
    if MODULES_VARIABLE in os.environ:
        named = json.loads(os.environ[MODULES_VARIABLE])
        os.environ[MODULES_VARIABLE] = json.dumps({**named, name: str(path)})
    spec = _spec(path, name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


def _spec(path: Path, name: str) -> ModuleSpec:
    spec = importlib.util.spec_from_file_location(name, path, loader=SourceFileLoader(name, str(path)))
    assert spec is not None
    return spec


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

    The place is the innermost frame in the run's scripts; for a syntax error in one of them, where the text is wrong.

    :param root: the workspace; files below it are named relative to it.
    """
    scripts = root / "scripts"
    place: tuple[str, int, str] | None = None
    message = _message(exc)
    if isinstance(exc, SyntaxError) and exc.filename and _lies_in(exc.filename, scripts):
        place = (exc.filename, exc.lineno or 1, (exc.text or "").strip())
        message = exc.msg
    else:
        for frame, line in traceback.walk_tb(exc.__traceback__):
            if _lies_in(frame.f_code.co_filename, scripts):
                place = (frame.f_code.co_filename, line, linecache.getline(frame.f_code.co_filename, line).strip())
    file, line_number, source = place or (None, None, "")
    trace = _from_user_code(exc.__traceback__, scripts)
    return Failure(
        type=type(exc).__name__,
        message=message,
        file=_relative(file, root),
        line=line_number,
        source=source,
        traceback="".join(traceback.format_exception(type(exc), exc, trace)) if trace else "",
        retryable=_retryable(exc),
    )


def _message(exc: BaseException) -> str:
    try:
        if isinstance(exc, SystemExit):
            return (
                f"the script called sys.exit({exc.code!r}) before its stage had ended; return from the function instead"
            )
        return "\n".join([str(exc), *map(str, getattr(exc, "__notes__", ()))])
    except Exception:
        return "<exception str() failed>"  # as tracebacks have it


def _relative(file: str | None, root: Path) -> str | None:
    if file is None or not Path(file).is_relative_to(root):
        return file
    return Path(file).relative_to(root).as_posix()


def _lies_in(file: str, folder: Path) -> bool:
    return Path(file).is_relative_to(folder)


def _from_user_code(trace: TracebackType | None, scripts: Path) -> TracebackType | None:
    """Drop the runtime's own frames: the traceback begins where the script does; None where nothing but the runtime ran.

    A framework's initialisation and an artifact processor are no scripts: there it begins with the first frame that is
    not the runtime's.
    """
    frames = []
    while trace is not None:
        frames.append((trace, trace.tb_frame.f_code.co_filename))
        trace = trace.tb_next
    own = (entry for entry, file in frames if _lies_in(file, scripts))
    foreign = (entry for entry, file in frames if not _lies_in(file, _RUNTIME) and not file.startswith("<frozen "))
    return next(own, None) or next(foreign, None)


_RUNTIME = Path(__file__).parent

_HOPELESS = (
    *(SyntaxError, ImportError, NameError, AttributeError, TypeError, LookupError),
    *(AssertionError, NotImplementedError, ZeroDivisionError, SystemExit),
    *(FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError),
)


def _retryable(exc: BaseException) -> bool:
    """Tell whether the same run may succeed when it is tried again.

    Errors of our own say so themselves. What only a change of the code or of the disk can mend comes back however often
    it is tried. All others may depend on a network, a device or on what else the machine does: a lost connection and a
    full GPU arrive as OSError or RuntimeError, half a download as ValueError, and libraries raise classes of their own.
    """
    if isinstance(exc, PipcookError):
        return exc.retryable
    return not isinstance(exc, _HOPELESS)
