"""Where things lie in a cache of directories; :mod:`.cache` describes it."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from pipcook_provider.store import uses
from pipcook_provider.store.folders import children, remove

CONTENT, RECORD, SUMS = "content", "entry.json", "SHA256SUMS"
_ENTRIES, _TRASH, _LINK = ".entries", ".trash-", "link"


def name_of(generation: str) -> str:
    """Return the name of the entry that a generation (``{name}~{id}``) belongs to."""
    return generation.rpartition("~")[0]


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths below a cache's root, and the few steps that change what is found there."""

    root: Path

    @property
    def entries(self) -> Path:
        return self.root / _ENTRIES

    @property
    def building(self) -> Path:
        return self.root / ".building"

    @property
    def uses(self) -> Path:
        return self.root / ".uses"

    @property
    def locks(self) -> Path:
        return self.root / ".locks"

    @property
    def downloads(self) -> Path:
        return self.root / ".downloads"

    def link(self, name: str) -> Path:
        return self.root / name

    def lock(self, name: str) -> Path:
        return self.locks / f"{name}.lock"

    def names(self) -> list[str]:
        """All that may be the name of an entry: links, and folders of the layout of old."""
        return sorted(name for name in children(self.root) if not name.startswith("."))

    def generation(self, name: str) -> str | None:
        """Return the generation that the entry's link points to, there or not."""
        try:
            folder, generation, content = self.link(name).readlink().parts
        except (OSError, ValueError):
            return None
        return generation if (folder, content) == (_ENTRIES, CONTENT) and name_of(generation) == name else None

    def superseded(self, name: str) -> list[str]:
        """Return the generations of an entry that its link does not point to."""
        current = self.generation(name)
        return [one for one in children(self.entries) if name_of(one) == name and one != current]

    def unfinished(self, name: str) -> list[Path]:
        """Return what builders of an entry are at work on, or have left."""
        return [self.building / one for one in children(self.building) if name_of(one) == name]

    def trash(self) -> list[Path]:
        """Return what is being deleted, or was when its deleter was killed."""
        return [self.building / one for one in children(self.building) if one.startswith(_TRASH)]

    def publish(self, staging: Path) -> bool:
        """Make a complete generation the one that its entry's link points to, in one step.

        :returns: whether it is; not where somebody else has swept it away.
        """
        generation = staging.name
        link = self.link(name_of(generation))
        try:
            (staging / _LINK).symlink_to(f"{_ENTRIES}/{generation}/{CONTENT}")
            self.entries.mkdir(exist_ok=True)
            place = staging.rename(self.entries / generation)
            if link.is_dir() and not link.is_symlink():
                self.discard(link)
            (place / _LINK).replace(link)
        except FileNotFoundError:
            return False
        return True

    def restore_link(self, generation: str) -> None:
        """Put the link to a generation back, unless there is another by now."""
        with contextlib.suppress(FileExistsError):
            self.link(name_of(generation)).symlink_to(f"{_ENTRIES}/{generation}/{CONTENT}")

    def sweep(self, name: str) -> None:
        """Remove what earlier builders of an entry left: what they did not finish, and generations that nobody uses."""
        for path in self.trash():
            remove(path)
        for path in self.unfinished(name):
            self.discard(path)
        for generation in self.superseded(name):
            self.discard_unused(generation)

    def discard_unused(self, generation: str) -> bool:
        """Remove a generation that no link points to, unless somebody uses it; return whether it is gone.

        The order of the steps makes it safe, also without a lock. First, it can get no link any more. Then it has none;
        whoever marks it from now on sees that. At last, whoever has marked it before is seen.
        """
        place = self.entries / generation
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (place / _LINK).unlink()
        if self.generation(name_of(generation)) == generation or uses.is_used(self.uses / generation):
            return False
        self.discard(place)
        remove(self.uses / generation)
        return True

    def discard(self, path: Path) -> None:
        """Remove a file or folder so that it is gone at once, as a whole, for everybody."""
        trash = self.building / f"{_TRASH}{secrets.token_hex(8)}"
        self.building.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            remove(path.rename(trash))
