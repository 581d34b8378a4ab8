"""The ``[pipcook]`` section as one frozen record.

Each option is looked up, first hit wins, in

1. the environment variable ``PIPCOOK_<OPTION>``,
2. the environment variable ``AIRFLOW__PIPCOOK__<OPTION>``,
3. the section ``[pipcook]`` of ``airflow.cfg`` (``$AIRFLOW_CONFIG``, or ``$AIRFLOW_HOME/airflow.cfg``).

Airflow itself is not imported: ``import airflow.configuration`` costs more than a whole stage. The table of
options below is also what the provider declares to Airflow, so ``airflow config list`` shows the same.
"""

from __future__ import annotations

import configparser
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from pipcook_provider.errors import SettingsError
from pipcook_provider.units import read_memory

SECTION = "pipcook"
RUNNERS = ("process", "docker")
MOUNTS = ("auto", "bind", "volume")

_IMAGE_KEY = re.compile(r"([a-z0-9][a-z0-9._-]*(@[0-9][0-9a-z.+-]*)?/)?(cpu|gpu)")
_ENGINE = re.compile(r"(unix|http\+unix|tcp|https?|ssh)://.*[^/]", re.IGNORECASE)


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as exc:
        raise ValueError(str(exc)) from exc


def _paths(text: str) -> tuple[Path, ...]:
    return tuple(_path(part) for part in _words(text))


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.replace("\n", ",").split(",") if part.strip())


def _one_of(*known: str) -> Callable[[str], str]:
    def checked(text: str) -> str:
        if text not in known:
            raise ValueError(f"expected one of {', '.join(known)}")
        return text

    return checked


def _table(text: str, what: str) -> Mapping[str, str]:
    """Read a JSON object of texts.

    :param what: what it holds and an example, for errors.
    """
    table = json.loads(text) if text else {}
    if not isinstance(table, dict) or not all(isinstance(value, str) and key and value for key, value in table.items()):
        raise ValueError(f"expected a JSON object of {what}")
    return table


def _images(text: str) -> Mapping[str, str]:
    images = _table(text, 'images, such as {"cpu": "registry.example.com/stage:1-cpu", "gpu": "..."}')
    for key in images:
        if _IMAGE_KEY.fullmatch(key) is None:
            raise ValueError(
                f'expected "cpu" or "gpu", or one of them after a framework, such as "tensorflow@2.21/gpu", found "{key}"'
            )
    return images


def _engine(text: str) -> str:
    if text and _ENGINE.match(text) is None:
        raise ValueError(
            "expected the address of an engine, such as unix:///var/run/docker.sock, tcp://host:2376, https://host:2376 "
            "or ssh://user@host"
        )
    return text


def _memory(text: str) -> int | None:
    return read_memory(text) if text else None


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise ValueError("expected a whole number from 1 on")
    return int(text)


def _notifiers(text: str) -> Mapping[str, Mapping[str, Any]]:
    example = (
        '{"team": {"classpath": "airflow.providers.smtp.notifications.smtp.SmtpNotifier", "kwargs": {"to": "..."}}}'
    )
    try:
        table = json.loads(text) if text else {}
    except ValueError:
        table = None  # the reason would quote the text, which may hold a password
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise ValueError(f"expected a JSON object of notifiers by name, such as {example}")
    for name, entry in table.items():
        path, kwargs = entry.get("classpath"), entry.get("kwargs", {})
        if entry.keys() - {"classpath", "kwargs"} or not isinstance(path, str) or not isinstance(kwargs, dict):
            raise ValueError(f'expected "{name}" to have a "classpath" and, where wanted, "kwargs", as in {example}')
    return table


def _rewrites(text: str) -> tuple[tuple[str, str], ...]:
    pairs = _table(text, 'URI prefixes, such as {"https://a.example/": "https://b.example/a/"}')
    return tuple(sorted(pairs.items(), key=lambda pair: -len(pair[0])))


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("expected a number of seconds above 0")
    return value


def _option(default: str, parse: Callable[[str], Any], description: str, *, shown: bool = True) -> Any:
    """Declare an option: the text of its default, how text becomes a value, and what a person reads about it.

    :param shown: whether messages may repeat its value; what ``parse`` raises for one that may not must not do so.
    """
    return field(
        repr=shown,
        default_factory=lambda: parse(default),
        metadata={"default": default, "parse": parse, "description": description, "shown": shown},
    )


