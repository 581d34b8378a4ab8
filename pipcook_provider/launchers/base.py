"""Where a stage runs is a value: one small interface, the same messages, the same four outcomes everywhere."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from pipcook_provider.errors import LaunchError, ProtocolError, ScriptError, StageCrashed, StageError, StageKilled
from pipcook_provider.runtime.messages import PROTOCOL, Closed, Failure, Message, Opened, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a stage needs of the place where it runs.

    :param gpus: how many GPUs it wants; 0 for none.
    :param gpu_required: whether it must not run without them; otherwise the CPU will do.
    :param network: whether it may reach the network, or the name of a container network; a process always may.
    :param memory: bytes that it may use, where the place can limit them; None for the place's own limit.
    :param images: the container images that the document or its framework states for it, by ``cpu`` and ``gpu``; where
        one is not stated it is the launcher's choice.
    :param framework: the document's framework (``tensorflow@2.21``), by which the launcher may choose an image.
    """

    gpus: int = 0
    gpu_required: bool = False
    network: bool | str = False
    memory: int | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    framework: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A place that was looked at, and that has what a stage needs.

    :param needs: what was asked for.
    :param gpus: how many GPUs the stage gets.
    :param platform: what a framework must have been built for: operating system, architecture and Python, as
        ``("linux", "x64", "py311")``; None for what this process runs on.
    :param image: the container image, as it was asked for; None where there is none.
    :param baked: frameworks that the image brings along: their folders in it by their exact references.
    :param shares_files: whether the stage sees this machine's files, wherever they are.
    :param outlives: seconds that a stage may go on after this process is gone.
    """

    needs: Needs
    gpus: int = 0
    platform: tuple[str, str, str] | None = None
    image: str | None = None
    baked: Mapping[str, str] = field(default_factory=dict)
    shares_files: bool = True
    outlives: float = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One start of a child.

    :param site: where it is to run.
    :param workspace: the run's folder; the child's working directory.
    :param context: the context document, relative to ``workspace``.
    :param subject: what runs, as errors name it: ``model script https://.../model.py``.
    :param framework: directory of the framework that the child runs beside, as the child sees it; with one it must not
        see the worker's packages.
    :param environment: variables that the document declares, beside the allow-listed ones.
    :param script_uris: where the workspace's scripts came from, by their path in the workspace; what lies in a folder
        that is named here came from below its URI. Neither ends in a slash.
    :param reads: what of the workspace the stage reads, beside its context: paths relative to ``workspace``, which need
        not exist. A place that cannot see the workspace is sent these.
    :param writes: what of the workspace the stage may write: paths relative to ``workspace``. A place that cannot see
        the workspace sends these back when the stage ended well.
    :param read_only: what of the workspace the stage must not write, where the place can prevent it: paths relative to
        ``workspace``.
    :param files: files and folders beside the workspace that the stage reads: where the child looks for them, and where
        they lie on this machine.
    """

    site: Site
    workspace: Path
    context: Path
    subject: str
    framework: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    script_uris: Mapping[str, str] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    files: Mapping[Path, Path] = field(default_factory=dict)


class Listener(Protocol):
    """Who hears of a stage while it runs; called in the thread that called :meth:`Launcher.run`."""

    def message(self, message: Message) -> None:
        """Take a message other than ``opened``, ``result``, ``error`` and ``closed``."""

    def output(self, line: str) -> None:
        """Take a line that user code printed, without its line end."""


class Launcher(Protocol):
    """A place where stages run."""

    def has_gpu(self) -> bool:
        """Tell whether stages could use a GPU here."""

    def open(self, needs: Needs, listener: Listener) -> Site:
        """Look whether a stage can run here, and get what that takes, before anything is prepared for it.

        :raises LaunchError: it cannot: what is missing, and how to get it.
        """

    def run(self, launch: Launch, listener: Listener) -> Mapping[str, Any]:
        """Run a stage to its end and return its result.

        :raises StageError: every other outcome; see :mod:`pipcook_provider.errors`.
        """

    def end_all(self, workspace: Path) -> None:
        """End whatever still goes on in a workspace after the process that launched it is gone."""

    def stop(self) -> None:
        """End the running stage and all its processes; safe in a signal handler, and when nothing runs."""


