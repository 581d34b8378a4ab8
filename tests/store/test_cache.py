from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from forks import Say, forked, run_forked

from pipcook_provider.errors import CacheError
from pipcook_provider.store import uses
from pipcook_provider.store.cache import Built, Cache, Damage, safe_name

WHOLE = {"first": "1", "folder/second": "2"}
EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture(autouse=True)
def _no_marks_left() -> Iterator[None]:
    yield
    uses.release_all()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def content(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


def fill(directory: Path) -> Built:
    (directory / "folder").mkdir()
    (directory / "first").write_text("1")
    (directory / "folder" / "second").write_text("2")
    return Built("here")


def fail(directory: Path) -> Built:
    (directory / "first").write_text("1")
    raise ValueError("no second")


def hang(say: Say) -> Callable[[Path], Built]:
    """Build half, say so, and go on when told by a signal."""
    signal.signal(signal.SIGUSR1, lambda *_: None)

    def build(directory: Path) -> Built:
        say("half")
        (directory / "half").touch()
        signal.pause()
        (directory / "half").unlink()
        return fill(directory)

    return build


def leftovers(cache: Cache) -> list[Path]:
    return [path for folder in (".building", ".locks") for path in (cache.root / folder).glob("*")]


def test_built_once(cache: Cache) -> None:
    """A complete entry is returned without building again, also by a mere look-up."""
    assert cache.find("key") is None
    entry = cache.ensure("key", fill)
    assert cache.ensure("key", fail) == cache.find("key") == entry
    assert content(entry.path) == content(cache.root / "key") == WHOLE
    assert list(cache.entries()) == [entry]
    assert not leftovers(cache)


def test_record(cache: Cache) -> None:
    """An entry tells its key, where it came from, when it was built and what is in it."""
    digests = {"first": "a" * 64}

    def build(directory: Path) -> Built:
        fill(directory)
        (directory / "link").symlink_to("first")
        return Built("https://host/a.zip", "b" * 64, digests)

    entry = cache.ensure("https://host/a.zip", build)
    assert (entry.name, entry.key) == (safe_name(entry.key), "https://host/a.zip")
    assert (entry.source, entry.archive, entry.size, entry.files) == ("https://host/a.zip", "b" * 64, 2, 3)
    assert timedelta() <= datetime.now(UTC) - entry.created < timedelta(minutes=5)
    assert entry.digests().keys() == {"first", "folder/second", "link"}
    assert entry.digests()["first"] == "a" * 64, "a digest that is known is not computed"


def test_failing_build(cache: Cache) -> None:
    """A build that fails passes its error on and leaves no entry, and the next one succeeds."""
    with pytest.raises(ValueError, match="no second"):
        cache.ensure("key", fail)
    assert not list(cache.entries(complete=False))
    assert not leftovers(cache)
    assert content(cache.ensure("key", fill).path) == WHOLE


def test_refresh(cache: Cache) -> None:
    """A refresh makes a new generation; who reads the old one keeps it, and a refresh that fails changes nothing."""
    old = cache.ensure("key", fill)
    with pytest.raises(ValueError, match="no second"):
        cache.ensure("key", fail, refresh=True)
    assert cache.find("key") == old

    def build(directory: Path) -> Built:
        (directory / "third").touch()
        return Built("there")

    new = cache.ensure("key", build, refresh=True)
    assert content(new.path) == content(cache.root / "key") == {"third": ""}
    assert content(old.path) == WHOLE


def test_superseded(cache: Cache) -> None:
    """An old generation goes with the next build after its last reader."""

    def read(say: Say) -> None:
        say(cache.ensure("key", fill).path)
        signal.pause()

    with forked(read) as reader:
        old = Path(reader.line())
        run_forked(lambda: cache.ensure("key", fill, refresh=True))
        assert content(old) == WHOLE
        reader.kill()
    new = cache.ensure("key", fill, refresh=True)
    assert not old.exists()
    assert [path.name for path in (cache.root / ".entries").iterdir()] == [new.generation]


def test_many_processes(cache: Cache, tmp_path: Path) -> None:
    """Processes that ask for the same entry at once build it once and all get it whole."""
    script = """
import sys
from pathlib import Path
from pipcook_provider.store.cache import Built, Cache

def build(directory):
    with open(sys.argv[2], "a") as stream:
        stream.write("built\\n")
    (directory / "folder").mkdir()
    (directory / "first").write_text("1")
    (directory / "folder" / "second").write_text("2")
    return Built("here")

sys.stdin.read()
print(Cache(Path(sys.argv[1])).ensure("key", build).path)
"""
    log = tmp_path / "log"
    command = [sys.executable, "-c", script, str(cache.root), str(log)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    paths = {process.communicate()[0].strip() for process in processes}
    assert log.read_text() == "built\n"
    assert [content(Path(path)) for path in paths] == [WHOLE]
    assert not list((cache.root / ".uses").glob("*/*")), "marks end with their process"


def test_threads(cache: Cache) -> None:
    """Threads of one process that ask for the same entry at once build it once."""
    built: list[Path] = []

    def build(directory: Path) -> Built:
        built.append(directory)
        return fill(directory)

    threads = [threading.Thread(target=cache.ensure, args=("key", build)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert len(list((cache.root / ".uses").glob("*/*"))) == 1


def test_killed_builder(cache: Cache) -> None:
    """What a killed builder leaves is no entry, holds nobody up, and is swept by the next one."""
    with forked(lambda say: cache.ensure("key", hang(say))) as builder:
        assert builder.line() == "half"
        builder.kill()
    assert len(leftovers(cache)) == 2
    assert cache.find("key") is None
    assert content(cache.ensure("key", fill, on_wait=pytest.fail).path) == WHOLE
    assert not leftovers(cache)


def test_waiting(cache: Cache) -> None:
    """Who waits for another builder is told so, once, and gets the other's entry; other entries do not wait."""

    def wait(say: Say) -> None:
        say(cache.ensure("key", fail, on_wait=lambda: say("waiting")).path)

    with forked(lambda say: cache.ensure("key", hang(say))) as builder:
        assert builder.line() == "half"
        with forked(wait) as waiter:
            assert waiter.line() == "waiting"
            run_forked(lambda: cache.ensure("other", fill, on_wait=pytest.fail))
            os.kill(builder.pid, signal.SIGUSR1)
            assert content(Path(waiter.line())) == WHOLE


def test_lost_lock(cache: Cache) -> None:
    """Of two builders who both believe to be alone, one wins, the other gets its entry, and no reader sees a part."""

    def build(say: Say) -> None:
        say(cache.ensure("key", hang(say)).path)

    with forked(build) as first:
        assert first.line() == "half"
        (cache.root / ".locks" / "key.lock").unlink()
        entry = cache.ensure("key", fill)
        os.kill(first.pid, signal.SIGUSR1)
        assert Path(first.line()) == entry.path
        assert first.wait() == 0
    assert cache.verify(entry) == []


def test_builder_that_recreates_its_folder(cache: Cache) -> None:
    """A builder whose folder was swept away publishes nothing, although it made the folder anew."""

    def build(directory: Path) -> Built:
        shutil.rmtree(directory.parent)
        directory.mkdir(parents=True)
        return fill(directory)

    with pytest.raises(CacheError, match="another one took over"):
        cache.ensure("key", build)
    assert not list(cache.entries(complete=False))


def test_old_layout(cache: Cache) -> None:
    """A plain directory in the place of an entry, as versions before wrote them, is replaced by an entry."""
    (cache.root / "key" / "folder").mkdir(parents=True)
    assert cache.find("key") is None
    assert content(cache.ensure("key", fill).path) == content(cache.root / "key") == WHOLE
    assert not leftovers(cache)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "content is gone": lambda generation: shutil.rmtree(generation / "content"),
    "generation is gone": shutil.rmtree,
    "no entry.json": lambda generation: (generation / "entry.json").unlink(),
    "entry.json is cut off": lambda generation: os.truncate(generation / "entry.json", 20),
    "entry.json lacks a field": lambda generation: (generation / "entry.json").write_text('{"format": 1}'),
    "entry.json is a list": lambda generation: (generation / "entry.json").write_text("[]"),
    "no SHA256SUMS": lambda generation: (generation / "SHA256SUMS").unlink(),
    "SHA256SUMS is empty": lambda generation: os.truncate(generation / "SHA256SUMS", 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_incomplete(cache: Cache, damage: str) -> None:
    """An entry of which a part is missing counts as not there, is reported by a check, and is built anew."""
    DAMAGES[damage](cache.ensure("key", fill).path.parent)
    assert cache.find("key") is None
    assert not list(cache.entries())
    [entry] = cache.entries(complete=False)
    assert cache.verify(entry)
    assert content(cache.ensure("key", fill).path) == WHOLE


def change(directory: Path) -> None:
    (directory / "first").write_text("3")
    (directory / "folder" / "second").unlink()
    (directory / "__pycache__").mkdir()
    (directory / "__pycache__" / "later.pyc").touch()


def test_verify(cache: Cache) -> None:
    """A check finds files that changed or are missing; files that came later are no damage."""
    entry = cache.ensure("key", fill)
    seen: list[tuple[int, int]] = []
    assert cache.verify(entry, lambda done, total: seen.append((done, total))) == []
    assert seen[-1] == (2, 2)
    change(entry.path)
    assert cache.verify(entry) == [Damage("first", "changed"), Damage("folder/second", "missing")]
    os.truncate(entry.path.parent / "SHA256SUMS", 100)
    assert cache.verify(entry) == [Damage("SHA256SUMS", "changed")]


def test_repair(cache: Cache) -> None:
    """An entry that is to be verified is built anew when it is damaged, and only then."""
    reported: list[Damage] = []
    damaged = cache.ensure("key", fill)
    assert cache.ensure("key", fail, verify=True, on_damage=reported.extend) == damaged
    assert not reported
    change(damaged.path)
    repaired = cache.ensure("key", fill, verify=True, on_damage=reported.extend)
    assert [damage.path for damage in reported] == ["first", "folder/second"]
    assert content(repaired.path) == WHOLE
    assert repaired != damaged


def test_repair_frees_the_damaged(cache: Cache) -> None:
    """The damaged generation is not kept by who repairs it."""
    damaged = Path(run_forked(lambda: cache.ensure("key", fill).path))
    change(damaged)
    cache.ensure("key", fill, verify=True)
    assert not damaged.exists()


def test_lost_file(cache: Cache) -> None:
    """A file whose digest is known but that is not there is an error, and no entry."""
    with pytest.raises(CacheError, match="ghost"):
        cache.ensure("key", lambda _: Built("here", digests={"ghost": EMPTY_SHA256}))
    assert cache.find("key") is None


def test_unwritable(tmp_path: Path) -> None:
    """A root that cannot be a folder is an error that names the setting."""
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"Make the folder writable.*PIPCOOK_HOME"):
        Cache(tmp_path / "file").ensure("key", fill)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is missing")
def test_full_disk(cache: Cache) -> None:
    """A disk that is full while an entry is built is an error that says so, and leaves nothing behind."""

    def build(directory: Path) -> Built:
        fill(directory)
        Path("/dev/full").write_text("no room")
        return Built("here")

    with pytest.raises(CacheError, match="Make room there"):
        cache.ensure("key", build)
    assert not leftovers(cache)
    assert not list(cache.entries(complete=False))


def test_read_only(cache: Cache) -> None:
    """On a cache that may only be read, entries are found and verified without marks; building is an error."""
    run_forked(lambda: cache.ensure("key", fill))

    def read() -> str:
        # Relative: the folders above belong to the test's user alone.
        os.chdir(cache.root)
        if os.geteuid() == 0:
            os.setuid(65534)
        local = Cache(Path())
        entry = local.ensure("key", fail, verify=True)
        with pytest.raises(CacheError, match="Make the folder writable"):
            local.ensure("other", fill)
        return str(content(entry.path))

    folders = [path for path in (cache.root, *cache.root.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert run_forked(read) == str(WHOLE)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert not list((cache.root / ".uses").glob("*/*"))


def test_folders_that_may_not_be_written(cache: Cache) -> None:
    """A tree whose folders may not be written is removed like any other."""

    def build(directory: Path) -> Built:
        built = fill(directory)
        (directory / "folder").chmod(0o555)
        return built

    run_forked(lambda: cache.ensure("key", build))
    assert len(cache.prune(older_than=timedelta(), keep=None)) == 1
    assert not leftovers(cache)


def test_names() -> None:
    """Plain keys are their own names; others get names that are safe and differ wherever the keys do."""
    assert safe_name("tensorflow@2.21.0-py311-linux-x64") == "tensorflow@2.21.0-py311-linux-x64"
    odd = ["", ".", "..", "a/b", "a:b", "A", "a" * 300, ".locks", "https://h/a.zip?x=1", "https://h/a.zip?x=2", "中"]
    names = [safe_name(key) for key in odd]
    assert len({name.lower() for name in names}) == len(odd)
    assert all(len(name) < 140 and not name.startswith(".") and not set(name) & set("/\\: ?") for name in names)


def test_look_up_is_light(cache: Cache) -> None:
    """A program that finds nothing imports no lock."""
    script = "import sys; from pathlib import Path; from pipcook_provider.store.cache import Cache; "
    script += (
        f"Cache(Path({str(cache.root)!r})).find('key'); list(Cache(Path()).entries()); print('filelock' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "False\n"


def test_full_key_of_error(cache: Cache) -> None:
    """An error of the disk that no remedy is known for still names the entry and the cause."""

    def build(directory: Path) -> Built:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(directory))

    with pytest.raises(CacheError, match="key could not be built"):
        cache.ensure("key", build)
