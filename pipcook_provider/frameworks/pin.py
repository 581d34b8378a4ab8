"""What a framework exactly was, so that another run, or another machine, can be held to it.

A framework that came as a zip is known by the digest of the zip. One that was built here, or is a directory, is known by
the digest of its files, and a built one also by its record: from that, the same can be built again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipcook_provider.errors import FrameworkError, IntegrityError
from pipcook_provider.frameworks.framework import Framework, Manifest
from pipcook_provider.store.cache import Entry
from pipcook_provider.store.contents import read_contents

#: What two builds of the same wheels may differ in: byte-code, scripts with the installing Python's path, and what the
#: installer notes about itself.
_VOLATILE = re.compile(
    r"(^|/)__pycache__/|\.pyc$|^site-packages/bin/|\.dist-info/(RECORD|INSTALLER|REQUESTED|direct_url\.json|uv_cache\.json)$"
    r"|^node_modules/\.package-lock\.json$"
)


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
        if entry and entry.archive:
            return cls(archive=entry.archive)
        digests = entry.digests() if entry else read_contents(framework.path, {}).digests
        manifest = Manifest.read(framework.path)
        recorded = manifest.document if manifest.document.get("installed") else None
        return cls(contents=contents_digest(digests), manifest=recorded)

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
            f"the framework {framework.reference} was expected to be the locked one ({self._named()}), but the one at "
            f"{framework.path} is another ({found._named()}), so nothing was run.{_differences(self, found)} Fetch the "
            "locked one from the mirror that the lock was made with, or look at what changed and write the lock again "
            "with pipcook lock."
        )

    def holds(self, framework: Framework) -> bool:
        """Return whether a framework is this one."""
        return FrameworkPin.of(framework)._digests == self._digests

    @property
    def _digests(self) -> tuple[str | None, str | None]:
        return self.archive, self.contents

    def _named(self) -> str:
        return f"zip with SHA-256 {self.archive}" if self.archive else f"contents with SHA-256 {self.contents}"


def contents_digest(digests: Mapping[str, str]) -> str:
    """Return the SHA-256 (hex) over the files of a framework, by the digests of each."""
    kept = sorted((path, digest) for path, digest in digests.items() if not _VOLATILE.search(path))
    return hashlib.sha256("".join(f"{digest}  {path}\n" for path, digest in kept).encode()).hexdigest()


def _differences(locked: FrameworkPin, found: FrameworkPin) -> str:
    if locked.manifest is None or found.manifest is None:
        return ""
    expected, got = (
        {package["name"]: package["version"] for package in manifest["installed"]}
        for manifest in (locked.manifest, found.manifest)
    )
    names = [name for name in sorted(expected | got) if expected.get(name) != got.get(name)]
    told = "; ".join(f"{name} {got.get(name, 'none')} instead of {expected.get(name, 'none')}" for name in names[:5])
    return f" It has {told}." if told else ""
