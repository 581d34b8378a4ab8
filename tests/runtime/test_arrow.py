from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipcook_provider.errors import DatasetError
from pipcook_provider.runtime.arrow import read_pool, write_pool
from pipcook_provider.runtime.datasets import DatasetMeta, DatasetPool, Dimension, Sample

VALUES = [
    *(True, False, 0, -(2**63), 2**63 - 1, 0.0, -0.0, 1e-320, math.inf, math.nan, None),
    *("", "aé中\0", b"", b"\0\xff", [], {}, [[]], [None, 1], [1, 2.5, "a", None, b"z", [np.int8(1)]]),
    *({"name": "cat", "bbox": [1.0, 2.0, 3.0, 4.0]}, {"a b": {"": 1}}, {"$pipcook": ["bytes", 0]}),
    *(np.float32(1.5), np.bool_(True), np.str_("abc"), np.str_(""), np.bytes_(b"ab"), np.complex64(1 + 2j)),
    *(np.datetime64("2026-01-01"), np.datetime64("NaT"), np.float16(2), np.uint64(2**64 - 1)),
    *(np.zeros((2, 3), np.uint8), np.zeros((0, 4), np.int32), np.array(5), np.array([True, False])),
    *(np.arange(4, dtype=">i4"), np.array([1 + 2j]), np.array(["a", "bcd"]), np.array(["2026"], "M8[D]")),
    *(np.asfortranarray(np.arange(6).reshape(2, 3)), np.arange(10)[::2], np.arange(3, dtype=np.float16)),
]


def same(left: Any, right: Any) -> bool:
    """Whether two values are alike down to types, dtypes, key order, signs of zero and NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray | np.generic):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return repr(left) == repr(right)


def through_files(samples: list[Sample], directory: Path, **options: Any) -> tuple[list[Sample], dict[str, Any]]:
    manifest = write_pool(DatasetPool.from_samples(train=samples), directory, **options)
    dataset = read_pool(directory).train
    assert dataset is not None
    return list(dataset), manifest


@pytest.mark.parametrize("batch_bytes", [1, 1 << 20])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_value_comes_out_as_it_went_in(value: Any, batch_bytes: int, tmp_path: Path) -> None:
    """A value comes out with its type, alone, beside None, and inside lists and dictionaries."""
    samples = [Sample(value, value), Sample(None, value), Sample([value, None], {"k": value}), Sample(value, None)]
    read, _ = through_files(samples, tmp_path, batch_bytes=batch_bytes)
    assert all(same(list(left), list(right)) for left, right in zip(samples, read, strict=True))


@pytest.mark.parametrize("seed", range(30))
def test_any_mixture_comes_out_as_it_went_in(seed: int, tmp_path: Path) -> None:
    """Samples of any mixture of types come out as they went in, in few segments."""
    chance = random.Random(seed)

    def grow(depth: int) -> Any:
        kind = chance.random()
        if depth and kind < 0.25:
            return [grow(depth - 1) for _ in range(chance.randrange(4))]
        if depth and kind < 0.4:
            return {key: grow(depth - 1) for key in chance.sample(["a", "b", "c d", "é", ""], chance.randrange(4))}
        return chance.choice(VALUES)

    samples = [Sample(grow(3), grow(3)) for _ in range(40)]
    read, manifest = through_files(samples, tmp_path, batch_bytes=chance.choice([1, 300, 1 << 20]))
    assert all(same(list(left), list(right)) for left, right in zip(samples, read, strict=True))
    assert len(manifest["splits"]["train"]["segments"]) < 10


def test_alternating_shapes_take_two_segments(tmp_path: Path) -> None:
    """Shapes that alternate widen the schema once, even when each sample fills a batch."""
    samples = [Sample(np.full((2 + number % 3, 4), number), "x") for number in range(50)]
    read, manifest = through_files(samples, tmp_path, batch_bytes=1)
    assert [sample.data.shape for sample in read] == [sample.data.shape for sample in samples]
    assert len(manifest["splits"]["train"]["segments"]) == 2


class Number(int):
    """An int that is more than one."""


@pytest.mark.parametrize(
    ("value", "place", "found"),
    [
        ((1, 2), "", "a value of type tuple"),
        ({"boxes": [[1], (2,)]}, ".boxes[1]", "a value of type tuple"),
        ({"a b": {1}}, "['a b']", "a value of type set"),
        ([1, "a", 2**63], "[2]", "the integer 9223372036854775808, which needs more than 64 bits"),
        ("\ud800", "", "the text '\\ud800', which UTF-8 cannot encode"),
        ({1: 2}, "", "a dictionary with the key 1"),
        (np.array([object()]), "", "numpy data of dtype object"),
        (np.ma.zeros(2), "", "a value of type numpy.ma.MaskedArray"),
        (Number(1), "", "Number"),
    ],
)
def test_value_that_would_change_is_refused_by_its_place(value: Any, place: str, found: str, tmp_path: Path) -> None:
    """What cannot be carried unchanged is refused, and the message names split, index and path."""
    with pytest.raises(DatasetError) as caught:
        through_files([Sample(1), Sample(1), Sample(value)], tmp_path)
    assert str(caught.value).startswith(f"train[2].data{place}: expected ")
    assert found in str(caught.value)


def test_list_that_contains_itself_is_refused(tmp_path: Path) -> None:
    """A list that contains itself is refused with a message, not with a RecursionError."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(DatasetError, match="nested more than 100 deep"):
        through_files([Sample(endless)], tmp_path)


