"""Every error that this package raises on purpose.

The tree, with what each one means::

    PipcookError
    ├── SettingsError           a value of the [pipcook] settings cannot be used
    ├── SpecError               a pipeline document cannot be used; lists every problem with its place
    ├── FetchError              a URI could not be turned into a local file
    │   ├── OriginError         the URI lies outside the allowed origins
    │   ├── FetchNotFound       the server or the disk has nothing at that address
    │   └── IntegrityError      what arrived is not what was announced (digest, size, archive)
    ├── LockError              what a document runs is not what the lock beside it names
    ├── CacheError              the folder shared by runs cannot be written, or is full
    ├── FrameworkError          a framework could not be had
    │   ├── FrameworkNotFound   no cache entry, mirror file or recipe answers to the name
    │   └── FrameworkBuildError an installer failed
    ├── ParameterError          a run was triggered with a parameter that its document does not have
    ├── TemplateError           a template of a document cannot be rendered, or names what it may not have
    ├── WorkspaceError          a run's folder is missing, in use or not writable
    ├── ArtifactError           an artifact processor is unknown or refused its options
    ├── DatasetError            a sample cannot be carried between stages unchanged
    └── StageError              a stage did not end with a result
        ├── ScriptError         the user's script raised, or does not offer what its stage calls
        ├── StageCrashed        the child died: exit code or signal, last lines of stderr
        ├── StageKilled         the stage was stopped from outside
        ├── LaunchError         the child never came up
        │   ├── EngineError     the Docker engine cannot be reached, or refused
        │   ├── ImageError      the container image is not there, or is none that stages can run in
        │   └── GpuError        a GPU is asked for, and the place has none to give
        └── ProtocolError       the child speaks another version of the message format, or none

A message says what was expected, what was found, what that means, and what to do. ``retryable`` says whether
doing the same again may help: Airflow's retries are spent only on those errors.

This module imports the standard library only: it also travels into the child process and into containers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: What PostgreSQL cannot hold, where Airflow keeps import errors: one would end every DAG processor.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class PipcookError(Exception):
    """Base of every error raised on purpose by this package; as a text it can be stored, whatever a server said."""

    retryable: bool = False

    def __str__(self) -> str:
        return _UNSTORABLE.sub(lambda found: ascii(found[0])[1:-1], super().__str__())


class SettingsError(PipcookError):
    """A value of the ``[pipcook]`` settings cannot be used."""


_LINE_BREAK = re.compile(r"\r?\n *")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a pipeline document, and where.

    :param message: what was expected, what stands there, and what to do.
    :param path: JSON path of the value, such as ``$.options.train`` (``$`` is the document).
    :param line: line of the value, counted from 1.
    :param column: column of the value, counted from 1.
    """

    message: str
    path: str
    line: int
    column: int

    @classmethod
    def of_document(cls, message: str) -> Problem:
        """Return what is wrong with a document as a whole, which stands at its beginning."""
        return cls(message, "$", 1, 1)

    def render(self, origin: str) -> str:
        """Return ``origin:line:column: path: message``, the form that editors and terminals make clickable."""
        rendered = f"{origin}:{self.line}:{self.column}: {self.path}: {self.message}"
        # Texts of documents stand in it: none may begin a line of a log, or be a command to a terminal.
        return _CONTROL.sub(lambda found: repr(found[0])[1:-1], _LINE_BREAK.sub(" ", rendered))


class SpecError(PipcookError):
    """A pipeline document cannot be used.

    :param origin: path or URL of the document.
    :param problems: everything that is wrong with it, in the order of the text; never empty.
    """

    def __init__(self, origin: str, problems: tuple[Problem, ...]) -> None:
        self.origin = origin
        self.problems = problems
        super().__init__("\n".join(problem.render(origin) for problem in problems))


class FetchError(PipcookError):
    """A URI could not be turned into a local file.

    :param retryable: whether fetching the same URI again may help; by default what the class says.
    """

    retryable = True

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable


class OriginError(FetchError):
    """The URI lies outside the allowed origins."""

    retryable = False


class FetchNotFound(FetchError):  # noqa: N818 - the sentence reads better without a suffix
    """The server or the disk has nothing at that address."""

    retryable = False


class IntegrityError(FetchError):
    """What arrived is not what was announced: another digest, another size, a broken or unsafe archive."""


class LockError(PipcookError):
    """What a document runs is not what the lock beside it names, or the lock cannot be used."""


class CacheError(PipcookError):
    """The folder shared by runs cannot be written, or is full."""


class FrameworkError(PipcookError):
    """A framework could not be had."""


class FrameworkNotFound(FrameworkError):  # noqa: N818
    """No cache entry, mirror file or recipe answers to the name."""


class FrameworkBuildError(FrameworkError):
    """An installer failed while a framework was built from a package registry."""

    retryable = True


class ParameterError(PipcookError):
    """A run was triggered with a parameter that its document does not have."""


class TemplateError(PipcookError):
    """A template of a document cannot be rendered, or names what it may not have."""


class WorkspaceError(PipcookError):
    """A run's folder is missing, in use or not writable."""


class ArtifactError(PipcookError):
    """An artifact processor is unknown or refused its options."""


class DatasetError(PipcookError):
    """A sample cannot be carried between stages unchanged."""


class StageError(PipcookError):
    """A stage did not end with a result."""


class ScriptError(StageError):
    """The user's script raised, or does not offer what its stage calls.

    :param message: the whole story for a person: script, line, source text, exception.
    :param details: the traceback as the child formatted it; empty when there was none.
    :param retryable: whether running the same script again may help.
    """

    def __init__(self, message: str, *, details: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.details = details
        self.retryable = retryable


class StageCrashed(StageError):  # noqa: N818
    """The child died without a result: exit code or signal, and the last lines it wrote to stderr.

    :param exit_code: as :attr:`subprocess.Popen.returncode` has it; None where it is not known.
    """

    retryable = True

    def __init__(self, message: str, *, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StageKilled(StageError):  # noqa: N818
    """The stage was stopped from outside."""


class LaunchError(StageError):
    """The child never came up.

    :param retryable: whether starting it again may help; by default what the class says.
    """

    retryable = True

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        if retryable is not None:
            self.retryable = retryable


class EngineError(LaunchError):
    """The Docker engine cannot be reached, or refused what was asked of it."""


class ImageError(LaunchError):
    """The container image is not there and cannot be pulled, or is none that stages can run in."""

    retryable = False


class GpuError(LaunchError):
    """A GPU is asked for, and the place where the stage is to run has none to give."""

    retryable = False


class ProtocolError(StageError):
    """The child speaks another version of the message format, or none."""
