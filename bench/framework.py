"""What frameworks cost: finding one that is there, unpacking one, building one, and eight processes that want the same.

TensorFlow throughout. Rounds alternate between the contenders, ratios are taken within a round, and their median counts.
Whatever is compared runs as a process of its own, into folders that were never there before: nothing is deleted between
rounds, since a disk that has just freed a million blocks is another disk. That takes up to 35 GB below ``TMPDIR`` (which
should be the file system of uv's cache, or uv copies where it would link) and, at first, the package registry.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from uv import find_uv_bin

from pipcook_provider.frameworks import ensure_framework
from pipcook_provider.settings import Settings

REFERENCE = "tensorflow@2.21"
REQUIREMENTS = ("tensorflow-cpu==2.21.*" if sys.platform == "linux" else "tensorflow==2.21.*", "pillow>=11")
PIPCOOK = (sys.executable, "-m", "pipcook_provider.cli")
ROUNDS = 3
SPACE = 35e9

#: What a person would write to unpack a zip by two threads.
TWO_THREADS = """
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from zipfile import ZipFile
with ZipFile(sys.argv[1]) as archive, ThreadPoolExecutor(2) as pool:
    members = sorted(archive.infolist(), key=lambda member: -member.file_size)
    for member in members:
        os.makedirs(os.path.dirname(os.path.join(sys.argv[2], member.filename)), exist_ok=True)
    list(pool.map(lambda member: archive.extract(member, sys.argv[2]), members))
