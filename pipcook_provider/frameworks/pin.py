"""What a framework exactly was, so that another run, or another machine, can be held to it.

A framework that came as a zip is known by the digest of the zip. One that was built here, or is a directory, is known by
the digest of its files, and a built one also by its record: from that, the same can be built again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipcook_provider.errors import CacheError, FrameworkError, IntegrityError
from pipcook_provider.frameworks.framework import Framework, Manifest
from pipcook_provider.frameworks.reference import NameReference, parse_reference
from pipcook_provider.store.cache import Entry
from pipcook_provider.store.contents import read_contents

#: What two builds of the same wheels may differ in: scripts with the installing Python's path, and what the installer notes
#: about itself; byte-code too, but only that of a source that is there.
_VOLATILE = re.compile(
    r"^site-packages/bin/|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_cache\.json)$"
    r"|^node_modules/\.package-lock\.json$"
)
_BYTE_CODE = re.compile(r"(?P<folder>(?:.*/)?)__pycache__/(?P<module>[^/.]+)\.[^/]+\.pyc")


@dataclass(frozen=True, slots=True)
class FrameworkPin:
    """A framework's identity on one platform; one of the digests is there.

    :param archive: SHA-256 (hex) of the zip that it was unpacked from.
    :param contents: SHA-256 (hex) over its files, byte-code and the installer's own records aside.
    :param manifest: its ``framework.json``, where that records what was installed.
    """

    archive: str | None = None
    contents: str | None = None
    manifest: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, framework: Framework) -> FrameworkPin:
        """Return the identity of a framework that is there."""
        entry = Entry.around(framework.path)
        if entry is None:
            return cls(contents=_digest(_directory_digests(framework.path)))
        if entry.archive:
            return cls(archive=entry.archive)
        manifest = Manifest.read(framework.path)
        recorded = manifest.document if manifest.installed else None
        return cls(contents=_digest(_lasting(entry.digests())), manifest=recorded)

    @classmethod
    def of_build(cls, framework: Framework) -> FrameworkPin | None:
        """Return the identity of a framework that was built here and has its record; None of any other."""
        try:
            found = cls.of(framework)
        except (CacheError, FrameworkError):  # damaged
            return None
        return found if found.manifest else None

    @classmethod
    def of_zip(cls, framework: Framework) -> FrameworkPin | None:
        """Return the identity of a framework that is not known by a name, but was unpacked from a zip."""
        entry = Entry.around(framework.path)
        is_named = isinstance(parse_reference(framework.reference), NameReference)
        return None if entry is None or is_named or not entry.archive else cls(archive=entry.archive)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> FrameworkPin:
        """Read what :meth:`to_json` wrote.

        :raises FrameworkError: it is something else.
        """
        pin = cls(**{key: document.get(key) for key in ("archive", "contents", "manifest")})
        if not (isinstance(pin.archive, str) or isinstance(pin.contents, str)):
            raise FrameworkError(f"expected the digest of a framework as archive or contents, found {document!r}.")
        return pin

    def to_json(self) -> dict[str, Any]:
        """Return the identity as JSON can hold it."""
        values = {"archive": self.archive, "contents": self.contents, "manifest": self.manifest}
        return {key: value for key, value in values.items() if value is not None}

    def check(self, framework: Framework) -> None:
        """Compare a framework with the identity.

        :raises IntegrityError: it is another one.
        """
        found = FrameworkPin.of(framework)
        if found._digests == self._digests:
            return
        raise IntegrityError(
            f"the framework {framework.reference} was expected to be the one that the lock names, or that this run began "
            f"with ({self.describe()}), but the one at {framework.path} is another ({found.describe()}), so nothing was "
            f"run.{_differences(self, found)} Get it from where the lock was made, or look at what changed and write the "
            "lock again with pipcook lock.",
            retryable=False,
        )

    def holds(self, framework: Framework) -> bool:
        """Return whether a framework is this one."""
        return FrameworkPin.of(framework)._digests == self._digests

    @property
    def _digests(self) -> tuple[str | None, str | None]:
        return self.archive, self.contents

    def describe(self) -> str:
        """Return the identity as a person may read it."""
        if self.archive:
            return f"unpacked from the zip with SHA-256 {self.archive}"
        return f"of the contents with SHA-256 {self.contents}"


def _digest(digests: Mapping[str, str]) -> str:
    """Return the SHA-256 (hex) over files, by the digest of each."""
    lines = (f"{digest}  {path}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _lasting(digests: Mapping[str, str]) -> dict[str, str]:
    """Return what is the same in each build of the same packages."""

    def is_lasting(path: str) -> bool:
        found = _BYTE_CODE.fullmatch(path)
        return not (_VOLATILE.search(path) or (found and f"{found['folder']}{found['module']}.py" in digests))

    return {path: digest for path, digest in digests.items() if is_lasting(path)}


def _directory_digests(directory: Path) -> Mapping[str, str]:
    """Return the digests of all files of a directory that is used where it is.

    :raises IntegrityError: it has a link that leads out of it, to what no digest covers.
    """
    contents = read_contents(directory, {})
    root = directory.resolve()
    for link in contents.links:
        if not (directory / link).resolve().is_relative_to(root):
            raise IntegrityError(
                f"{directory} was expected to hold all of the framework, but its link {link} leads out of it, so a lock "
                "cannot vouch for it. Copy what it leads to, or pack the framework as a zip.",
                retryable=False,
            )
    return contents.digests


def _differences(locked: FrameworkPin, found: FrameworkPin) -> str:
    if locked.manifest is None or found.manifest is None:
        return ""
    expected, got = (
        {package["name"]: package["version"] for package in manifest["installed"]}
        for manifest in (locked.manifest, found.manifest)
    )
    names = [name for name in sorted(expected | got) if expected.get(name) != got.get(name)]
    told = "; ".join(f"{name} {got.get(name, 'none')} instead of {expected.get(name, 'none')}" for name in names[:5])
    return f" It has {told}." if told else " Its packages are the same: another file differs, such as index.py."
