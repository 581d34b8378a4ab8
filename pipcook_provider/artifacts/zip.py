"""``pipcook-artifact-zip``: the contents of the model's folder as one zip file."""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipcook_provider.errors import ArtifactError

#: What the run's folder holds for other purposes.
_RESERVED = re.compile(r"model|cache|data|scripts|framework|pipeline-config\.json|\..*")

_STORED = frozenset({".gz", ".jpg", ".jpeg", ".keras", ".npz", ".png", ".zip", ".zst"})


class ZipArtifact:
    """Writes the files of the model's folder, without a top folder, to the zip file that option ``target`` names."""

    def initialize(self, options: Mapping[str, Any]) -> None:
        """Check that ``target`` can become a file.

        :raises ArtifactError: it cannot.
        """
        target = options.get("target")
        if not isinstance(target, str) or not target.strip():
            raise ArtifactError(
                f"pipcook-artifact-zip: expected option 'target' to be the path of a zip file, found {target!r}. "
                'Write "target": "model.zip", relative to the run\'s folder, or an absolute path.'
            )
        path = Path(target)
        if path.is_dir():
            raise ArtifactError(f"pipcook-artifact-zip: target {target!r} is a folder; name a file in it.")
        if any(_RESERVED.fullmatch(place.relative_to(Path.cwd()).parts[0]) for place in _places(path)):
            raise ArtifactError(
                f"pipcook-artifact-zip: target {target!r} lies in a place of the run's folder that has another purpose. "
                'Choose another one, such as "model.zip".'
            )
        nearest = next(parent for parent in path.absolute().parents if parent.exists())
        if not os.access(nearest, os.W_OK):
            raise ArtifactError(
                f"pipcook-artifact-zip: target {target!r} cannot be written: {nearest} is read-only here."
            )

    def build(self, model_dir: Path, options: Mapping[str, Any]) -> Path:
        """Write the zip and return its path; whoever looks sees the old file or the new one, never half of it."""
        target = Path(options["target"])
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(model_dir.rglob("*")):
                    method = zipfile.ZIP_STORED if path.suffix in _STORED else zipfile.ZIP_DEFLATED
                    if path.is_file():
                        archive.write(path, path.relative_to(model_dir), method)
            partial.chmod(0o666 & ~_umask())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return target


def _places(path: Path) -> list[Path]:
    """Return where a target lies in the run's folder: as it is written, and with links followed."""
    found = [Path(os.path.normpath(path.absolute())), path.resolve()]
    return [place for place in found if place.is_relative_to(Path.cwd()) and place != Path.cwd()]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
