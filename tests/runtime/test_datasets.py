from __future__ import annotations

import numpy as np
import pytest

from pipcook_provider.errors import DatasetError
from pipcook_provider.runtime.datasets import Dataset, DatasetMeta, DatasetPool, Sample


@pytest.fixture
def dataset() -> Dataset:
    return Dataset([Sample(number, str(number)) for number in range(10)])


def numbers(samples: list[Sample]) -> list[int]:
    return [sample.data for sample in samples]


def test_cursor_goes_through_all_samples(dataset: Dataset) -> None:
    """next() gives one sample after the other, and None at the end."""
    samples = [dataset.next() for _ in range(11)]
    assert samples[:10] == list(dataset)
    assert samples[10] is None


def test_next_batch_goes_on_at_the_cursor(dataset: Dataset) -> None:
    """next_batch(n) gives n samples, -1 the rest, and nothing at the end."""
    dataset.seek(2)
    assert numbers(dataset.next_batch(3)) == [2, 3, 4]
    assert numbers(dataset.next_batch(-1)) == [5, 6, 7, 8, 9]
    assert dataset.next_batch(4) == []
    with pytest.raises(ValueError, match="-2"):
        dataset.next_batch(-2)


@pytest.mark.parametrize("place", [-1, 11])
def test_seek_refuses_places_that_are_not_there(dataset: Dataset, place: int) -> None:
    """seek() takes places from 0 to the number of samples only."""
    with pytest.raises(IndexError, match="from 0 to 10"):
        dataset.seek(place)


def test_iteration_starts_afresh(dataset: Dataset) -> None:
    """Iterating neither depends on the cursor nor moves it, however often it is done."""
    dataset.seek(4)
    assert [numbers(list(dataset)) for _ in range(2)] == [list(range(10))] * 2
    assert dataset.next() == Sample(4, "4")


def test_indexing_counts_from_either_end(dataset: Dataset) -> None:
    """Indexes and slices work as those of a list do."""
    assert (dataset[0].data, dataset[-1].data) == (0, 9)
    assert numbers(dataset[7:]) == [7, 8, 9]
    with pytest.raises(IndexError):
        dataset[10]


def test_shuffle_depends_on_its_seed_alone(dataset: Dataset) -> None:
    """The same seed gives the same order, whatever order there was, and the cursor stands at the start."""
    dataset.seek(5)
    dataset.shuffle(7)
    once = numbers(list(dataset))
    dataset.shuffle(8)
    dataset.shuffle(7)
    assert numbers(list(dataset)) == once != list(range(10))
    assert sorted(once) == list(range(10))
    assert numbers(dataset.next_batch(-1)) == once


def test_transform_keeps_the_order_and_leaves_the_original_alone(dataset: Dataset) -> None:
    """A transformed dataset has the shuffled order; the original keeps its samples."""
    dataset.shuffle(1)
    order = numbers(list(dataset))
    doubled = dataset.transform(lambda sample: Sample(sample.data * 2, sample.label))
    negated = doubled.transform(lambda sample: Sample(-sample.data, sample.label))
    dataset.shuffle(2)
    assert numbers(list(negated)) == [-2 * number for number in order]


def test_transform_must_return_a_sample(dataset: Dataset) -> None:
    """A transform that returns something else is named with what it returned."""

    def broken(sample: Sample) -> Sample:
        return sample.data  # type: ignore[no-any-return]

    with pytest.raises(DatasetError, match=r"broken\(\) to return a Sample, found int"):
        dataset.transform(broken).next()


def test_pool_fills_in_sizes() -> None:
    """A pool's meta knows the size of each split that there is, also after a transform."""
    pool = DatasetPool.from_samples(train=[Sample(1), Sample(2)], predicted=[], meta=DatasetMeta(type="Table"))
    assert pool.meta.size == {"train": 2, "predicted": 0}
    table = pool.transform(lambda sample: sample, DatasetMeta(type="General", categories=("a",)))
    assert table.meta == DatasetMeta(type="General", size={"train": 2, "predicted": 0}, categories=("a",))
    assert list(pool.splits) == ["train", "predicted"]


def test_pool_refuses_what_is_no_sample() -> None:
    """from_samples names the place of the first thing that is no Sample."""
    with pytest.raises(DatasetError, match=r"test\[1\]: expected a Sample, found tuple"):
        DatasetPool.from_samples(test=[Sample(1), (1, 2)])  # type: ignore[list-item]


def test_batches_stack_samples_in_memory() -> None:
    """batches() stacks arrays and numbers, and leaves what has no common shape as objects."""
    dataset = Dataset([Sample(np.full(2, number), {"n": number}) for number in range(3)])
    (first, labels), (second, _) = dataset.batches(2)
    assert first.tolist() == [[0, 0], [1, 1]]
    assert second.tolist() == [[2, 2]]
    assert labels.tolist() == [{"n": 0}, {"n": 1}]
    ragged, _ = next(Dataset([Sample([1]), Sample([1, 2])]).batches(2))
    assert ragged.tolist() == [[1], [1, 2]]


def test_all_samples_make_one_batch() -> None:
    """batches(-1) gives everything at once; a size that makes no sense is refused."""
    dataset = Dataset([Sample(float(number), number) for number in range(5)])
    ((data, labels),) = dataset.batches(-1)
    assert (data.tolist(), labels.tolist()) == ([0.0, 1.0, 2.0, 3.0, 4.0], [0, 1, 2, 3, 4])
    with pytest.raises(ValueError, match="found 0"):
        next(dataset.batches(0))
