"""The DAG bundle in which every pipeline document is a DAG file of its own.

It lies over another bundle: a folder of this machine, or whatever ``bundle`` names, and adds nothing to it. What Airflow
reads is a tree beside it, described in ``overlay.py`` and kept by ``tree.py``, in ``_pipcook/`` of the folder where Airflow
keeps bundles::

    _pipcook/{name}-{key}/latest/              the tree of the newest version
    _pipcook/{name}-{key}/versions/{version}/  the trees of those that runs have begun with
    _pipcook/{name}-{key}/documents/           copies of documents from the web, described in documents.py

``key`` is made of the bundle below, so that two Airflows of one machine do not take each other's trees.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from airflow.dag_processing.bundles.base import BaseDagBundle, get_bundle_storage_root_path
from airflow.providers.common.compat.sdk import AirflowException

from pipcook_provider.bundles.documents import Documents, check_urls, fetch
from pipcook_provider.bundles.tree import Tree
from pipcook_provider.errors import PipcookError, SettingsError

log = logging.getLogger(__name__)

#: Seconds between looks at a folder of this machine, where Airflow's own setting is longer: a look is cheap.
_REFRESH_INTERVAL: Final = 30

#: What Airflow's serialization of every DAG imports.
_SHARED: Final = (
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.providers.standard.sensors.external_task",
)


class PipcookDagBundle(BaseDagBundle):
    """Pipeline documents, and ordinary DAG files, as a DAG bundle.

    :param name: its name, which the bundle below gets too.
    :param version: the version that is wanted, where the bundle below has versions; the newest by default.
    :param path: the folder that it lies over; the dags folder by default.
    :param bundle: another bundle that it lies over instead: ``{"classpath": ..., "kwargs": {...}}``, as in
        ``[dag_processor] dag_bundle_config_list``.
    :param documents: http(s) URLs of further documents. Their DAGs stand beside those of the folder, and belong to no
        version: the newest copy is used.
    :param refresh_interval: seconds between looks for what is new; by default that of the bundle below, for a folder at
        most 30.
    :param options: Airflow's own others, such as ``view_url_template``.
    :raises SettingsError: these options cannot be used.
    """

    def __init__(
        self,
        *,
        name: str,
        version: str | None = None,
        path: str | None = None,
        bundle: Mapping[str, Any] | None = None,
        documents: Iterable[str] = (),
        refresh_interval: int | None = None,
        **options: Any,
    ) -> None:
        urls = check_urls(documents)
        self._inner = _inner(path, bundle, name=name, version=version)
        if refresh_interval is None:
            usual = self._inner.refresh_interval
            refresh_interval = min(usual, _REFRESH_INTERVAL) if bundle is None else usual
        super().__init__(name=name, version=version, refresh_interval=refresh_interval, **options)
        self.supports_versioning = self._inner.supports_versioning
        below = json.dumps([str(self._inner.path) if bundle is None else bundle], sort_keys=True, default=str)
        trees: Path = get_bundle_storage_root_path() / "_pipcook"  # type: ignore[no-untyped-call]
        self._area = trees / f"{self.name}-{hashlib.sha256(below.encode()).hexdigest()[:8]}"
        pinned = self.version if self.supports_versioning else None
        folder = self._area / "versions" / quote(pinned, safe="") if pinned else self._area / "latest"
        self._tree = Tree(folder, trees)
        self._documents = Documents(self._area / "documents", urls)

    def __getattr__(self, name: str) -> Any:
        """Return what only the bundle below has: a ``view_url_template`` may name it."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    @property
    def path(self) -> Path:
        """The folder that Airflow reads: the tree."""
        return self._tree.dags

    def initialize(self) -> None:
        """Make the tree, or bring it up to date where a look at its folders and documents from the web says so.

        :raises AirflowException: that failed; the tree is as it was.
        """
        self._inner.initialize()
        with _airflow_errors(self._inner.path, self._area):
            self._fetch(self.refresh_interval)
            if not self._is_current():
                with self.lock():
                    if not self._is_current():
                        self._update()
        super().initialize()

    def refresh(self) -> None:
        """Bring the bundle below, documents from the web and the tree up to date.

        :raises AirflowException: the latter failed; the tree is as it was.
        """
        self._inner.refresh()
        _make_parsing_cheap()
        with _airflow_errors(self._inner.path, self._area):
            self._fetch(0)
            with self.lock():
                self._update()
                self._documents.remove_others()

    def get_current_version(self) -> Any:
        """Return the version of the bundle below."""
        return self._inner.get_current_version()

    def view_url(self, version: str | None = None) -> str | None:
        """Return where the bundle below is shown."""
        return self._inner.view_url(version)

    def view_url_template(self) -> str | None:
        """Return the configured template, or that of the bundle below."""
        return super().view_url_template() or self._inner.view_url_template()

    def _is_current(self) -> bool:
        return self._tree.is_current(self._inner.path, self._documents.present())

    def _update(self) -> None:
        source = self._inner.path
        if not source.is_dir():
            raise PipcookError(
                f"{source} was expected to be the folder of the DAG bundle {self.name}; it is not there, so its DAGs stay as "
                "they were. Make it, or name another one in [dag_processor] dag_bundle_config_list."
            )
        self._tree.update(source, self._documents.present())
        self._remove_stale_versions()

    def _fetch(self, age: float) -> None:
        """Fetch the documents from the web that were not asked for in the last ``age`` seconds."""
        urls = self._documents.due(age)
        if urls:
            answers = fetch(urls)
            try:
                with self.lock():
                    self._documents.keep(answers)
            except OSError as exc:
                # A task whose document is there must not fail for want of room for a newer copy of another.
                log.warning(
                    "The documents of the DAG bundle %s that were fetched could not be kept in %s (%s); the copies that are "
                    "there count. Make it writable, or make room.",
                    self.name,
                    self._area,
                    exc.strerror or exc,
                )

    def _remove_stale_versions(self) -> None:
        """Remove the trees of versions that Airflow has removed."""
        versions = self._area / "versions"
        for folder in versions.iterdir() if versions.is_dir() else ():
            source = Tree(folder, folder).source()
            if source is None or not source.exists():
                shutil.rmtree(folder, ignore_errors=True)