@dataclass(frozen=True, slots=True)
class Credential:
    """What authenticates requests to one place.

    :param prefix: the URI below which the headers are sent, and nowhere else.
    :param headers: such as ``Authorization``; never shown.
    """

    prefix: str
    headers: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The ``[pipcook]`` settings, resolved.

    :param home: folder of everything that outlives a run: frameworks, scripts, downloaded data.
    :param workspace_root: folder under which each run gets its workspace.
    :param framework_mirror: base addresses (``http``, ``https``, ``file``) of framework mirrors, tried in order.
    :param framework_recipes: folders with recipes of one's own, searched before the shipped ones.
    :param allowed_origins: prefixes of the URIs, or folders, that scripts, frameworks and documents from the network may
        come from; empty allows all.
    :param url_rewrites: pairs of a URI prefix and what stands in its place when something is fetched, the longest first.
    :param connections: ids of the Airflow connections that may authenticate downloads from their hosts.
    :param credentials: what those connections say; no option, the Airflow face fills it.
    :param child_environment: names of environment variables that stages may see beside the basic ones.
    :param runner: where stages run when a document does not say: ``process`` or ``docker``.
    :param images: container images by ``cpu`` and ``gpu``, or by these after a framework: ``tensorflow@2.21/gpu``.
    :param docker_url: address of the Docker engine; empty for that of ``DOCKER_HOST``, or this machine's own.
    :param docker_cert_path: folder with ``ca.pem``, ``cert.pem`` and ``key.pem``; empty for what ``DOCKER_TLS_VERIFY`` says.
    :param docker_conn_id: Airflow connection to the registry that images are pulled from.
    :param docker_mounts: how a container gets at the run's folder: ``bind``, ``volume`` or ``auto``.
    :param docker_memory: bytes that a stage's container may use; None for 80 % of the engine's.
    :param docker_pids: processes and threads that a stage's container may have.
    :param docker_data: folders, beside a document's own, whose files it may name as data for a container to read.
    :param gpu_pool: Airflow pool of the stages that train on a GPU.
    :param template_connections: ids of the Airflow connections that documents may name in templates.
    :param notifiers: what documents may name in ``options.airflow.on_failure``: ``classpath`` and ``kwargs`` of notifiers by
        name.
    :param fetch_timeout: seconds without a byte after which a download is given up and tried again; the headers of an
        answer may take four times that.
    :param stop_timeout: seconds between SIGTERM and SIGKILL when a stage is stopped.
    """

    home: Path = _option("~/.pipcook", _path, "Folder of frameworks, scripts and data shared by all runs.")
    workspace_root: Path = _option(
        "~/.pipcook/workspace", _path, "Folder under which each run gets its workspace: {root}/{dag_id}/{run_id}."
    )
    framework_mirror: tuple[str, ...] = _option(
        "",
        _words,
        "Base addresses (http, https, file) of framework mirrors, separated by commas, tried in order.",
        shown=False,  # an address may hold a password
    )
    framework_recipes: tuple[Path, ...] = _option(
        "", _paths, "Folders with framework recipes of your own, separated by commas, searched first."
    )
    allowed_origins: tuple[str, ...] = _option(
        "",
        _words,
        "URI prefixes, or folders, that scripts, frameworks and documents from the network may come from. Empty allows all.",
    )
    url_rewrites: tuple[tuple[str, str], ...] = _option(
        "",
        _rewrites,
        "JSON object of URI prefixes and what to fetch from instead, for networks that reach only a mirror of their own.",
        shown=False,
    )
    connections: tuple[str, ...] = _option(
        "", _words, "Ids of Airflow connections that authenticate downloads from their hosts, separated by commas."
    )
    credentials: tuple[Credential, ...] = field(default=(), repr=False)
    child_environment: tuple[str, ...] = _option(
        "", _words, "Names of environment variables that stages may see, separated by commas."
    )
    runner: str = _option(
        "process", _one_of(*RUNNERS), "Where stages run when a document does not say: process or docker."
    )
    images: Mapping[str, str] = _option(
        "",
        _images,
        'JSON object of the images that stages run in: "cpu", "gpu", and the same of frameworks, "tensorflow@2.21/gpu".',
    )
    docker_url: str = _option(
        "",
        _engine,
        "Address of the Docker engine. Empty: that of DOCKER_HOST, or this machine's own.",
        shown=False,  # an address may hold a password
    )
    docker_cert_path: str = _option(
        "", str, "Folder with ca.pem, cert.pem and key.pem for an engine behind TLS. Empty: as DOCKER_TLS_VERIFY says."
    )
    docker_conn_id: str = _option("", str, "Id of the Airflow connection to the registry that images are pulled from.")
    docker_mounts: str = _option(
        "auto", _one_of(*MOUNTS), "How a container gets at the run's folder: bind, volume (a remote engine), or auto."
    )
    docker_memory: int | None = _option(
        "", _memory, "Most memory that a stage's container may use, such as 8GB. Empty: 80 % of the engine's."
    )
    docker_pids: int = _option("4096", _count, "Most processes and threads that a stage's container may have.")
    docker_data: tuple[Path, ...] = _option(
        "", _paths, "Folders, beside a document's own, whose files it may name as data for a container to read."
    )
    gpu_pool: str = _option(
        "pipcook_gpu", str, "Airflow pool of the stages that train on a GPU; made with one slot where there is none."
    )
    template_connections: tuple[str, ...] = _option(
        "", _words, "Ids of Airflow connections that documents may use in templates, {{ conn.ID.login }}, by commas."
    )
    notifiers: Mapping[str, Mapping[str, Any]] = _option(
        "",
        _notifiers,
        "JSON object of Airflow notifiers that documents may name in on_failure: classpath and kwargs of each by name.",
        shown=False,  # kwargs may hold a password
    )
    fetch_timeout: float = _option("30", _seconds, "Seconds without a byte after which a download is tried again.")
    stop_timeout: float = _option("3", _seconds, "Seconds between SIGTERM and SIGKILL when a stage is stopped.")

    @classmethod
    def load(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings of this machine.

        :raises SettingsError: a value cannot be used, or ``airflow.cfg`` cannot be read.
        """
        configured = _airflow_section(environ)
        values: dict[str, Any] = {}
        for option in _options():
            name = option.name
            for source, text in (
                (f"PIPCOOK_{name.upper()}", environ.get(f"PIPCOOK_{name.upper()}")),
                (f"AIRFLOW__PIPCOOK__{name.upper()}", environ.get(f"AIRFLOW__PIPCOOK__{name.upper()}")),
                (f"[{SECTION}] {name} in airflow.cfg", configured.get(name)),
            ):
                if text:
                    values[name] = _parse(option, text, source)
                    break
        return cls(**values)


