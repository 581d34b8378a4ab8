"""Pipeline documents that a bundle has from the web: their last good copies, and what is wrong where there is none.

In the folder of a bundle's documents::

    {key}/{name}    the copy; ``key`` is made of the URL
    documents.json  what is known of each, by its URL

The server is asked for what is new, and the copy stays as it is while the server is away. What it refuses, or has no
longer, is told as the document's own problem.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pipcook_provider.errors import FetchError, PipcookError, SettingsError
from pipcook_provider.masking import holds_credentials
from pipcook_provider.masking import without_credentials as shown
from pipcook_provider.settings import Settings
from pipcook_provider.spec.folder import MAXIMUM_BYTES, is_document_name
from pipcook_provider.store.atomic import write_atomically

_log = logging.getLogger(__name__)

_THREADS: Final = 8
#: Bytes that a file's name may have.
_LONGEST_NAME: Final = 255
#: Airflow parses nothing meanwhile, so that no server is waited for longer than that without a byte (seconds) ...
_PATIENCE: Final = 5.0
#: ... none is asked any more when so much time went by; those come first next time ...
_TIME: Final = 10.0
#: ... and one that was waited for in vain is left in peace for so many times as long.
_REST: Final = 10.0
_LONGEST_REST: Final = 300.0


@dataclass(frozen=True, slots=True)
class RemoteDocument:
    """A document from the web as it is here.

    :param name: its file name, which ends in ``.json``.
    :param path: its copy.
    :param changed: when the copy, or the problem, became another one, in nanoseconds since 1970; 0 for never asked.
    :param problem: why there is no copy to use, for a person.
    """

    url: str
    name: str
    path: Path
    changed: int
    problem: str | None

    @property
    def shown(self) -> str:
        """What messages call it."""
        return shown(self.url)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking for a document.

    :param text: the document; with a problem an earlier version of it; None when it could not be had.
    :param problem: why it, or its newest version, could not be had.
    :param refused: whether asking again is of no use.
    :param seconds: how long it took.
    """

    url: str
    text: str | None
    problem: str | None
    refused: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class _State:
    """What is known of a document.

    :param asked: when the server was asked last, in seconds since 1970.
    :param rests_until: when it may be asked again.
    """

    asked: float = 0.0
    rests_until: float = 0.0
    changed: int = 0
    problem: str | None = None


def check_urls(urls: object) -> tuple[str, ...]:
    """Return the URLs of a bundle's option ``documents``, each once.

    :raises SettingsError: they are no URLs of documents.
    """
    if isinstance(urls, str) or not isinstance(urls, Iterable):
        raise SettingsError(
            f"The option documents of a Pipcook DAG bundle was expected to be a list of http(s) URLs, found "
            f"{type(urls).__name__}. No document was fetched. Write "
            '"documents": ["https://example.com/pipeline.json"].'
        )
    return tuple(dict.fromkeys(_checked(url) for url in urls))


class Documents:
    """The documents of a bundle.

    :param folder: where their copies lie.
    :param urls: their addresses, as of :func:`check_urls`.
    """

    def __init__(self, folder: Path, urls: Sequence[str]) -> None:
        self._folder = folder
        self._urls = urls

    def present(self) -> tuple[RemoteDocument, ...]:
        """Return the documents as they are here, in the order of their URLs."""
        states = self._states() if self._urls else {}
        return tuple(self._document(url, states.get(url, _State())) for url in self._urls)

    def due(self, age: float = 0.0) -> list[str]:
        """Return the URLs to ask for, the ones that waited longest first.

        :param age: seconds for which a copy counts as new.
        """
        if not self._urls:
            return []
        states, now = self._states(), time.time()
        found = [url for url in self._urls if self._is_due(url, states.get(url, _State()), now, age)]
        return sorted(found, key=lambda url: states.get(url, _State()).asked)

    def keep(self, answers: Iterable[Answer]) -> None:
        """Keep what was fetched; only one process at a time may do so.

        :raises OSError: it cannot be written.
        """
        states, now = self._states(), time.time()
        for answer in answers:
            states[answer.url] = self._kept(answer, states.get(answer.url, _State()), now)
        kept = {url: asdict(state) for url, state in states.items() if url in self._urls}
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._folder / "documents.json", json.dumps(kept).encode())

    def remove_others(self) -> None:
        """Remove the copies of documents that are no longer listed."""
        if self._folder.is_dir():
            names = {_key(url) for url in self._urls}
            for folder in self._folder.iterdir():
                if folder.is_dir() and folder.name not in names:
                    shutil.rmtree(folder, ignore_errors=True)

    def _is_due(self, url: str, state: _State, now: float, age: float) -> bool:
        if state.problem is None and not self._path(url).is_file():
            return True
        return not 0 <= now - state.asked < age and not 0 < state.rests_until - now <= _LONGEST_REST

    def _kept(self, answer: Answer, state: _State, now: float) -> _State:
        path = self._path(answer.url)
        rests_until = now + min(_REST * answer.seconds, _LONGEST_REST) if answer.problem else 0.0
        if answer.text is not None:
            content = answer.text.encode()
            is_new = not path.is_file() or path.read_bytes() != content
            if is_new:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content)
            return _State(now, rests_until, time.time_ns() if is_new or state.problem else state.changed)
        if not answer.refused and state.problem is None and path.is_file():
            _log.warning("The last copy of %s stays in use: %s", shown(answer.url), answer.problem)
            return _State(now, rests_until, state.changed)
        changed = state.changed if answer.problem == state.problem else time.time_ns()
        return _State(now, rests_until, changed, answer.problem)

    def _document(self, url: str, state: _State) -> RemoteDocument:
        path = self._path(url)
        problem = state.problem
        if problem is None and not path.is_file():
            problem = f"{shown(url)} has not been fetched yet; Airflow does so when it refreshes the bundle next."
        return RemoteDocument(url, path.name, path, state.changed, problem)

    def _path(self, url: str) -> Path:
        return self._folder / _key(url) / _name(url)

    def _states(self) -> dict[str, _State]:
        try:
            found = json.loads((self._folder / "documents.json").read_bytes())
            return {url: _State(**state) for url, state in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}


