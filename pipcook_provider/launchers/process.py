"""Stages in a child process of this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pipcook_provider.errors import LaunchError
from pipcook_provider.launchers.base import Launch, Listener, Needs, Outcome, Site
from pipcook_provider.launchers.environment import worker_environment
from pipcook_provider.launchers.lines import Heard, Lines
from pipcook_provider.runtime.child import WORKER_PACKAGES_VARIABLE
from pipcook_provider.runtime.messages import TOKEN_VARIABLE, Log
from pipcook_provider.settings import Settings

_CHILD = Path(__file__).resolve().parents[1] / "runtime" / "child.py"

#: What the drivers of NVIDIA make, on Linux and on its subsystem in Windows.
_GPU_DEVICES = ("/dev/nvidia0", "/dev/dxg", "/proc/driver/nvidia/gpus")

_GRANDCHILDREN_GRACE = 0.5
_CHUNK = 64 * 1024


class ProcessLauncher:
    """Runs each stage in a child process, in a session and process group of its own.

    The group dies with the launcher, however the launcher ends: see ``lifeline`` in
    :mod:`pipcook_provider.runtime.child`.

    :param settings: which environment variables a child sees, and how long it has to end when it is stopped.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def has_gpu(self) -> bool:
        """Tell whether this machine has a GPU that CUDA can use."""
        return any(Path(device).exists() for device in _GPU_DEVICES)

    def open(self, needs: Needs, listener: Listener) -> Site:
        """Warn where a GPU is asked for and there is none; a process has all the rest."""
        gpus = needs.gpus if needs.gpus and self.has_gpu() else 0
        if needs.gpus and needs.gpu_required and not gpus and sys.platform != "darwin":
            listener.message(
                Log(
                    "warning",
                    "options.train.gpu asks for a GPU, but this machine has none that can be used: the CPU is.",
                )
            )
        return Site(needs=needs, gpus=gpus)

    def run(self, launch: Launch, listener: Listener) -> Mapping[str, Any]:
        """Run a stage to its end and return its result; see :class:`~pipcook_provider.launchers.base.Launcher`."""
        token = secrets.token_hex(8)
        outcome = Outcome(launch)
        heard = Heard(token, outcome, listener)
        with self._start(launch, token) as process:
            try:
                self._listen(process, outcome, {"stdout": heard.stdout, "stderr": heard.stderr})
            finally:
                self._end_group(process)
        return outcome.conclude(process.returncode, heard.last_lines, stopped=self._stopped)

    def end_all(self, workspace: Path) -> None:
        """Do nothing: a child dies with its launcher."""

    def stop(self) -> None:
        """End the running stage and all its processes: SIGTERM, and SIGKILL after ``stop_timeout`` seconds."""
        self._stopped = True
        process = self._process
        if process is None or process.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(self._settings.stop_timeout)
        self._kill_group(process)

    def _start(self, launch: Launch, token: str) -> subprocess.Popen[bytes]:
        self._stopped = False
        # -S and -I: beside a framework nothing of the worker is importable but what the context names. -P: without
        # one the worker's own packages are, though not what happens to lie in the working directory.
        isolation = ["-I", "-S"] if launch.framework else ["-P"]
        command = [sys.executable, *isolation, "-B", "-u", "-X", "utf8", str(_CHILD)]
        channel = {TOKEN_VARIABLE: token}
        if launch.framework:
            channel[WORKER_PACKAGES_VARIABLE] = json.dumps(_worker_packages("numpy", "pyarrow"))
        try:
            self._process = subprocess.Popen(
                [*command, str(launch.workspace), launch.context.as_posix(), "lifeline"],
                cwd=launch.workspace,
                env={**worker_environment(self._settings, on_this_machine=True), **launch.environment, **channel},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as exc:
            raise LaunchError(f"{launch.subject} could not be started: {exc}") from exc
        return self._process

    def _listen(
        self, process: subprocess.Popen[bytes], outcome: Outcome, takers: Mapping[str, Callable[[bytes], None]]
    ) -> None:
        """Pass on lines until the child is gone and its pipes are empty, or held open by grandchildren for too long."""
        exited, exit_signal = os.pipe()
        waiter = threading.Thread(target=_close_after, args=(process, exit_signal), daemon=True)
        waiter.start()
        deadline: float | None = None
        with selectors.DefaultSelector() as selector:
            selector.register(exited, selectors.EVENT_READ)
            for name, take in takers.items():
                pipe: IO[bytes] = getattr(process, name)
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe.fileno(), selectors.EVENT_READ, Lines(take))
            while selector.get_map():
                timeout = None if deadline is None else deadline - time.monotonic()
                if timeout is not None and timeout <= 0:
                    break
                for key, _ in selector.select(timeout):
                    if key.fd == exited:
                        selector.unregister(exited)
                        deadline = time.monotonic() + _GRANDCHILDREN_GRACE
                    elif _is_at_end(key.fd, key.data):
                        selector.unregister(key.fd)
                if outcome.closed and deadline is None:
                    # The stage is over; threads that user code left behind must not keep it.
                    deadline = time.monotonic() + self._settings.stop_timeout
            for key in selector.get_map().values():
                if key.fd != exited:
                    key.data.finish()
        self._kill_group(process)
        waiter.join()
        os.close(exited)

    def _end_group(self, process: subprocess.Popen[bytes]) -> None:
        """Leave nothing of the child behind: neither itself, when listening was broken off, nor its descendants."""
        self._kill_group(process)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        process.wait()
        self._process = None

    @staticmethod
    def _kill_group(process: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _is_at_end(descriptor: int, lines: Lines) -> bool:
    """Read what is there; return whether the pipe is at its end."""
    try:
        chunk = os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return False
    lines.feed(chunk)
    if not chunk:
        lines.finish()
    return not chunk


def _close_after(process: subprocess.Popen[bytes], descriptor: int) -> None:
    process.wait()
    os.close(descriptor)


def _worker_packages(*names: str) -> dict[str, str]:
    """Return the folders that hold the worker's packages of these names, without importing them."""
    found = {name: importlib.util.find_spec(name) for name in names}
    return {name: str(Path(spec.origin).parents[1]) for name, spec in found.items() if spec and spec.origin}
