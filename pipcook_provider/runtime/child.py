"""The stage's own process: ``python child.py WORKSPACE CONTEXT [lifeline | lease [packages]]``.

``CONTEXT`` is the context document's path relative to ``WORKSPACE``. With a framework the launcher starts Python
isolated and without ``site``: this file then decides what can be imported. See :mod:`pipcook_provider.runtime.messages`
for what is said on stdout. With ``lifeline`` the launcher holds the other end of the child's stdin: when that closes,
the launcher is gone, however it went, and the child's process group goes too. With ``lease``, in a container, the child
outlives its launcher for a while: see :mod:`pipcook_provider.runtime.lease`. With ``packages`` it sees all packages of
the container's image; otherwise, as it sees a framework's, only a few of them.

Processes that a script spawns with ``multiprocessing`` import this file as ``__mp_main__``, which opens to them what the
script can import, and the script itself.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

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
    root, context_file, modes = Path(arguments[0]), Path(arguments[1]), arguments[2:]
    messages, launcher = _take_over_streams()
    _show_packages()
    if "packages" in modes:
        _show_image_packages()
    if "lifeline" in modes:
        threading.Thread(target=_die_with, args=(launcher,), daemon=True).start()
    elif "lease" in modes and (status := _settle_in(launcher, root, root / context_file)):
        return status

    from pipcook_provider.errors import ProtocolError
    from pipcook_provider.runtime.context import StageContext
    from pipcook_provider.runtime.loading import MODULES_VARIABLE
    from pipcook_provider.runtime.messages import (
        PROTOCOL,
        TOKEN_VARIABLE,
        ChannelLost,
        Closed,
        MessageWriter,
        Opened,
        tell,
    )

    os.environ[MODULES_VARIABLE] = "{}"
    writer = MessageWriter(messages, os.environ.pop(TOKEN_VARIABLE))
    writer.send(Opened(protocol=PROTOCOL, python=sys.version.split()[0], pid=os.getpid()))
    try:
        context = StageContext.read(root / context_file)
    except ProtocolError as exc:
        tell(str(exc))
        return 2
    try:
        succeeded = _run(root, context, writer)
        writer.send(Closed())
    except ChannelLost as exc:
        tell(str(exc))
        return 1
    return 0 if succeeded else 1


def open_spawned() -> None:
    """Let a process that the script spawned import what the script can, and the script by its name."""
    _show_packages()

    from pipcook_provider.runtime.loading import LoadedModules

    sys.meta_path.append(LoadedModules())


def _show_packages() -> None:
    stated = os.environ.get(WORKER_PACKAGES_VARIABLE)
    beside = dict.fromkeys(("numpy", "pyarrow") if sys.flags.isolated else (), str(_PACKAGE_FOLDER))
    packages = json.loads(stated) if stated else beside
    sys.meta_path.append(WorkerPackages({**packages, "pipcook_provider": str(_PACKAGE_FOLDER)}))


def _show_image_packages() -> None:
    import site

    site.main()


def _settle_in(launcher: int, root: Path, context_file: Path) -> int:
    """Take what the launcher hands over, and look whether the workspace can be used; return an exit status if not."""
    from pipcook_provider.runtime.lease import NO_WORKSPACE, NOT_HANDED_OVER, Lease
    from pipcook_provider.runtime.messages import tell

    lease = Lease(launcher)
    if not lease.take_handover():
        return NOT_HANDED_OVER
    lease.stand_guard()
    try:
        context_file.read_bytes()
        usable = os.access(root, os.W_OK | os.X_OK)
    except OSError as exc:
        usable = False
        tell(str(exc))
    if usable:
        return 0
    tell(f"user {os.getuid()}:{os.getgid()} of the container cannot read and write the folder {root}")
    return NO_WORKSPACE


def _run(root: Path, context: StageContext, writer: MessageWriter) -> bool:
    from pipcook_provider.runtime.loading import describe_failure, initialize_framework
    from pipcook_provider.runtime.messages import ChannelLost, Failure, Result, tell
    from pipcook_provider.runtime.roles import run_role

    outcome: Result | Failure
    try:
        _open_imports(root, context)
        if context.framework:
            initialize_framework(Path(context.framework), context.options)
        outcome = Result(run_role(root, context, writer))
    except BaseException as exc:
        if writer.forked:
            _leave_forked(exc, root)
        outcome = describe_failure(exc, root)
    _flush()
    try:
        writer.send(outcome)
    except ChannelLost:
        if isinstance(outcome, Failure):
            tell(outcome.summary)
        raise
    return isinstance(outcome, Result)


def _leave_forked(exc: BaseException, root: Path) -> NoReturn:
    """End a process that the script forked: it must not end as the stage that it is a copy of."""
    from pipcook_provider.runtime.loading import describe_failure
    from pipcook_provider.runtime.messages import tell
    from pipcook_provider.runtime.roles import Forked

    _flush()
    status = 1
    if isinstance(exc, Forked):
        status = 0
    elif isinstance(exc, SystemExit) and isinstance(exc.code, int | None):
        status = (exc.code or 0) & 0xFF
    else:
        tell(describe_failure(exc, root).summary)
    os._exit(status)


def _flush() -> None:
    """Write out what was printed; scripts may have closed or replaced the streams."""
    for name in ("stdout", "stderr"):
        with suppress(Exception):
            getattr(sys, name).flush()


def _take_over_streams() -> tuple[int, int]:
    """Keep stdout for messages alone, and stdin for the launcher's signs of life; return descriptors of the two."""
    messages, launcher = os.dup(1), os.dup(0)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return messages, launcher


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
elif __name__ == "__mp_main__":
    open_spawned()
