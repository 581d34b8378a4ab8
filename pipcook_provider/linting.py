"""Documents, linted with all that this machine knows of what they name: scripts, locks, frameworks, settings, servers."""

from __future__ import annotations

import hashlib
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import Final

from pipcook_provider.errors import FetchError, FrameworkError, LockError, PipcookError, SpecError
from pipcook_provider.frameworks.housekeeping import list_frameworks
from pipcook_provider.frameworks.recipes import find_recipe, known_names, names_with_package
from pipcook_provider.frameworks.reference import NameReference, PathReference, UrlReference, parse_reference
from pipcook_provider.lockfile import Lock
from pipcook_provider.plan import FRAMEWORK, dag_id_of, dag_id_taken, model_asset
from pipcook_provider.run_marker import is_run_folder
from pipcook_provider.settings import Settings
from pipcook_provider.spec import PipelineSpec, ScriptSpec, load_pipeline_spec
from pipcook_provider.spec.assets import told
from pipcook_provider.spec.folder import DEFAULTS_NAME, find_json_files, is_pipeline_file
from pipcook_provider.spec.lint import Facts, Finding, lint_file
from pipcook_provider.spec.lint.schedule import assets_of, watched
from pipcook_provider.spec.lint.sections import scripts_of
from pipcook_provider.spec.model import AssetSpec
from pipcook_provider.spec.names import did_you_mean
from pipcook_provider.spec.places import Path as JsonPath
from pipcook_provider.stages.scripts import check_script, roles
from pipcook_provider.store.fetch import TEXT_LIMIT, check_reachable, download
from pipcook_provider.store.origins import locate
from pipcook_provider.store.scripts import declared_parameters
from pipcook_provider.store.web import fetch_cached

#: How many servers are asked at once.
_THREADS: Final = 8
_JAVASCRIPT: Final = frozenset({".js", ".mjs", ".cjs"})


@dataclass(frozen=True, slots=True)
class Document:
    """A document that is linted.

    :param dag_id: of its DAG, as far as its place tells.
    :param namesakes: other documents of the same folder whose DAGs would have the same one.
    """

    path: Path
    dag_id: str
    namesakes: tuple[Path, ...] = ()


def find_documents(paths: Iterable[Path], *, skip_others: bool = False) -> list[Document]:
    """Return the documents that are named, and those in the folders that are; what lies in a run's folder is none of them.

    :param skip_others: whether a file that is named and is neither a document nor a folder's defaults is left out.
    """
    found: list[Document] = []
    for path in paths:
        if path.is_dir():
            found += _documents_in(path)
        elif not skip_others or path.name == DEFAULTS_NAME or (_is_document(path) and not is_run_folder(path.parent)):
            found.append(Document(path, dag_id_of(path.name)))
    return found


def lint_documents(documents: Sequence[Document], settings: Settings, *, online: bool = False) -> list[Finding]:
    """Return what is wrong with documents, each finding once: what is wrong with their defaults concerns many.

    :param online: whether servers are asked for the scripts, frameworks and watched addresses that lie there.
    """
    with tempfile.TemporaryDirectory(prefix="pipcook-lint-") as folder:
        machine = _Machine(settings, Path(folder) if online else None)
        if online:
            machine.ask_servers(_specs(documents))
        found = [
            finding for document in documents for finding in lint_file(document.path, partial(machine.facts, document))
        ]
    return list(dict.fromkeys(found))


def _documents_in(folder: Path) -> Iterator[Document]:
    files = {path: dag_id_of(name) for name, path in find_json_files(folder) if _is_document(path)}
    by_dag_id = defaultdict(list)
    for path, dag_id in files.items():
        by_dag_id[dag_id].append(path)
    for path, dag_id in files.items():
        yield Document(path, dag_id, tuple(other for other in by_dag_id[dag_id] if other != path))


def _is_document(path: Path) -> bool:
    try:
        return is_pipeline_file(path)
    except OSError:  # which is told when it is linted
        return True


def _specs(documents: Iterable[Document]) -> Iterator[PipelineSpec]:
    for document in documents:
        with suppress(SpecError):
            yield load_pipeline_spec(document.path)


