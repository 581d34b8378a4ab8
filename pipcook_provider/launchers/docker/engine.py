"""A Docker engine, and what its errors mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipcook_provider.errors import EngineError, ImageError, LaunchError, SettingsError
from pipcook_provider.launchers.docker.gpu import translate_refusal
from pipcook_provider.masking import masked, without_credentials
from pipcook_provider.settings import Settings

if TYPE_CHECKING:
    from docker import APIClient

#: This machine's own engine.
DEFAULT_ADDRESS = "unix:///var/run/docker.sock"

#: Seconds that the engine may take for an answer; pulling and following are not meant.
ANSWER_WITHIN = 60

#: What an engine says of a container's program that is not there, or that cannot be executed.
_NO_PROGRAM = ("executable file not found", "exec format error", "no such file or directory: unknown")
_NO_PROGRAM_AFTER_EXEC = ("no such file or directory", "permission denied", "not a directory")


class Engine:
    """A Docker engine that can be asked.

    :param client: what to ask it through.
    """

    def __init__(self, client: APIClient) -> None:
        self.client = client

    @classmethod
    def connect(cls, settings: Settings) -> Engine:
        """Connect to the engine that the settings name, else to that of ``DOCKER_HOST``, else to this machine's own.

        :raises SettingsError: the certificates that the settings name are not there.
        :raises EngineError: it does not answer.
        """
        arguments = client_arguments(settings)
        with _translated(_stated_address(settings), "answer"):
            return cls(_open(**arguments))

    def twin(self) -> Engine:
        """Return the same engine through a client that shares nothing with this one.

        In a signal handler this one may be in the middle of a question, and hold locks.
        """
        from docker import APIClient

        address = self.address.replace("unix://", "http+unix://", 1)
        client = APIClient(base_url=address, version=self.client.api_version, timeout=ANSWER_WITHIN)
        client.verify, client.cert, client.trust_env = self.client.verify, self.client.cert, self.client.trust_env
        client.headers.update(self.client.headers)
        return Engine(client)

    @cached_property
    def address(self) -> str:
        """Where it is, for a person: without credentials."""
        socket = getattr(getattr(self.client, "_custom_adapter", None), "socket_path", None)
        if socket:
            return f"unix://{socket}"
        ssh = getattr(getattr(self.client, "_custom_adapter", None), "ssh_host", None)
        return f"ssh://{without_credentials(ssh)}" if ssh else without_credentials(str(self.client.base_url))

    @property
    def is_remote(self) -> bool:
        """Whether it is asked over a network, so that it may see other files than this machine."""
        return not self.address.startswith(("unix://", "http+docker://localnpipe"))

    @cached_property
    def info(self) -> Mapping[str, Any]:
        """What it tells of itself, as it was when first asked.

        :raises EngineError: it does not answer.
        """
        with self.translated("describe itself"):
            found: Mapping[str, Any] = self.client.info()
        return found

    @property
    def is_rootless(self) -> bool:
        """Whether it runs as an ordinary user, who is root in its containers."""
        return any("name=rootless" in option for option in self.info.get("SecurityOptions") or ())

    def url(self, path: str) -> str:
        """Return the URL of a path of the engine's interface, for what its client has no method for."""
        return f"{self.client.base_url}/v{self.client.api_version}{path}"

    @contextmanager
    def translated(self, what: str) -> Iterator[None]:
        """Turn what the engine's client raises into errors of ours.

        :param what: what the engine is asked for, after "could not": ``create the container``.
        """
        with _translated(self.address, what):
            yield


def client_arguments(settings: Settings) -> dict[str, Any]:
    """Return ``base_url`` and, for an engine behind TLS, ``tls``, as Docker's clients take them.

    :raises SettingsError: the certificates that the settings name are not there.
    """
    from docker.errors import TLSParameterError
    from docker.utils import kwargs_from_env

    try:
        return {"base_url": DEFAULT_ADDRESS, **kwargs_from_env(_environment(settings))}
    except TLSParameterError as exc:
        folder = settings.docker_cert_path or os.environ.get("DOCKER_CERT_PATH") or "~/.docker"
        raise SettingsError(
            f"{folder} was expected to hold ca.pem, cert.pem and key.pem, for a Docker engine behind TLS, but not "
            "all of them are there. Correct [pipcook] docker_cert_path, or DOCKER_CERT_PATH and DOCKER_TLS_VERIFY."
        ) from exc


def _open(**arguments: Any) -> APIClient:
    """Return a client that speaks the engine's version of its interface."""
    from docker import APIClient
    from docker.constants import DEFAULT_DOCKER_API_VERSION
    from docker.errors import DockerException

    version = DEFAULT_DOCKER_API_VERSION
    for _ in range(2):
        try:
            client = APIClient(**arguments, version=version, timeout=ANSWER_WITHIN)
        except ValueError as exc:
            raise DockerException(f"that is no address: {exc}") from exc
        if arguments.get("tls"):
            # Otherwise REQUESTS_CA_BUNDLE would win over the engine's own authority.
            client.trust_env = False
        version = _read_version(client.version(api_version=False))
    return client


