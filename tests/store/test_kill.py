"""A process may be killed at any moment; whoever comes next finds nothing broken and waits for nobody."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import requests  # noqa: F401 - imported once, not in each child
from filelock import SoftFileLease  # noqa: F401
from forks import Fork, Say, forked, run_forked
from http_server import serving

from pipcook_provider.archive import extract_zip
from pipcook_provider.settings import Settings
from pipcook_provider.store.cache import Built, Cache, Entry
from pipcook_provider.store.fetch import download

SEED = random.randrange(2**32)
KILLS = 60  # of each kind
FILES = 120


@dataclass(frozen=True, slots=True)
class World:
    """A cache, and a server whose zip is to be in it."""

    cache: Cache
    url: str
    settings: Settings

    def ensure(self, *, refresh: bool = False, verify: bool = False) -> Entry:
        return self.cache.ensure(
            "key", self.build, refresh=refresh, verify=verify, on_wait=lambda: pytest.fail("waits")
        )

    def build(self, directory: Path) -> Built:
        archive = self.cache.download("key")
        digest = download(self.url, archive, self.settings, resumable=True)
        known = extract_zip(archive, directory)
        archive.unlink()
        return Built(self.url, digest, dict(list(known.items())[: FILES // 2]))

    def cold(self) -> None:
        """Download, unpack, hash and publish where nothing is."""
        self.cache.prune(older_than=timedelta(), keep=None)
        self.ensure()

    def refresh(self) -> None:
        self.ensure(refresh=True)

    def prune(self) -> None:
        self.cache.prune(older_than=timedelta(), keep=None)

    def repair(self) -> None:
        """Damage an entry, and have it repaired."""
        (self.ensure().path / "file1").write_text("damage")
        self.ensure(verify=True)

    def check(self) -> None:
        """Show that nothing is broken, without help and at once."""
        for entry in self.cache.entries(complete=False):
            assert entry.is_complete
            damage = self.cache.verify(entry)
            assert not [one for one in damage if one.path != "file1"], damage
        entry = self.ensure()
        assert len(list(entry.path.iterdir())) == entry.files == FILES


def archive() -> bytes:
    stream, chance = BytesIO(), random.Random(1)
    with ZipFile(stream, "w", ZIP_DEFLATED) as bundle:
        for number in range(FILES):
            bundle.writestr(f"file{number}", chance.randbytes(4000) * 4)
    return stream.getvalue()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    def serve(say: Say) -> None:
        with serving() as server:
            say(server.put("/key.zip", archive()))
            time.sleep(600)

    with forked(serve) as server:
        yield World(Cache(tmp_path / "cache"), server.line(), Settings(home=tmp_path))


def duration(action: Callable[[], object]) -> float:
    start = time.monotonic()
    run_forked(action)
    return time.monotonic() - start


@pytest.mark.parametrize("kind", ["cold", "refresh", "prune", "repair"])
def test_kills(world: World, kind: str) -> None:
    """Processes are killed at random moments of building, refreshing, pruning and repairing, and nothing is broken."""
    chance, action = random.Random(f"{SEED}{kind}"), getattr(world, kind)
    run_forked(world.ensure)
    longest = max(duration(action) for _ in range(3)) * 1.1
    killed, attempts = 0, 0
    while killed < KILLS:
        attempts += 1
        if kind == "prune":
            run_forked(world.ensure)
        assert attempts < 10 * KILLS, f"hardly anything could be killed; seed {SEED}"
        fork = Fork(lambda _: action())
        killed += not fork.ends_within(chance.uniform(0, longest))
        # Not after each kill: what several of them leave together is worse.
        if chance.random() < 0.3:
            check = Fork(lambda _: world.check())
            assert check.wait() == 0, f"after {killed} kills, seed {SEED}"
    assert Fork(lambda _: world.check()).wait() == 0, f"after all kills, seed {SEED}"
    run_forked(world.prune)
    left = [path for path in world.cache.root.rglob("*") if not path.is_dir() or path.is_symlink()]
    left = [path for path in left if path.parent != world.cache.download("key").parent]
    assert not left, f"seed {SEED}"
