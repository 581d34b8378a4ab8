"""Where a dataset's samples come from: a list, mapped files, or either with transforms applied on reading."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pipcook_provider.errors import DatasetError
from pipcook_provider.runtime.samples import Sample

Array = Any  # numpy.ndarray: the child of a script that uses no dataset does not pay for numpy
Stack = tuple[Array, Array]


class Rows(ABC):
    """Samples that can be read in any order."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples."""

    @abstractmethod
    def __getitem__(self, row: int) -> Sample:
        """Return the sample of a row, from 0."""

    def blocks(self) -> Sequence[range]:
        """Return the runs of rows that lie together on disk; a shuffle keeps to a few at a time."""
        return [range(len(self))]

    def gather(self, rows: range | Array) -> Stack:
        """Return the data and the labels of some rows, each stacked into one array."""
        data, labels = zip(*(self[int(row)] for row in rows), strict=True)
        return stack(data), stack(labels)


class ListedRows(Rows):
    """Samples held in memory."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, row: int) -> Sample:
        return self._samples[row]


class Transform(NamedTuple):
    """A function that turns a sample into another.

    :param function: is called once for each sample that is read, maybe from several threads.
    :param lazy: whether it differs from reading to reading, so that its results are never stored.
    """

    function: Callable[[Sample], Sample]
    lazy: bool


class TransformedRows(Rows):
    """Samples that go through transforms whenever they are read."""

    def __init__(self, source: Rows, transforms: tuple[Transform, ...]) -> None:
        self.source = source
        self.transforms = transforms

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, row: int) -> Sample:
        return apply(self.transforms, self.source[row])

    def blocks(self) -> Sequence[range]:
        """Return the runs of rows of what is transformed."""
        return self.source.blocks()


def apply(transforms: Sequence[Transform], sample: Sample) -> Sample:
    """Return the sample after the transforms.

    :raises DatasetError: a transform returned something else than a sample.
    """
    for transform in transforms:
        sample = transform.function(sample)
        if type(sample) is not Sample:
            name = getattr(transform.function, "__qualname__", repr(transform.function))
            raise DatasetError(
                f"expected the transform {name}() to return a Sample, found {type(sample).__name__}: the next stage "
                "could not read it. Return Sample(data, label)."
            )
    return sample


def stack(values: Sequence[Any]) -> Array:
    """Return values as one array: tensors and numbers along a new first axis, whatever does not fit as objects."""
    import numpy as np

    try:
        return np.stack(values) if isinstance(values[0], np.ndarray) else np.array(values)
    except (ValueError, TypeError, OverflowError):
        objects = np.empty(len(values), object)
        objects[:] = values
        return objects
