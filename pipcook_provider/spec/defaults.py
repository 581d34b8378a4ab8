"""``pipcook.defaults.json``: options that the documents of a folder, and of those below it, have in common.

The nearest file wins, key by key, and the document wins over all of them. Looking for the files is on the way of every
document, so it costs a system call a folder, and a file is read once as long as it, and what it names of the environment,
stays the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from pipcook_provider.errors import Problem, SpecError
from pipcook_provider.masking import masked
from pipcook_provider.spec.airflow import airflow_options
from pipcook_provider.spec.environment import Environment, replace_variables
from pipcook_provider.spec.folder import DEFAULTS_NAME
from pipcook_provider.spec.framework import absolute_framework, check_framework
from pipcook_provider.spec.keys import misspelt
from pipcook_provider.spec.reader import read, read_file, too_deep
from pipcook_provider.spec.schema import at, compile_schema, defaults_predicate, defaults_schema
from pipcook_provider.spec.stages import check_any_stage, stage_names

#: How deep objects are merged that stand in two files; below that, the nearer one counts as a whole.
_DEPTHS: Final[Mapping[str, int]] = {"train": 0, "airflow": 3}
#: Objects that count as a whole wherever they stand: two schedules are not one.
_WHOLE: Final = frozenset({"schedule"})


_Variables = tuple[tuple[str, str | None], ...]


class DefaultsFile(NamedTuple):
    """A file as it is now.

    :param path: its absolute path.
    :param is_trusted: whether it belongs to root, to whoever runs this, or to the owner of the document: another's file
        in a folder that all may write to must not steer a run.
    """

    path: str
    is_trusted: bool
    mode: int
    changed: int
    modified: int
    size: int
    inode: int


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the files above a document say.

    :param options: all that they say together.
    :param files: the options of each by its path, the nearest first.
    :param environment: the variables that they let documents name.
    """

    options: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]
    environment: Environment

    def below(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a document that conforms to the schema with these defaults for its options.

        Defaults of stages that it does not have are left out.
        """
        own = document.get("options", {})
        if own is None or not self.options:
            return document
        merged = _merged_options(own, self.options)
        airflow = merged.get("airflow")
        if airflow and airflow.get("stages"):
            stated = (own.get("airflow") or {}).get("stages") or {}
            names = {*stated, *stage_names(document)}
            stages = {name: stage for name, stage in airflow["stages"].items() if name in names}
            merged["airflow"] = {**airflow, "stages": stages}
        return {**document, "options": merged}

    def source(self, path: tuple[str | int, ...]) -> str | None:
        """Return the file that the value at a path comes from, unless it is the document's own."""
        return next((file for file, options in self.files.items() if _holds({"options": options}, path)), None)


NO_DEFAULTS: Final = Defaults({}, {}, {})


def load_defaults(document: Path) -> Defaults:
    """Return the defaults for a document.

    :raises SpecError: a file cannot be read or used; it has the place in that file.
    """
    found = _trusted(document)
    return _combined(found, _variables(found)) if found else NO_DEFAULTS


def find_defaults(document: Path) -> Iterator[DefaultsFile]:
    """Yield the files in the folder of a document and in those above it, the nearest first."""
    for path in _candidates(os.path.dirname(os.path.abspath(document))):  # noqa: PTH100, PTH120 - once a document
        if os.access(path, os.F_OK):
            with suppress(FileNotFoundError):
                yield describe_file(path, document)


def describe_file(path: str, document: Path) -> DefaultsFile:
    """Return a file as it is now.

    :param document: the document that it may hold defaults for.
    """
    link = os.lstat(path)
    status = os.stat(path) if stat.S_ISLNK(link.st_mode) else link  # noqa: PTH116 - once a document
    owners = {link.st_uid, status.st_uid}
    trusted = {0, os.geteuid()}
    is_trusted = owners <= trusted or owners <= {*trusted, document.stat().st_uid}
    stamp = (status.st_mode, status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino)
    return DefaultsFile(path, is_trusted, *stamp)


def read_defaults(file: DefaultsFile) -> Mapping[str, Any]:
    """Return the options in a file; what is relative in them is relative to its folder.

    :raises SpecError: it cannot be read or used.
    """
    return _checked(file, _variables(_trusted(Path(file.path))))


def _checked(file: DefaultsFile, variables: _Variables) -> Mapping[str, Any]:
    options, problems = _read(file, variables)
    if problems:
        raise SpecError(masked(file.path), problems)
    return options


def _trusted(document: Path) -> tuple[DefaultsFile, ...]:
    return tuple(file for file in find_defaults(document) if file.is_trusted)


def _variables(found: tuple[DefaultsFile, ...]) -> _Variables:
    """Return the variables that files let documents name, with their values now."""
    return tuple((name, os.environ.get(name)) for name in _names(found))


@lru_cache(maxsize=256)
def _names(found: tuple[DefaultsFile, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for file in found for name in _names_in(file)))


@lru_cache(maxsize=1024)
def _candidates(folder: str) -> tuple[str, ...]:
    folders = (folder, *map(str, Path(folder).parents))
    return tuple(os.path.join(one, DEFAULTS_NAME) for one in folders)  # noqa: PTH118


class _Content(NamedTuple):
    """What is in a file, or else what is wrong with it as JSON."""

    text: str
    document: Any
    problems: tuple[Problem, ...] = ()


@lru_cache(maxsize=256)
def _content(file: DefaultsFile) -> _Content:
    try:
        if not stat.S_ISREG(file.mode):
            raise _refused(file, "a folder or device")
        text = read_file(Path(file.path), "the defaults of a folder")
        if not text.strip():
            raise _refused(file, "nothing")
        return _Content(text, read(text, file.path))
    except SpecError as exc:
        return _Content("", None, exc.problems)


def _names_in(file: DefaultsFile) -> tuple[str, ...]:
    """Return the variables that a file lets documents name; none where it is wrong, which `_read` tells."""
    document = _content(file).document
    names = document.get("environment") if isinstance(document, dict) else None
    return tuple(names) if names and compile_schema(at(("environment",), defaults_schema()))(names) else ()


@lru_cache(maxsize=256)
def _read(file: DefaultsFile, variables: _Variables) -> tuple[Mapping[str, Any], tuple[Problem, ...]]:
    """Return the options in a file, or else what is wrong with it: a thousand documents may ask."""
    content = _content(file)
    try:
        return ({}, content.problems) if content.problems else (_parsed(file, content, dict(variables)), ())
    except SpecError as exc:
        return {}, exc.problems
    except RecursionError:
        return {}, too_deep(file.path).problems


def _parsed(file: DefaultsFile, content: _Content, environment: Environment) -> Mapping[str, Any]:
    document, texts = replace_variables(content.text, content.document, file.path, environment)
    if defaults_predicate()(document):
        try:
            options: dict[str, Any] = document.get("options") or {}
            _check(options)
            if not misspelt(document):
                return _absolute(options, os.path.dirname(file.path))  # noqa: PTH120
        except ValueError:
            pass  # told in full below
    from pipcook_provider.spec.diagnose import diagnose_defaults

    raise SpecError(file.path, diagnose_defaults(content.text, document, texts))


def _refused(file: DefaultsFile, found: str) -> SpecError:
    message = (
        f'Expected a file with defaults, such as {{"options": {{"framework": "tensorflow@2.21"}}}}, found {found}. '
    )
    return SpecError(file.path, (Problem.of_document(f"{message}Write it anew, or delete it."),))


def _check(options: Mapping[str, Any]) -> None:
    """Check what a JSON Schema cannot express.

    :raises ValueError: something cannot be used.
    """
    if framework := options.get("framework"):
        check_framework(framework)
    for name in airflow_options(options.get("airflow") or {}).stages:
        check_any_stage(name)


def _absolute(options: Mapping[str, Any], folder: str) -> Mapping[str, Any]:
    framework = options.get("framework")
    return {**options, "framework": absolute_framework(framework, folder)} if framework else options


@lru_cache(maxsize=256)
def _combined(found: tuple[DefaultsFile, ...], variables: _Variables) -> Defaults:
    files = {}
    for index, file in enumerate(found):
        names = _names(found[index:])  # those that a nearer file allows are none of this one's business
        files[file.path] = _checked(file, tuple(variable for variable in variables if variable[0] in names))
    combined: Mapping[str, Any] = {}
    for options in files.values():
        combined = _merged_options(combined, options)
    return Defaults(combined, files, dict(variables))


def _merged_options(near: Mapping[str, Any], far: Mapping[str, Any]) -> dict[str, Any]:
    merged = _merged(near, far, 0)
    for name, depth in _DEPTHS.items():
        if isinstance(near.get(name), dict) and isinstance(far.get(name), dict):
            merged[name] = _merged(near[name], far[name], depth)
    return merged


def _merged(near: Mapping[str, Any], far: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Return the keys of both; of objects in both, too, down to ``depth``. A key of the nearer one wins, also with null."""
    merged = {**near, **{name: value for name, value in far.items() if name not in near}}
    if depth:
        for name in (near.keys() & far.keys()) - _WHOLE:
            if isinstance(near[name], dict) and isinstance(far[name], dict):
                merged[name] = _merged(near[name], far[name], depth - 1)
    return merged


def _holds(value: Any, path: tuple[str | int, ...]) -> bool:
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True