def fetch(urls: Sequence[str]) -> list[Answer]:
    """Ask for documents, some at a time; one that there was no time for has no answer."""
    begin = time.monotonic()
    try:
        settings = _settings()
    except Exception as exc:  # this machine's trouble, whose copies stay in use
        return [Answer(url, None, _told(exc), refused=False, seconds=0.0) for url in urls]

    def ask(url: str) -> Answer | None:
        return _ask(url, settings) if time.monotonic() - begin < _TIME else None

    # All threads end in here: Airflow forks, and a child would wait for ever for what another thread holds.
    with ThreadPoolExecutor(_THREADS) as threads:
        return [answer for answer in threads.map(ask, urls) if answer is not None]


def _ask(url: str, settings: Settings) -> Answer:
    from pipcook_provider.store.web import read_document

    begin = time.monotonic()
    stale: list[str] = []
    text, problem, refused = None, None, False
    try:
        text = read_document(url, settings, limit=MAXIMUM_BYTES, on_stale=stale.append)
    except Exception as exc:  # of this document only
        problem, refused = _told(exc), isinstance(exc, FetchError) and not exc.retryable
    if stale:
        problem = stale[0]
        _log.warning(problem)
    return Answer(url, text, problem, refused, time.monotonic() - begin)


def _settings() -> Settings:
    """Return the settings of this machine, with what the connections that they name authenticate."""
    settings = Settings.load()
    if settings.connections:
        from pipcook_provider.hooks.framework import PipcookFrameworkHook

        settings = PipcookFrameworkHook(None, settings).settings()
    return replace(settings, fetch_timeout=min(settings.fetch_timeout, _PATIENCE))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, PipcookError) else f"{type(error).__name__}: {error}"


def _checked(url: object) -> str:
    """Return a URL of a document.

    :raises SettingsError: it is none.
    """
    if not isinstance(url, str) or not _is_document_url(url):
        found = repr(shown(url)) if isinstance(url, str) else repr(url)
        raise SettingsError(
            f"The option documents of a Pipcook DAG bundle was expected to hold http(s) URLs that end in a file's name, "
            f"found {found}. Nothing was fetched. Write such as https://example.com/pipelines/digits.json."
        )
    if holds_credentials(url):
        raise SettingsError(
            f"{shown(url)} stands with a user or password in the option documents of a Pipcook DAG bundle, where others "
            "would see them. Nothing was fetched. Remove them, keep them in an Airflow connection to that host, and name "
            "that in [pipcook] connections."
        )
    return url


def _is_document_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    name = _name(url)
    usable = is_document_name(name) and len(name.encode()) <= _LONGEST_NAME
    return parts.scheme in ("http", "https") and bool(parts.hostname) and usable


def _name(url: str) -> str:
    """Return the file name of a document, which its DAG is named after."""
    last = unquote(urlsplit(url).path.rpartition("/")[2]).replace("/", "_").replace("\0", "_")
    return f"{last.removesuffix('.json')}.json" if last else ""


def _key(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]