def declared_options() -> dict[str, dict[str, Any]]:
    """Return the options in the form of Airflow's provider info (``config`` -> section -> ``options``)."""
    return {
        option.name: {
            "description": option.metadata["description"],
            "version_added": "0.1.0",
            "type": "string",
            "example": None,
            "default": option.metadata["default"],
        }
        for option in _options()
    }


def _options() -> list[Field[Any]]:
    return [option for option in fields(Settings) if option.metadata]


def _parse(option: Field[Any], text: str, source: str) -> Any:
    try:
        return option.metadata["parse"](text)
    except ValueError as exc:
        value = repr(text) if option.metadata["shown"] else "a text (not shown, as it may hold a password)"
        raise SettingsError(f"{source} is {value}, which cannot be used: {exc}. Correct it and try again.") from exc


def _airflow_section(environ: Mapping[str, str]) -> Mapping[str, str]:
    home = Path(environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    path = Path(environ.get("AIRFLOW_CONFIG") or home / "airflow.cfg").expanduser()
    if not path.is_file():
        return {}
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path} cannot be read as Airflow's configuration: {exc}") from exc
    except configparser.MissingSectionHeaderError as exc:
        raise _unreadable(path, [exc.lineno]) from None
    except configparser.ParsingError as exc:
        raise _unreadable(path, [number for number, _ in exc.errors]) from None
    return parser[SECTION] if parser.has_section(SECTION) else {}


def _unreadable(path: Path, lines: list[int]) -> SettingsError:
    """Return an error without the text of those lines, as configparser's has it: such a file holds passwords."""
    return SettingsError(
        f"{path} was expected to be Airflow's configuration, sections of lines 'option = value', but line "
        f"{', '.join(map(str, lines))} is neither, so it cannot be read. Correct it; a value's further lines are indented."
    )