def _make_parsing_cheap() -> None:
    """Import and read here what every parse needs: Airflow forks a process for each file, which then has it."""
    for module in _SHARED:
        with suppress(ImportError):
            import_module(module)
    with suppress(ImportError, PipcookError):  # each parse tells of it
        from pipcook_provider.dag_factory.building import reload_settings

        reload_settings()


def _inner(path: str | None, bundle: Mapping[str, Any] | None, **options: Any) -> BaseDagBundle:
    """Return the bundle below.

    :raises SettingsError: the options do not name one.
    """
    if bundle is None:
        if path is not None and not (isinstance(path, str) and path):
            raise _refused("a folder as path", path)
        from airflow.dag_processing.bundles.local import LocalDagBundle

        absolute = None if path is None else str(Path(path).expanduser().absolute())
        return LocalDagBundle(path=absolute, **options)
    if path is not None:
        raise _refused("a path or a bundle, not both", {"path": path, "bundle": bundle})
    if not isinstance(bundle, Mapping) or not isinstance(bundle.get("classpath"), str):
        raise _refused('a bundle with a "classpath"', bundle)
    kwargs = bundle.get("kwargs") or {}
    if bundle.keys() - {"classpath", "kwargs"} or not isinstance(kwargs, Mapping) or kwargs.keys() & options.keys():
        raise _refused('no more than "classpath" and "kwargs" in bundle, and neither name nor version in these', bundle)
    found = _class(bundle["classpath"])
    try:
        return found(**kwargs, **options)
    except TypeError as exc:
        raise SettingsError(
            f"The kwargs {', '.join(map(repr, kwargs)) or '{}'} of the bundle below a Pipcook DAG bundle do not fit "
            f"{bundle['classpath']}: {exc}. The bundle is left out. Correct them in [dag_processor] dag_bundle_config_list."
        ) from exc


def _class(classpath: str) -> type[BaseDagBundle]:
    module, _, name = classpath.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise _refused("the classpath of a DAG bundle class that can be imported", classpath) from exc
    if not (isinstance(found, type) and issubclass(found, BaseDagBundle)):
        raise _refused("the classpath of a DAG bundle class", classpath)
    return found


def _refused(expected: str, found: object) -> SettingsError:
    # Of kwargs nothing: they may hold a password.
    shown = f"an object with {', '.join(map(repr, found)) or 'nothing'}" if isinstance(found, Mapping) else repr(found)
    return SettingsError(
        f"A Pipcook DAG bundle expects {expected}; found {shown}. The bundle is left out. Correct it in [dag_processor] "
        'dag_bundle_config_list, such as {"name": "pipelines", "classpath": '
        '"pipcook_provider.bundles.PipcookDagBundle", "kwargs": {"path": "/opt/pipelines"}}.'
    )


@contextmanager
def _airflow_errors(source: Path, area: Path) -> Iterator[None]:
    """Turn errors into Airflow's: those of Airflow 3.1 would end its DAG processor otherwise."""
    try:
        yield
    except PipcookError as exc:
        raise AirflowException(str(exc)) from exc
    except OSError as exc:
        raise AirflowException(
            f"The DAG files of the pipeline documents in {source} could not be brought up to date in {area}: {exc}. They "
            f"are as they were. Make {source} readable and {area} writable, or set [dag_processor] dag_bundle_storage_path "
            "to another folder."
        ) from exc