def test_meta_and_splits_are_kept(tmp_path: Path) -> None:
    """Meta comes back with true sizes, an empty split stays empty, a missing one missing."""
    meta = DatasetMeta(type="Image", categories=("a", "b"), dimension=Dimension(4, 3, 1), extra={"mean": [0.5]})
    write_pool(DatasetPool.from_samples(train=[Sample(1)], test=[], meta=meta), tmp_path)
    pool = read_pool(tmp_path)
    assert pool.meta == DatasetMeta(
        type="Image",
        size={"train": 1, "test": 0},
        categories=("a", "b"),
        dimension=Dimension(4, 3, 1),
        extra={"mean": [0.5]},
    )
    assert pool.test is not None
    assert list(pool.test) == []
    assert pool.valid is None


def test_batches_in_file_order_are_views_of_the_file(tmp_path: Path) -> None:
    """Stacked batches share the map's memory, and whatever is read from it cannot be written to."""
    samples = [Sample(np.full((2, 2), number, np.uint8), number) for number in range(10)]
    write_pool(DatasetPool.from_samples(train=samples), tmp_path)
    dataset = read_pool(tmp_path).train
    assert dataset is not None
    data, labels = next(dataset.batches(4))
    assert not data.flags.owndata
    assert not data.flags.writeable
    assert data.shape == (4, 2, 2)
    assert labels.tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        dataset[0].data[0, 0] = 1


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_shuffled_batches_hold_what_rows_hold(size: int, tmp_path: Path) -> None:
    """Batches gathered over several record batches and segments agree with samples read one by one."""
    samples = [Sample(np.full(3, number, np.int16), f"category {number}") for number in range(60)]
    write_pool(DatasetPool.from_samples(train=samples), tmp_path, batch_bytes=600)
    dataset = read_pool(tmp_path).train
    assert dataset is not None
    for _ in range(2):
        stacked = list(dataset.batches(size))
        one_by_one = [(sample.data.tolist(), sample.label) for sample in dataset]
        assert [row.tolist() for data, _ in stacked for row in data] == [data for data, _ in one_by_one]
        assert [str(label) for _, labels in stacked for label in labels] == [label for _, label in one_by_one]
        dataset.shuffle(3)
    assert sorted(one_by_one) == sorted((sample.data.tolist(), sample.label) for sample in samples)
    assert one_by_one != [(sample.data.tolist(), sample.label) for sample in samples]


def test_each_transform_runs_once_for_each_sample(tmp_path: Path) -> None:
    """Writing runs a transform once for each sample, reading the result never."""
    calls: list[int] = []

    def double(sample: Sample) -> Sample:
        calls.append(sample.data)
        return Sample(sample.data * 2, sample.label)

    pool = DatasetPool.from_samples(train=[Sample(number) for number in range(5)]).transform(double)
    write_pool(pool, tmp_path)
    dataset = read_pool(tmp_path).train
    assert dataset is not None
    assert [[sample.data for sample in dataset] for _ in range(2)] == [[0, 2, 4, 6, 8]] * 2
    assert calls == [0, 1, 2, 3, 4]