"""

OURS = """
import sys
from pathlib import Path
from pipcook_provider.archive import extract_zip
assert extract_zip(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def main() -> int:
    if shutil.disk_usage(tempfile.gettempdir()).free < SPACE:
        sys.exit(f"expected {SPACE / 1e9:.0f} GB of free disk in {tempfile.gettempdir()}: set TMPDIR to where they are")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = Path(os.environ.get("PIPCOOK_HOME", folder / "home"))
        framework = ensure_framework(REFERENCE, Settings(home=home)).path
        missed = [
            warm(home, folder) > 0.005,
            command(home) > 0.4,
            build(folder) > 1.2,
        ]
        run((*PIPCOOK, "framework", "build", REFERENCE, "--output", str(folder / "mirror")), home)
        missed.append(together(folder) > 1.15)
        missed.append(extract(next((folder / "mirror").rglob("*.zip")), framework, folder) < 1.5)
    return int(any(missed))


def warm(home: Path, folder: Path) -> float:
    """Return the seconds that it takes a running process to find a framework that is there."""
    settings = Settings(home=home)
    lookup = hub_lookup(folder)
    times: dict[str, list[float]] = {"ours": [], "hub": []}
    for _ in range(200):
        times["ours"].append(timed(lambda: ensure_framework(REFERENCE, settings)))
        if lookup:
            times["hub"].append(timed(lookup))
    seconds = median(times["ours"][1:])
    print(f"found in the cache            {seconds * 1e3:8.2f} ms  (limit 5)")
    if lookup:
        print(f"  huggingface_hub's snapshot  {median(times['hub'][1:]) * 1e3:8.2f} ms")
    return seconds


def hub_lookup(folder: Path) -> Callable[[], object] | None:
    """Return how huggingface_hub finds a snapshot that is there, without a network; None where it is not installed."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return None
    commit = "0" * 40
    repository = folder / "hub" / "models--me--tensorflow"
    for path, text in {"refs/main": commit, f"snapshots/{commit}/framework.json": "{}"}.items():
        (repository / path).parent.mkdir(parents=True)
        (repository / path).write_text(text, encoding="utf-8")
    return lambda: snapshot_download("me/tensorflow", cache_dir=folder / "hub", local_files_only=True)


def command(home: Path) -> float:
    """Return the seconds that the command takes where the framework is there."""
    run((*PIPCOOK, "framework", "ensure", REFERENCE), home)
    seconds = median(run((*PIPCOOK, "framework", "ensure", REFERENCE), home) for _ in range(11))
    bare = median(run((sys.executable, "-c", "pass"), home) for _ in range(11))
    print(f"pipcook framework ensure      {seconds:8.3f} s   (limit 0.4)")
    print(f"  an empty Python program     {bare:8.3f} s")
    return seconds


def build(folder: Path) -> float:
    """Return how much longer a build takes than uv alone, when all packages are in uv's cache."""

    def install(*options: str) -> Callable[[Path], float]:
        uv = (
            find_uv_bin(),
            "pip",
            "install",
            "--quiet",
            "--python",
            sys.executable,
            "--only-binary",
            ":all:",
            *options,
        )
        return lambda target: run((*uv, "--target", str(target), *REQUIREMENTS), folder)

    contenders: dict[str, Callable[[Path], float]] = {
        "pipcook": lambda home: run((*PIPCOOK, "framework", "ensure", REFERENCE), home),
        "uv --compile-bytecode": install("--compile-bytecode"),
        "uv": install(),
    }
    rounds = race(contenders, folder / "build", ROUNDS + 1)[1:]
    ratio = median(one["pipcook"] / one["uv --compile-bytecode"] for one in rounds)
    plain = median(one["pipcook"] / one["uv"] for one in rounds)
    print(f"built from a warm uv cache    {of(rounds, 'pipcook'):8.2f} s")
    for name in ("uv --compile-bytecode", "uv"):
        print(f"  {name:27} {of(rounds, name):8.2f} s")
    print(f"to uv --compile-bytecode      {ratio:8.2f}    (limit 1.2)")
    print(f"to uv without it              {plain:8.2f}")
    return ratio


def extract(archive: Path, framework: Path, folder: Path) -> float:
    """Return how many times as fast as unzip a zip of the framework is unpacked, digests and all."""
    contenders: dict[str, Callable[[Path], float]] = {
        "extract_zip": lambda target: run((sys.executable, "-c", OURS, str(archive), str(target)), folder),
        "unzip": lambda target: run(("unzip", "-q", str(archive), "-d", str(target)), folder),
    }
    others: dict[str, Callable[[Path], float]] = {
        "zipfile": lambda target: run((sys.executable, "-m", "zipfile", "-e", str(archive), str(target)), folder),
        "zipfile, two threads": lambda target: run(
            (sys.executable, "-c", TWO_THREADS, str(archive), str(target)), folder
        ),
        "cp -r": lambda target: run(("cp", "-r", str(framework), str(target)), folder),
    }
    if shutil.which("unzip") is None:
        sys.exit("expected the program unzip, found none: there is nothing to compare with. Install it.")
    archive.read_bytes()
    rounds = race(contenders, folder / "unzip", ROUNDS)
    ratio = median(one["unzip"] / one["extract_zip"] for one in rounds)
    print(f"unpacked, with digests        {of(rounds, 'extract_zip'):8.2f} s")
    print(f"  unzip                       {of(rounds, 'unzip'):8.2f} s")
    for name, seconds in race(others, folder / "others", 1)[0].items():
        print(f"  {name:27} {seconds:8.2f} s   (once)")
    print(f"times as fast as unzip        {ratio:8.2f}    (limit 1.5)")
    return ratio


def together(folder: Path) -> float:
    """Return how much longer eight processes take than one, all in need of the same framework from a mirror."""
    with serving(folder / "mirror") as address:
        words = (*PIPCOOK, "framework", "ensure", REFERENCE, "--mirror", address)
        contenders: dict[str, Callable[[Path], float]] = {
            "one": lambda home: run(words, home),
            "eight": lambda home: run(words, home, count=8),
        }
        rounds = race(contenders, folder / "together", ROUNDS + 2)  # disks are the noisiest here
    ratio = median(one["eight"] / one["one"] for one in rounds)
    print(f"from a mirror, one process    {of(rounds, 'one'):8.2f} s")
    print(f"from a mirror, eight          {of(rounds, 'eight'):8.2f} s")
    print(f"eight to one                  {ratio:8.2f}    (limit 1.15)")
    return ratio


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """Serve a directory by HTTP in a process of its own; yield its address."""
    server = (sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(directory))
    with subprocess.Popen(server, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().partition("(")[2].partition("/)")[0]
        finally:
            process.terminate()


def race(contenders: dict[str, Callable[[Path], float]], folder: Path, count: int) -> list[dict[str, float]]:
    """Return each round's seconds by contender; each gets a folder that is not there yet."""
    rounds = []
    for number in range(count):
        seconds = {}
        for name, run_in in contenders.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            os.sync()  # what is still to be written must not slow whoever comes next
            seconds[name] = run_in(folder / name / str(number))
        rounds.append(seconds)
    return rounds


def run(words: tuple[str, ...], home: Path, count: int = 1) -> float:
    """Return the seconds until so many processes, started at once, have all ended."""
    environment = {**os.environ, "PIPCOOK_HOME": str(home)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its byte-code
    started = time.perf_counter()
    processes = [
        subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(count)
    ]
    told = [process.communicate()[0] for process in processes]
    elapsed = time.perf_counter() - started
    for process, output in zip(processes, told, strict=True):
        if process.returncode != 0:
            sys.exit(f"{' '.join(words[:6])} failed:\n{output[-2000:]}")
    return elapsed


def of(rounds: list[dict[str, float]], name: str) -> float:
    return median(one[name] for one in rounds)


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
