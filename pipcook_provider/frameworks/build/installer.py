"""Installers: programs that get packages from a registry, and what they say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pipcook_provider.errors import FrameworkBuildError, FrameworkNotFound
from pipcook_provider.frameworks.report import Report

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_LAST_LINES = 15
_TOLD = ("Resolved", "Prepared", "Installed", "Bytecode", "Collecting", "Downloading", " Downloaded", "added ")
#: What installers say where a registry answered, and does not have what was asked for.
_NOTHING_THERE = ("No solution found when resolving", "No matching distribution found", "code ETARGET", "code E404")
#: pip and npm say the same where the registry did not answer; then they say this as well.
_NO_ANSWER = (
    *("Retrying (", "error sending request", "network was disabled", "not found in the cache"),
    *("ECONNREFUSED", "ENOTFOUND", "ENOTCACHED", "ETIMEDOUT", "EAI_AGAIN"),
)

Result = TypeVar("Result")


class InstallerFailed(Exception):  # noqa: N818 - what happened, not an error of this package: see first_of
    """An installer did not do what it was asked to.

    :param says_there_is_none: whether the registry answered, and has no such package or version.
    """

    def __init__(self, message: str, *, says_there_is_none: bool = False) -> None:
        super().__init__(message)
        self.says_there_is_none = says_there_is_none


def run(name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str], report: Report) -> None:
    """Run an installer to its end. It dies with this process, and when this function is left by an exception.

    :param name: what people call it.
    :param folder: where it runs. Not where the caller happens to stand: a project there must not configure what all
        projects share.
    :param environment: laid over the environment of this process.
    :raises InstallerFailed: it cannot be started, or ends with an exit code; the message has its last lines.
    """
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    found: set[str] = set()
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(_SUPERVISOR), *command],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in map(str.rstrip, process.stdout):
                lines.append(line)
                found.update(mark for mark in (*_NOTHING_THERE, *_NO_ANSWER) if mark in line)
                if line.startswith(_TOLD):
                    report.info(f"{name}: {line.strip()}")
        except BaseException:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise InstallerFailed(
            f"{name} ended with exit code {process.returncode}:\n" + "\n".join(f"    {line}" for line in lines),
            says_there_is_none=bool(found.intersection(_NOTHING_THERE)) and not found.intersection(_NO_ANSWER),
        )


def first_of(attempts: Iterable[Callable[[], Result]], what: str, advice: str, report: Report) -> Result:
    """Return what the first attempt that succeeds returns.

    :param attempts: each raises :class:`InstallerFailed` where it fails.
    :param what: what was expected, as the beginning of a sentence up to "but".
    :param advice: what to do where all fail.
    :raises FrameworkNotFound: all say that the registry has no such thing.
    :raises FrameworkBuildError: all failed.
    """
    failures: list[InstallerFailed] = []
    for attempt in attempts:
        if failures:
            tell = report.info if failures[-1].says_there_is_none else report.warning
            tell(f"{str(failures[-1]).partition(':')[0]}; another installer is tried.")
        try:
            return attempt()
        except InstallerFailed as exc:
            failures.append(exc)
    told = "\n".join(map(str, failures))
    if failures and all(failure.says_there_is_none for failure in failures):
        raise FrameworkNotFound(
            f"{what}, but the package registry has none that fit, so there is no such framework. Ask for another "
            f"version.\n{told}"
        )
    raise FrameworkBuildError(f"{what}, but {told or 'there is no program here that could'}\n{advice}")
