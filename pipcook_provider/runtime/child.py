"""The stage's own process: ``python child.py WORKSPACE CONTEXT [lifeline]``.

``CONTEXT`` is the context document's path relative to ``WORKSPACE``. With a framework the launcher starts Python
isolated and without ``site``: this file then decides what can be imported. See :mod:`pipcook_provider.runtime.messages`
for what is said on stdout. With ``lifeline`` the launcher holds the other end of the child's stdin: when that closes,
the launcher is gone, however it went, and the child's process group goes too.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from pipcook_provider.runtime.context import StageContext
    from pipcook_provider.runtime.messages import MessageWriter

#: Beside a framework, the worker's top-level packages that may be imported: a JSON object of names and folders.
WORKER_PACKAGES_VARIABLE = "PIPCOOK_WORKER_PACKAGES"

_PACKAGE_FOLDER = Path(__file__).resolve().parents[2]


class WorkerPackages:
    """A finder that shows, of the worker's packages, only those named.

    A framework's own packages come first on ``sys.path``; whatever they lack and this finder does not name is not
    there, so that a script which passes here passes wherever the framework is.
    """

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = folders

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a top-level package in the folder stated for it; its submodules are found the usual way."""
        if path is not None or name not in self._folders:
            return None
        return importlib.machinery.PathFinder.find_spec(name, [self._folders[name]], target)


def main(arguments: Sequence[str]) -> int:
    """Run the stage that the context document describes; return the process's exit status."""
    descriptor = _take_over_streams(lifeline="lifeline" in arguments[2:])
    worker_packages = json.loads(os.environ.pop(WORKER_PACKAGES_VARIABLE, "{}"))
    finder = WorkerPackages({**worker_packages, "pipcook_provider": str(_PACKAGE_FOLDER)})
    sys.meta_path.append(finder)

    from pipcook_provider.errors import ProtocolError
    from pipcook_provider.runtime.context import StageContext
    from pipcook_provider.runtime.messages import PROTOCOL, TOKEN_VARIABLE, Closed, MessageWriter, Opened

    root = Path(arguments[0])
    writer = MessageWriter(descriptor, os.environ.pop(TOKEN_VARIABLE))
    try:
        context = StageContext.read(root / arguments[1])
    except ProtocolError as exc:
        print(exc, file=sys.stderr)
        return 2
    writer.send(Opened(protocol=PROTOCOL, python=sys.version.split()[0], pid=os.getpid()))
    succeeded = _run(root, context, writer)
    writer.send(Closed())
    return 0 if succeeded else 1


def _run(root: Path, context: StageContext, writer: MessageWriter) -> bool:
    from pipcook_provider.runtime.loading import describe_failure, initialize_framework
    from pipcook_provider.runtime.messages import Result
    from pipcook_provider.runtime.roles import run_role

    try:
        _open_imports(root, context)
        if context.framework:
            initialize_framework(Path(context.framework), context.options)
        result = run_role(root, context, writer)
        writer.send(Result(result))
    except BaseException as exc:
        writer.send(describe_failure(exc, root))
        return False
    finally:
        sys.stdout.flush()
    return True


def _take_over_streams(*, lifeline: bool) -> int:
    """Keep stdout for messages alone, and stdin for the launcher's sign of life; return the messages' descriptor."""
    messages = os.dup(1)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    if lifeline:
        threading.Thread(target=_die_with, args=(os.dup(0),), daemon=True).start()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return messages


def _die_with(launcher: int) -> None:
    while os.read(launcher, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _open_imports(root: Path, context: StageContext) -> None:
    if context.framework:
        sys.path.insert(0, str(Path(context.framework) / "site-packages"))
    if context.modules:
        sys.path.insert(0, str(root / context.modules))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