def _read_version(answer: Any) -> str:
    from docker.errors import DockerException

    version = answer.get("ApiVersion") if isinstance(answer, dict) else None
    if not isinstance(version, str):
        raise DockerException("what answers there is no Docker engine")
    return version


def is_lost(exc: BaseException) -> bool:
    """Tell whether an error of the engine's client says that the engine gave no answer, rather than a refusal."""
    from docker.errors import APIError

    return isinstance(exc, OSError) and not isinstance(exc, APIError)


@contextmanager
def _translated(address: str, what: str) -> Iterator[None]:
    from docker.errors import APIError, DockerException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except APIError as exc:
        raise _refused(address, what, exc.explanation or str(exc), exc.status_code or 0) from exc
    except (DockerException, HTTPError, OSError) as exc:
        raise _not_reached(address, what, exc) from exc


def _refused(address: str, what: str, explanation: str, status: int) -> LaunchError:
    reason = masked(explanation).strip().rstrip(".")
    for translate in (translate_refusal, _no_program, _no_source):
        if error := translate(reason):
            return error
    told = f"The Docker engine {address} was asked to {what}, but could not: {reason}."
    if "no space left on device" in reason.lower():
        return EngineError(
            f"{told} The disk of the engine is full: make room there, such as with `docker system prune`."
        )
    if "permission denied" in reason.lower() and "mount" in reason.lower():
        return EngineError(f"{told} The engine may not see that folder.", retryable=False)
    return EngineError(told, retryable=status >= 500)


def _no_program(reason: str) -> LaunchError | None:
    known = reason.lower()
    after_exec = 'exec: "' in known and any(words in known for words in _NO_PROGRAM_AFTER_EXEC)
    if not after_exec and not any(words in known for words in _NO_PROGRAM):
        return None
    return ImageError(
        f"The image was expected to hold the program that its container begins with, but that cannot be executed: {reason}. "
        "It is no image that stages can run in, or options name another entry point. Build it with `make images`, or on "
        "such an image, and leave its ENTRYPOINT as it is."
    )


def _no_source(reason: str) -> LaunchError | None:
    if "bind source path does not exist" not in reason:
        return None
    return EngineError(
        f"The Docker engine was expected to have the files of this worker, but does not: {reason}. The two run on different "
        "machines, or the worker runs in a container of its own. Set [pipcook] docker_mounts to volume: files then travel "
        "through a volume.",
        retryable=False,
    )


def _not_reached(address: str, what: str, exc: Exception) -> EngineError:
    reason = masked(_innermost(exc))
    causes: list[tuple[Callable[[str], bool], str]] = [
        (
            lambda text: "permission denied" in text,
            "This user may not use its socket: add it to the group docker, and log in again",
        ),
        (
            lambda text: "certificate" in text or "ssl" in text,
            "Look whether its certificate and those in [pipcook] docker_cert_path belong together",
        ),
        (
            lambda text: "paramiko" in text,
            "Install that beside this package (pip install paramiko), and try again",
        ),
        (
            lambda text: "bind address" in text,
            "Correct the address, which begins with unix://, tcp:// or ssh://",
        ),
    ]
    remedy = next((told for fits, told in causes if fits(reason.lower())), None)
    return EngineError(
        f"The Docker engine {address} was expected to {what}, but it cannot be reached: {reason.rstrip('.')}. "
        f"{remedy or 'Start it'}, or name another in [pipcook] docker_url or DOCKER_HOST; stages need none with "
        '"runner": "process".',
        retryable=remedy is None,
    )


def _innermost(exc: BaseException) -> str:
    """Return what the operating system said, where an error wraps it in others; else what the error itself says."""
    wrapped: list[BaseException] = [exc]
    for error in wrapped:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        inner = [*error.args, getattr(error, "reason", None), error.__cause__, error.__context__]
        wrapped.extend(found for found in inner if isinstance(found, BaseException) and found not in wrapped)
    return str(exc)


def _environment(settings: Settings) -> dict[str, str]:
    """Return the variables that say which engine is meant, with the settings in place of those."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
    if settings.docker_url:
        environment["DOCKER_HOST"] = settings.docker_url
    if settings.docker_cert_path:
        folder = Path(settings.docker_cert_path).expanduser()
        environment |= {"DOCKER_CERT_PATH": str(folder), "DOCKER_TLS_VERIFY": "1"}
    return environment or {"DOCKER_HOST": ""}


def _stated_address(settings: Settings) -> str:
    stated = settings.docker_url or os.environ.get("DOCKER_HOST") or DEFAULT_ADDRESS
    return without_credentials(stated)