@dataclass(frozen=True, slots=True)
class _Script:
    """What was found out about a script.

    :param problem: why it cannot be used; None where nothing is known to be wrong.
    :param parameters: those that it declares; None where it declares none, or was not looked at.
    """

    problem: str | None = None
    parameters: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Machine:
    """Looks at what documents name, at each thing once.

    :param downloads: a folder for scripts from servers; None where no server is asked.
    """

    settings: Settings
    downloads: Path | None
    _scripts: dict[tuple[str, str], _Script] = field(default_factory=dict)
    _addresses: dict[str, str | None] = field(default_factory=dict)
    _assets: dict[tuple[str, str], tuple[AssetSpec, Path]] = field(default_factory=dict)

    def ask_servers(self, specs: Iterable[PipelineSpec]) -> None:
        """Look at all that documents name on servers, at several at once."""
        scripts: dict[tuple[str, str], ScriptSpec] = {}
        addresses: set[str] = set()
        for spec in specs:
            scripts |= {
                (role, script.reference): script for role, script in zip(roles(spec), spec.scripts, strict=True)
            }
            addresses |= {uri for _, uri in _addresses(spec)}
        with ThreadPoolExecutor(_THREADS) as pool:
            pool.map(self._script, (role for role, _ in scripts), scripts.values())
            pool.map(self._address, addresses)

    def facts(self, document: Document, spec: PipelineSpec) -> Facts:
        """Return what is known of a document."""
        unusable: dict[JsonPath, str] = {}
        declared: dict[str, tuple[str, ...]] = {}
        for role, (path, script) in zip(roles(spec), scripts_of(spec), strict=True):
            found = self._script(role, script)
            if found.problem is not None:
                unusable[path] = found.problem
            if found.parameters is not None:
                declared[script.reference] = found.parameters
        unusable |= {path: problem for path, uri in _addresses(spec) if (problem := self._address(uri))}
        mistakes = [dag_id_taken(document.dag_id, *document.namesakes)] if document.namesakes else []
        locked: frozenset[str] = frozenset()
        try:
            if lock := Lock.beside(spec.origin):
                locked = lock.references(spec)
                unusable = {**dict(_unlocked(spec, lock, locked)), **unusable}
        except LockError as exc:
            mistakes.append(str(exc))
        doubtful = dict(self._other_assets(document, spec))
        if doubt := self._doubt(spec):
            doubtful[FRAMEWORK] = doubt
        return Facts(
            mistakes=tuple(mistakes),
            unusable=unusable,
            doubtful=doubtful,
            declared=declared,
            locked=locked,
            notifiers=tuple(self.settings.notifiers),
            connections=self.settings.template_connections,
            model=model_asset(document.dag_id),
        )

    def _script(self, role: str, script: ScriptSpec) -> _Script:
        key = (role, script.reference)
        if key not in self._scripts:
            try:
                self._scripts[key] = self._look(role, script)
            except PipcookError as exc:
                self._scripts[key] = _Script(str(exc))
        return self._scripts[key]

    def _look(self, role: str, script: ScriptSpec) -> _Script:
        locate(script.reference, self.settings)
        file = script.path
        if file is not None:
            fetch_cached(script.reference, self.settings)
        elif self.downloads is not None:
            folder = hashlib.sha256(f"{role} {script.reference}".encode()).hexdigest()
            file = self.downloads / folder / script.basename
            download(script.reference, file, self.settings, limit=TEXT_LIMIT)
        if file is None or PurePath(script.basename).suffix.lower() in _JAVASCRIPT:
            return _Script()
        check_script(file, role, script.uri)
        declared = declared_parameters(file)
        return _Script(parameters=None if declared is None else tuple(declared))

    def _address(self, uri: str) -> str | None:
        if uri not in self._addresses:
            try:
                locate(uri, self.settings)
                if self.downloads is not None:
                    check_reachable(uri, self.settings)
                self._addresses[uri] = None
            except FetchError as exc:
                self._addresses[uri] = str(exc)
        return self._addresses[uri]

    def _other_assets(self, document: Document, spec: PipelineSpec) -> Iterator[tuple[JsonPath, str]]:
        """Yield the assets of a document that are others in a document before it."""
        for path, asset in assets_of(spec):
            for key in (("name", asset.name), ("uri", asset.uri)):
                other, place = self._assets.setdefault(key, (asset, document.path))
                if other != asset:
                    yield (
                        path,
                        f"The asset is {told(asset)}, and in {place} {told(other)}: Airflow knows an asset by its name and by "
                        "its URI, and keeps what it was told last, which changes again and again. Write the same in both.",
                    )
                    break

    def _doubt(self, spec: PipelineSpec) -> str | None:
        """Return why the framework of a document cannot be had on this machine, as far as that is known here."""
        if spec.framework is None:
            return None
        reference = parse_reference(spec.framework, spec.origin)
        if isinstance(reference, PathReference) and not reference.path.exists():
            return f"There is no framework at {reference.path} on this machine. Correct the path, unless the workers have it."
        if not isinstance(reference, NameReference) or self.settings.framework_mirror:
            return None
        folders = self.settings.framework_recipes
        try:
            if find_recipe(reference, folders) is not None or reference.name in self._cached():
                return None
        except FrameworkError as exc:
            return str(exc)
        known = tuple(sorted({*known_names(folders)}))
        alike = next(names_with_package(reference.name, folders), None)
        near = f' Did you mean "{alike}"?' if alike else did_you_mean(reference.name, known)
        return (
            f"There is no recipe of the framework {reference} ([pipcook] framework_recipes; known are {', '.join(known)}), and "
            f"no mirror that may have it ([pipcook] framework_mirror) on this machine.{near}"
        )

    def _cached(self) -> set[str]:
        return {cached.reference.partition("@")[0] for cached in list_frameworks(self.settings)}


def _addresses(spec: PipelineSpec) -> Iterator[tuple[JsonPath, str]]:
    """Yield the addresses that a document names beside those of its scripts, with their paths."""
    if spec.framework and isinstance(reference := parse_reference(spec.framework, spec.origin), UrlReference):
        yield FRAMEWORK, reference.url
    yield from watched(spec)


def _unlocked(spec: PipelineSpec, lock: Lock, locked: frozenset[str]) -> Iterator[tuple[JsonPath, str]]:
    """Yield what a document runs and its lock does not name."""
    again = f"so every run is refused. If it is meant to run, write the lock again: pipcook lock {spec.origin}"
    for path, script in scripts_of(spec):
        if script.reference not in locked:
            yield path, f"The lock beside this document does not name this script, {again}"
    if (lock.framework.asked if lock.framework else None) != spec.framework:
        yield FRAMEWORK, f"The lock beside this document names another framework, or none, {again}"
