"""What handing a dataset on costs: writing against writing the raw bytes, reading at two sizes, peak memory.

Rounds alternate between the contenders, and the median of each round's ratio counts, since disks and neighbours differ
from moment to moment. Raw bytes are written sample by sample to one buffered file, by the same loop that makes the
samples. Opening is timed up to the first sample. Peak memory is that of a fresh process that writes a dataset, reads it in
order and reads it shuffled.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from pipcook_provider.runtime.arrow import read_pool, write_pool
from pipcook_provider.runtime.datasets import Dataset, DatasetPool, Sample
from pipcook_provider.runtime.rows import Rows

SHAPES = ((32, 32, 3), (64, 64, 3), (224, 224, 3))
WRITE_BYTES = 256 << 20
SIZES = (64 << 20, 1024 << 20)
ROUNDS = 5


class Images(Rows):
    """Random images, as if a dataflow had just made them."""

    def __init__(self, shape: tuple[int, ...], size: int) -> None:
        generator = np.random.default_rng(0)
        self._images = [generator.integers(0, 256, shape, np.uint8) for _ in range(16)]
        self._count = size // self._images[0].nbytes

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> Sample:
        return Sample(self._images[row % 16], "category")


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ratios = [write(shape, folder) for shape in SHAPES]
        opened = [read(size, folder) for size in SIZES]
        peaks = [peak(size, folder) for size in SIZES]
    slowest = min(ratios)
    growth = peaks[1] - peaks[0]
    print(f"slowest write against raw bytes {slowest:.2f}  (limit 0.5)")
    print(f"opening {SIZES[1] // SIZES[0]} times the size takes {opened[1] / opened[0]:.2f} times as long  (limit 2)")
    print(f"peak memory grows by {growth} MB from {SIZES[0] >> 20} to {SIZES[1] >> 20} MB of data  (limit 128)")
    return int(slowest < 0.5 or opened[1] > 2 * opened[0] or growth > 128)


def write(shape: tuple[int, ...], folder: Path) -> float:
    """Return how fast a dataset is written, as share of the speed of raw bytes."""
    images = Images(shape, WRITE_BYTES)
    pool = DatasetPool(train=Dataset(images))
    pairs = []
    for _ in range(ROUNDS):
        raw = timed(lambda: write_raw(images, folder / "raw"))
        (folder / "raw").unlink()
        pairs.append((raw, timed(lambda: write_pool(pool, folder / "write"))))
        (folder / "write" / "train-0.arrow").unlink()
    ratio = median(raw / arrow for raw, arrow in pairs)
    raw, arrow = (WRITE_BYTES / median(times) / 1e9 for times in zip(*pairs, strict=True))
    print(f"write {'x'.join(map(str, shape)):>10}: raw {raw:.2f} GB/s, dataset {arrow:.2f} GB/s, ratio {ratio:.2f}")
    return ratio


def write_raw(images: Images, path: Path) -> None:
    with path.open("wb") as file:
        for row in range(len(images)):
            file.write(images[row].data)


def read(size: int, folder: Path) -> float:
    """Return the seconds that it takes to open a dataset and read its first sample."""
    directory = folder / f"read-{size}"
    write_pool(DatasetPool(train=Dataset(Images((64, 64, 3), size))), directory)

    def first() -> None:
        assert first_split(directory)[0].label == "category"

    seconds = median(timed(first) for _ in range(21))
    dataset = first_split(directory)
    in_order = timed(lambda: sum(len(data) for data, _ in dataset.batches(64)))
    dataset.shuffle(0)
    shuffled = timed(lambda: sum(len(data) for data, _ in dataset.batches(64)))
    print(
        f"read {size >> 20:5} MB: opened in {seconds * 1e3:.2f} ms; batches of 64 at {len(dataset) / in_order:,.0f} "
        f"images/s in order, {len(dataset) / shuffled:,.0f} shuffled"
    )
    return seconds


def first_split(directory: Path) -> Dataset:
    dataset = read_pool(directory).train
    assert dataset is not None
    return dataset


def peak(size: int, folder: Path) -> int:
    """Return the peak memory in MB of a process that writes and reads a dataset."""
    command = [sys.executable, __file__, "peak", str(size), str(folder / f"peak-{size}")]
    used = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"peak {size >> 20:5} MB written, read, and read shuffled: {used} MB")
    return used


def use_memory(size: int, directory: Path) -> None:
    write_pool(DatasetPool(train=Dataset(Images((64, 64, 3), size))), directory)
    dataset = first_split(directory)
    for _ in range(2):
        for data, _ in dataset.batches(64):
            data.max()
        dataset.shuffle(0)
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    print(int(next(line.split()[1] for line in status if line.startswith("VmHWM"))) >> 10)


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        use_memory(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(main())
