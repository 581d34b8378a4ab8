"""``<name>.lock.json`` beside a document: the digests of all that the document runs.

Written by ``pipcook lock``. Where it lies beside a document, ``prepare`` runs only what it names: the very bytes of each
script and of the modules beside it, the same artifact processors, the same framework::

    {
      "lockVersion": 1,
      "scripts": {"model.py": {"sha256": "...", "modules": {"layers.py": "..."}}},
      "processors": {"pipcook-artifact-zip@0.0.2": {"package": "pipcook-provider", "sha256": "..."}},
      "framework": {"asked": "tensorflow@2.21", "reference": "tensorflow@2.21.0",
                    "platforms": {"py311-linux-x64": {"contents": "...", "manifest": {...}}}}
    }

A script is named by its URL, without the query unless another script differs only by that, or by its path relative to the
document.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipcook_provider.errors import FrameworkError, LockError
from pipcook_provider.frameworks import absolute_reference
from pipcook_provider.frameworks.pin import FrameworkPin
from pipcook_provider.runtime.processors import processor_files
from pipcook_provider.spec import PipelineSpec, ScriptSpec
from pipcook_provider.store.atomic import write_atomically
from pipcook_provider.store.scripts import CollectedScript

VERSION = 1


@dataclass(frozen=True, slots=True)
class LockedFramework:
    """The framework of a locked document.

    :param asked: ``options.framework`` as the document said it.
    :param reference: what it stood for.
    :param platforms: its identity by platform and variant, such as ``py311-linux-x64`` or ``py311-linux-x64-gpu``.
    """

    asked: str
    reference: str
    platforms: Mapping[str, FrameworkPin]


@dataclass(frozen=True, slots=True)
class Lock:
    """What a document may run.

    :param scripts: by name: ``sha256`` of the script, and ``modules``, the digests of the modules beside it.
    :param processors: by name: ``package`` that offers it, and ``sha256`` over its Python files.
    """

    scripts: Mapping[str, Mapping[str, Any]]
    processors: Mapping[str, Mapping[str, str]]
    framework: LockedFramework | None

    @classmethod
    def beside(cls, origin: str) -> Lock | None:
        """Return the lock beside a document; None where there is none, and for documents from the network.

        :param origin: path or URL of the document.
        :raises LockError: it cannot be read.
        """
        path = _find(origin)
        if path is None:
            return None
        try:
            return cls._read(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, FrameworkError) as exc:
            raise LockError(
                f"{path} was expected to be the lock of the document beside it, but cannot be read as one "
                f"({type(exc).__name__}: {exc}), so nothing was run. Write it again with pipcook lock, or delete it."
            ) from exc

    @classmethod
    def _read(cls, document: Any) -> Lock:
        if document["lockVersion"] != VERSION:
            raise ValueError(f"expected lockVersion {VERSION}, found {document['lockVersion']!r}")
        framework = document["framework"]
        return cls(
            {
                name: {"sha256": entry["sha256"], "modules": entry["modules"]}
                for name, entry in document["scripts"].items()
            },
            {
                name: {"package": entry["package"], "sha256": entry["sha256"]}
                for name, entry in document["processors"].items()
            },
            LockedFramework(
                framework["asked"],
                framework["reference"],
                {platform: FrameworkPin.read(pin) for platform, pin in framework["platforms"].items()},
            )
            if framework
            else None,
        )

    def write(self, path: Path) -> None:
        """Write the lock, whole or not at all.

        :raises LockError: it cannot be written.
        """
        framework = self.framework and {
            "asked": self.framework.asked,
            "reference": self.framework.reference,
            "platforms": {platform: pin.to_json() for platform, pin in sorted(self.framework.platforms.items())},
        }
        document = {
            "lockVersion": VERSION,
            "scripts": dict(self.scripts),
            "processors": dict(self.processors),
            "framework": framework,
        }
        try:
            write_atomically(path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
        except OSError as exc:
            raise LockError(f"the lock {path} cannot be written: {exc}. Make room there, or make it writable.") from exc

    def references(self, spec: PipelineSpec) -> frozenset[str]:
        """Return the references of a document that the lock names: of its scripts, and its framework."""
        names = {script.reference: {_full_name(script), _name(spec.origin, script)} for script in spec.scripts}
        found = {reference for reference, alike in names.items() if not alike.isdisjoint(self.scripts)}
        if self.framework is not None and self.framework.asked == spec.framework:
            found.add(spec.framework)
        return frozenset(found)

    def check_scripts(self, spec: PipelineSpec, found: Iterable[Mapping[str, Any]]) -> None:
        """Compare the scripts of a document with the lock.

        :param found: as :func:`describe_script` returns it of each script, in their order.
        :raises LockError: the lock does not name one, or names another.
        """
        for script, digests in zip(spec.scripts, found, strict=True):
            name = _full_name(script) if _full_name(script) in self.scripts else _name(spec.origin, script)
            expected = self.scripts.get(name)
            if expected is None:
                raise _refused(f"the script {name}", "it is not among those that it names", spec.origin)
            if expected["sha256"] != digests["sha256"]:
                why = f"its SHA-256 digest is {digests['sha256']}, not {expected['sha256']}"
                raise _refused(f"the script {name}", why, spec.origin)
            for module in sorted({*expected["modules"], *digests["modules"]}):
                wanted, got = expected["modules"].get(module), digests["modules"].get(module)
                if wanted != got:
                    what = "is new" if wanted is None else "is gone" if got is None else "has changed"
                    raise _refused(f"the script {name}", f"the module {module} beside it {what}", spec.origin)

    def check_processors(self, spec: PipelineSpec) -> None:
        """Compare the artifact processors of a document with the lock.

        :raises LockError: the lock does not name one, or names another.
        """
        for name in (artifact.processor for artifact in spec.artifacts):
            if self.processors.get(name) != describe_processor(name):
                why = "its files have changed" if name in self.processors else "it is not among those that it names"
                raise _refused(f"the artifact processor {name}", why, spec.origin)

    def check_environment(self, spec: PipelineSpec) -> None:
        """Refuse variables that bring other code into a stage than the lock names.

        :raises LockError: ``options.airflow.env`` sets one.
        """
        for name in spec.airflow.env:
            if name.startswith(("PYTHON", "LD_", "DYLD_")):
                raise LockError(
                    f"options.airflow.env sets {name}, which can bring other code into a stage than {_find(spec.origin)} "
                    "names, so nothing was run. Remove the variable, or delete the lock."
                )

    def framework_reference(self, spec: PipelineSpec) -> str:
        """Return a reference to the framework that a document asks for, exact where it is a name."""
        assert self.framework is not None
        return absolute_reference(self.framework.reference, spec.origin)

    def check_framework(self, spec: PipelineSpec) -> None:
        """Compare the framework that a document asks for with the one that was locked.

        :raises LockError: it is another one, or one of them is none.
        """
        named = self.framework.asked if self.framework else None
        if named != spec.framework:
            subject = f"the framework {spec.framework or named}"
            why = f"it names {named or 'none'}" if spec.framework else "the document names none"
            raise _refused(subject, why, spec.origin)

    def framework_pin(self, spec: PipelineSpec, platform: str) -> FrameworkPin:
        """Return what the framework of a document must be on a platform.

        :raises LockError: the lock names none for this platform.
        """
        assert self.framework is not None
        pin = self.framework.platforms.get(platform)
        if pin is None:
            known = ", ".join(sorted(self.framework.platforms))
            why = f"it names it for {known} only, and this is {platform}"
            raise _refused(f"the framework {self.framework.asked}", why, spec.origin)
        return pin


def describe_scripts(spec: PipelineSpec, found: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the digests of a document's scripts, by the names that its lock calls them.

    :param found: as :func:`describe_script` returns it of each script, in their order.
    """
    described: dict[str, Mapping[str, Any]] = {}
    for script, digests in zip(spec.scripts, found, strict=True):
        name = _name(spec.origin, script)
        if described.setdefault(name, digests) != digests:
            described[_full_name(script)] = digests
    return described