@dataclass(slots=True)
class Outcome:
    """What is known of a child so far; a launcher feeds it and asks for the conclusion.

    :param launch: what was started.
    """

    launch: Launch
    opened: bool = False
    closed: bool = False
    result: Mapping[str, Any] | None = None
    failure: Failure | None = None

    def take(self, message: Message, listener: Listener) -> None:
        """Note a message that decides the outcome, pass on all others."""
        match message:
            case Opened(protocol=protocol):
                if protocol != PROTOCOL:
                    raise ProtocolError(self._protocols_differ(protocol))
                self.opened = True
            case Result(value=value):
                self.result = value
            case Failure():
                self.failure = message
            case Closed():
                self.closed = True
            case _:
                listener.message(message)

    def conclude(self, exit_code: int, last_output: str, *, stopped: bool) -> Mapping[str, Any]:
        """Return the result, or raise what happened instead.

        :param exit_code: as :attr:`subprocess.Popen.returncode` has it: negative for a signal.
        :param last_output: the last lines that the child wrote to stderr.
        :param stopped: whether the launcher itself ended the child.
        """
        if self.failure is not None:
            raise _script_error(self.launch, self.failure)
        if self.result is not None and self.closed:
            return self.result
        raise self._broken_off(exit_code, last_output, stopped)

    def _protocols_differ(self, found: int) -> str:
        image = self.launch.site.image
        where = f"the image {image}" if image else "the child's Python"
        age = "an older" if found < PROTOCOL else "a newer"
        return (
            f"{self.launch.subject} was expected to speak protocol {PROTOCOL}, as this worker's pipcook-provider does, but "
            f"{where} holds {age} pipcook-provider, which speaks protocol {found}, so nothing it says counts. Install the same "
            "version in both; `make images` builds images of this one."
        )

    def _broken_off(self, exit_code: int, last_output: str, stopped: bool) -> StageError:
        told = f"\nLast lines of its output:\n{last_output}" if last_output else " It wrote nothing to its output."
        if stopped:
            return StageKilled(f"{self.launch.subject} was stopped from outside.")
        how = _how_it_ended(exit_code)
        if not self.opened:
            return LaunchError(f"{self.launch.subject} could not be started: its process {how} before it was up.{told}")
        return StageCrashed(
            f"{self.launch.subject}: its process {how} without a result; its outputs are discarded.{told}",
            exit_code=exit_code,
        )


def _how_it_ended(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = " (the machine may have run out of memory)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"


#: Errors of our own that a child may raise: their text is the whole story, the class's name adds nothing.
_OWN_ERRORS = frozenset({"ArtifactError", "DatasetError", "FetchError", "IntegrityError", "ScriptError"})


def _origin(file: str, uris: Mapping[str, str]) -> str | None:
    if file in uris:
        return uris[file]
    inside = ((uri, file.removeprefix(f"{folder}/")) for folder, uri in uris.items() if file.startswith(f"{folder}/"))
    return next((f"{uri}/{quote(rest)}" for uri, rest in inside), None)


def _script_error(launch: Launch, failure: Failure) -> ScriptError:
    lines = [f"{launch.subject} failed"]
    if failure.file is not None:
        uri = _origin(failure.file, launch.script_uris)
        copy = f" (in the run: {failure.file})" if uri else ""
        lines[0] += f" at {uri or failure.file}, line {failure.line}{copy}"
    lines[0] += ":"
    if failure.source:
        lines.append(f"    {failure.source}")
    lines.append(failure.message if failure.type in _OWN_ERRORS else f"{failure.type}: {failure.message}")
    return ScriptError("\n".join(lines), details=failure.traceback, retryable=failure.retryable)