def test_failing_transform_names_the_sample(tmp_path: Path) -> None:
    """An exception in a transform is the user's own, with a note that names the sample."""

    def divide(sample: Sample) -> Sample:
        return Sample(1 / sample.data)

    pool = DatasetPool.from_samples(train=[Sample(1), Sample(0)]).transform(divide)
    with pytest.raises(ZeroDivisionError) as caught:
        write_pool(pool, tmp_path)
    assert caught.value.__notes__ == ["This happened while train[1] was made."]


SCRIPT = """
from pipcook_provider.runtime import Sample
calls = 0

def augment(sample):
    global calls
    calls += 1
    return Sample(sample.data + calls, sample.label)
"""


def test_lazy_transform_is_carried_to_the_next_stage(tmp_path: Path) -> None:
    """A lazy transform runs on each reading in the next process, after both folder and script have moved."""
    code = f"""
import sys; sys.path[:0] = {sys.path!r}
from pathlib import Path
from pipcook_provider.runtime import DatasetPool, Sample
from pipcook_provider.runtime.arrow import read_pool, write_pool
from pipcook_provider.runtime.loading import load_module
step, root = sys.argv[1], Path(sys.argv[2])
if step == "write":
    augment = load_module(root / "scripts/1-dataflow.py", "dataflow").augment
    pool = DatasetPool.from_samples(train=[Sample(0)]).transform(lambda s: Sample(s.data + 100)).transform(augment, lazy=True)
    write_pool(pool, root / "cache/0")
else:
    dataset = read_pool(root / "cache/0").train
    print([dataset[0].data, dataset[0].data])
"""
    script = tmp_path / "before" / "scripts" / "1-dataflow.py"
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT)
    subprocess.run([sys.executable, "-c", code, "write", tmp_path / "before"], check=True)
    (tmp_path / "before").rename(tmp_path / "after")
    read = subprocess.run(
        [sys.executable, "-c", code, "read", tmp_path / "after"], check=True, capture_output=True, text=True
    )
    assert read.stdout == "[101, 102]\n"


def test_lazy_transform_must_be_findable(tmp_path: Path) -> None:
    """A lazy transform that another process could not find is refused when the dataset is written."""
    pool = DatasetPool.from_samples(train=[Sample(0)]).transform(lambda sample: sample, lazy=True)
    with pytest.raises(DatasetError, match="top level of its script"):
        write_pool(pool, tmp_path)


@pytest.mark.parametrize("manifest", [None, "{", json.dumps({"version": 99})])
def test_folder_without_a_dataset_is_a_clear_error(manifest: str | None, tmp_path: Path) -> None:
    """A missing, damaged or foreign manifest is told by its folder."""
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(DatasetError, match=str(tmp_path)):
        read_pool(tmp_path)


def test_truncated_segment_is_a_clear_error(tmp_path: Path) -> None:
    """A segment that was cut short is told by its file."""
    write_pool(DatasetPool.from_samples(train=[Sample(b"x" * 1000)]), tmp_path)
    segment = tmp_path / "train-0.arrow"
    segment.write_bytes(segment.read_bytes()[:500])
    dataset = read_pool(tmp_path).train
    assert dataset is not None
    with pytest.raises(DatasetError, match=r"train-0\.arrow"):
        dataset.next()


PEAK = """
import sys; sys.path[:0] = {path!r}
from pathlib import Path
import numpy as np
from pipcook_provider.runtime import Dataset, DatasetPool, Sample
from pipcook_provider.runtime.arrow import read_pool, write_pool

def peak():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))) >> 10

def make(sample):
    return Sample(np.full((256, 1024), sample.data % 256, np.uint8), sample.label)

numbers = DatasetPool.from_samples(train=[Sample(number) for number in range(1200)])
directory = Path(sys.argv[1])
write_pool(DatasetPool.from_samples(train=[Sample(np.zeros(9), 1)]), directory / "warm")
before = peak()
write_pool(numbers.transform(make), directory)
dataset = read_pool(directory).train
total = sum(int(sample.data[0, 0]) for sample in dataset) + sum(int(data[0, 0, 0]) for data, _ in dataset.batches(1))
dataset.shuffle(1)
total += sum(int(data[0, 0, 0]) for data, _ in dataset.batches(1))
assert total == 3 * sum(number % 256 for number in range(1200)), total
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_memory_is_bounded_by_the_batch(tmp_path: Path) -> None:
    """Writing and reading 300 MB, in order and shuffled, takes less than half of that at its peak."""
    code = PEAK.format(path=sys.path)
    done = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 150