def lock_path(origin: str) -> Path | None:
    """Return where the lock of a document is; None for a document from the network."""
    if origin.startswith(("http://", "https://")):
        return None
    path = Path(origin)
    return path.with_name(f"{path.stem}.lock.json")


def _find(origin: str) -> Path | None:
    """Return the lock beside a document, or beside what it leads to where it is a link."""
    if lock_path(origin) is None:
        return None
    paths = (lock_path(origin), lock_path(str(Path(origin).resolve())))
    return next((path for path in paths if path and os.path.lexists(path)), None)


def _name(origin: str, script: ScriptSpec) -> str:
    if script.path is None:
        return script.uri
    return Path(os.path.relpath(script.path, Path(origin).parent)).as_posix()


def _full_name(script: ScriptSpec) -> str:
    return script.reference.partition("#")[0]


def describe_script(script: CollectedScript) -> dict[str, Any]:
    """Return the digests of a script that was collected into a run, and of its modules."""
    modules = sorted(file for file in script.modules.rglob("*") if file.is_file()) if script.modules else []
    assert script.modules is not None or not modules
    return {
        "sha256": _sha256(script.file),
        "modules": {file.relative_to(script.modules).as_posix(): _sha256(file) for file in modules},  # type: ignore[arg-type]
    }


def describe_processor(name: str) -> dict[str, str]:
    """Return what identifies an artifact processor.

    :raises ArtifactError: no installed package offers it.
    """
    package, files = processor_files(name)
    digest = hashlib.sha256()
    for file, path in files.items():
        digest.update(f"{_sha256(path)}  {file}\n".encode())
    return {"package": package, "sha256": digest.hexdigest()}


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _refused(subject: str, why: str, origin: str) -> LockError:
    return LockError(
        f"{subject} was expected to be as {_find(origin) or lock_path(origin)} names it, but {why}, so nothing was run. Look "
        f"at what changed; if it is meant to, write the lock again: pipcook lock {origin}"
    )
