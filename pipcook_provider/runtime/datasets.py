"""What stages hand on to each other: a pool of datasets, one for each split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

from pipcook_provider.errors import DatasetError
from pipcook_provider.runtime.rows import Array, ListedRows, Rows, Stack, Transform, TransformedRows
from pipcook_provider.runtime.samples import SPLITS, DatasetMeta, Dimension, Sample

__all__ = ["Dataset", "DatasetMeta", "DatasetPool", "Dimension", "Sample"]

SHUFFLE_WINDOW = 8  # blocks that are shuffled together: what a shuffled reading keeps in memory


class Dataset:
    """The samples of one split, read by a cursor, by index, one after the other, or in stacked batches.

    Arrays of a dataset that another stage wrote are read-only views of its files: copy before changing them.

    :param rows: where the samples come from; a sequence of samples will do.
    """

    def __init__(self, rows: Rows | Sequence[Sample]) -> None:
        self.rows = rows if isinstance(rows, Rows) else ListedRows(rows)
        self._order: range | Array = range(len(self.rows))
        self._position = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Sample]:
        """Iterate over all samples from the first on, wherever the cursor stands."""
        rows = self.rows
        return (rows[row] for row in self.order())

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """Return one sample, or a list of them; negative indexes count from the end."""
        if isinstance(index, slice):
            return [self.rows[int(row)] for row in self._order[index]]
        return self.rows[int(self._order[index])]

    def next(self) -> Sample | None:
        """Return the next sample, or ``None`` at the end."""
        if self._position >= len(self):
            return None
        self._position += 1
        return self[self._position - 1]

    def next_batch(self, size: int) -> list[Sample]:
        """Return the next samples: at most ``size``, or all the rest for -1; an empty list at the end.

        :raises ValueError: ``size`` is below -1.
        """
        if size < -1:
            raise ValueError(f"expected a number of samples, or -1 for all the rest, found {size}")
        stop = len(self) if size == -1 else min(self._position + size, len(self))
        samples = self[self._position : stop]
        self._position = stop
        return samples

    def seek(self, index: int) -> None:
        """Put the cursor before the sample ``index``, from 0 to the number of samples.

        :raises IndexError: there is no such place.
        """
        if not 0 <= index <= len(self):
            raise IndexError(f"expected a place from 0 to {len(self)}, found {index}")
        self._position = index

    def shuffle(self, seed: int | None = None) -> None:
        """Put the samples into a random order, which depends on ``seed`` alone, and the cursor at the start.

        A dataset on disk with more than 8 record batches is shuffled 8 batches at a time, in a random order of batches:
        reading it then never needs more of the file in memory than those.
        """
        import numpy as np

        generator = np.random.default_rng(seed)
        blocks = self.rows.blocks()
        order = [blocks[number] for number in generator.permutation(len(blocks))]
        windows = [order[start : start + SHUFFLE_WINDOW] for start in range(0, len(order), SHUFFLE_WINDOW)]
        shuffled = [generator.permutation(np.concatenate(window)) for window in windows]
        self._order = np.concatenate(shuffled) if shuffled else range(0)
        self._position = 0

    def transform(self, function: Callable[[Sample], Sample], *, lazy: bool = False) -> Dataset:
        """Return a dataset whose samples go through ``function``; see :meth:`DatasetPool.transform`."""
        before = self.rows.transforms if isinstance(self.rows, TransformedRows) else ()
        source = self.rows.source if isinstance(self.rows, TransformedRows) else self.rows
        transformed = Dataset(TransformedRows(source, (*before, Transform(function, lazy))))
        transformed._order = self._order
        return transformed

    def batches(self, size: int) -> Iterator[Stack]:
        """Yield ``(data, labels)`` of ``size`` samples at a time (the last may be shorter), each as one numpy array.

        In the order of the file, tensors and numbers are views of it, not copies.

        :param size: samples in a batch; -1 for all in one.
        :raises ValueError: another size below 1.
        """
        if size < 1 and size != -1:
            raise ValueError(f"expected a batch of at least 1 sample, or -1 for all in one, found {size}")
        size = len(self) if size == -1 else size
        for start in range(0, len(self), max(size, 1)):
            yield self.rows.gather(self._order[start : start + size])

    def order(self) -> list[int] | range:
        """Return the rows in the order in which they are read."""
        return self._order if isinstance(self._order, range) else self._order.tolist()


@dataclass(frozen=True, slots=True)
class DatasetPool:
    """The datasets of a pipeline, by split, and what is known about them.

    :param meta: its ``size`` is filled in.
    """

    train: Dataset | None = None
    test: Dataset | None = None
    valid: Dataset | None = None
    predicted: Dataset | None = None
    meta: DatasetMeta = field(default_factory=DatasetMeta)

    def __post_init__(self) -> None:
        sizes = {name: len(split) for name, split in self.splits.items()}
        object.__setattr__(self, "meta", replace(self.meta, size=sizes))

    @classmethod
    def from_samples(
        cls,
        train: Iterable[Sample] | None = None,
        test: Iterable[Sample] | None = None,
        valid: Iterable[Sample] | None = None,
        predicted: Iterable[Sample] | None = None,
        meta: DatasetMeta | None = None,
    ) -> DatasetPool:
        """Return a pool of samples held in memory.

        :raises DatasetError: something in it is not a :class:`Sample`.
        """
        given = {"train": train, "test": test, "valid": valid, "predicted": predicted}
        splits = {name: Dataset(_checked(name, samples)) for name, samples in given.items() if samples is not None}
        return cls(**splits, meta=meta or DatasetMeta())

    @property
    def splits(self) -> dict[str, Dataset]:
        """The splits that there are, by name."""
        return {name: split for name in SPLITS if (split := getattr(self, name)) is not None}

    def transform(
        self, function: Callable[[Sample], Sample], meta: DatasetMeta | None = None, *, lazy: bool = False
    ) -> DatasetPool:
        """Return a pool whose samples go through ``function`` when they are read.

        What a stage returns is written to disk once, so each function runs once for each sample however many epochs
        follow; it may be called from several threads at a time.

        :param meta: what is known about the new samples, where that differs.
        :param lazy: the function differs from reading to reading (augmentation): it is carried to the next stages and
            called on each reading there. It must then stand at the top level of its script.
        """
        splits = {name: split.transform(function, lazy=lazy) for name, split in self.splits.items()}
        return DatasetPool(**splits, meta=meta or self.meta)

    def shuffle(self, seed: int | None = None) -> None:
        """Shuffle every split; see :meth:`Dataset.shuffle`."""
        for split in self.splits.values():
            split.shuffle(seed)


def _checked(name: str, samples: Iterable[Sample]) -> list[Sample]:
    listed = list(samples)
    for index, sample in enumerate(listed):
        if type(sample) is not Sample:
            raise DatasetError(
                f"{name}[{index}]: expected a Sample, found {type(sample).__name__}: the next stage could not read it. "
                "Write Sample(data, label)."
            )
    return listed
