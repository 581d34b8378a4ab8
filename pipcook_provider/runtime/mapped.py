"""Samples read by memory map from the segments that :mod:`pipcook_provider.runtime.arrow` wrote."""

from __future__ import annotations

import json
import mmap
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np  # noqa: TID253 - this module is imported only where a dataset is written or read
import pyarrow as pa  # noqa: TID253

from pipcook_provider.errors import DatasetError
from pipcook_provider.runtime.kinds import Kind, from_json
from pipcook_provider.runtime.rows import Array, Rows, Stack, stack
from pipcook_provider.runtime.samples import Sample
from pipcook_provider.runtime.views import Block, View, view

OPEN_BATCHES = 8  # record batches whose pages are kept; one more than a shuffle goes through at a time would do


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of a split.

    :param rows: number of samples of each record batch.
    :param offsets: where each record batch begins in the file, and where the last one ends, in bytes.
    """

    path: Path
    rows: Sequence[int]
    offsets: Sequence[int]


class _Batch(NamedTuple):
    start: int
    stop: int
    data: View
    label: View


class _File:
    """A segment's file, mapped."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map)))
        except (OSError, ValueError, pa.ArrowInvalid) as exc:
            raise DatasetError(
                f"expected a segment of a dataset in {path}, found none that can be read ({exc}): it was cut short or "
                "removed after its stage ended. Run that stage again."
            ) from exc
        self._kinds: list[Kind] = [from_json(kind) for kind in json.loads(self._reader.schema.metadata[b"pipcook"])]

    def columns(self, number: int) -> list[View]:
        """Return the columns of a record batch."""
        batch = self._reader.get_batch(number)
        return [view(kind, column) for kind, column in zip(self._kinds, batch.columns, strict=True)]

    def forget(self, start: int, stop: int) -> None:
        """Give back the pages between two places of the file; reading them again maps them again."""
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        if stop > first and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED, first, stop - first)


class MappedRows(Rows):
    """The samples of a split on disk.

    Record batches are opened when a row of theirs is asked for, and the pages of those not used lately are given back,
    so that reading a file of any size takes the memory of a few batches.
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = segments
        places = ((segment, number) for segment in segments for number in range(len(segment.rows)))
        self._places = list(places)
        self._ends = list(accumulate(chain.from_iterable(segment.rows for segment in segments)))
        self._files: dict[Path, _File] = {}
        self._open: OrderedDict[int, _Batch] = OrderedDict()
        self._current = _Batch(0, 0, (), ())
        self._lock = Lock()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, row: int) -> Sample:
        batch = self._current
        if not batch.start <= row < batch.stop:
            batch = self._batch_of(row)
        return Sample(batch.data[row - batch.start], batch.label[row - batch.start])

    def blocks(self) -> Sequence[range]:
        """Return the rows of each record batch."""
        return [range(start, stop) for start, stop in pairwise([0, *self._ends])]

    def gather(self, rows: range | Array) -> Stack:
        """Return the data and the labels of some rows; views of the file where the rows are neighbours in a batch."""
        if isinstance(rows, range) and rows.step == 1 and rows:
            batch = self._batch_of(rows.start)
            if rows.stop <= batch.stop:
                local = slice(rows.start - batch.start, rows.stop - batch.start)
                return _take(batch.data, local), _take(batch.label, local)
        return self._gather_scattered(np.asarray(rows))

    def _gather_scattered(self, rows: Array) -> Stack:
        numbers: Array = np.searchsorted(self._ends, rows, side="right")
        order = np.argsort(numbers, kind="stable")
        pieces: list[Stack] = []
        for wanted in np.split(rows[order], np.flatnonzero(np.diff(numbers[order])) + 1):
            batch = self._batch_of(int(wanted[0]))
            local = wanted - batch.start
            pieces.append((_take(batch.data, local), _take(batch.label, local)))
        data, labels = zip(*pieces, strict=True)
        return _join(data, order), _join(labels, order)

    def _batch_of(self, row: int) -> _Batch:
        if not 0 <= row < len(self):
            raise IndexError(f"expected a row from 0 to {len(self) - 1}, found {row}")
        number = bisect_right(self._ends, row)
        with self._lock:
            if number not in self._open:
                self._open[number] = self._load(number)
                if len(self._open) > OPEN_BATCHES:
                    self._forget(self._open.popitem(last=False)[0])
            self._open.move_to_end(number)
            self._current = self._open[number]
            return self._current

    def _load(self, number: int) -> _Batch:
        segment, place = self._places[number]
        if segment.path not in self._files:
            self._files[segment.path] = _File(segment.path)
        stop = self._ends[number]
        return _Batch(stop - segment.rows[place], stop, *self._files[segment.path].columns(place))

    def _forget(self, number: int) -> None:
        segment, place = self._places[number]
        self._files[segment.path].forget(*segment.offsets[place : place + 2])


def _take(values: View, rows: slice | Array) -> Array:
    if isinstance(values, Block):
        return values.array[rows]
    wanted = range(rows.start, rows.stop) if isinstance(rows, slice) else rows.tolist()
    return stack([values[row] for row in wanted])


def _join(pieces: Sequence[Array], order: Array) -> Array:
    if len(pieces) == 1 and (np.diff(order) == 1).all():
        return pieces[0]
    places = np.argsort(order)
    if len({(piece.dtype.kind, piece.shape[1:]) for piece in pieces}) > 1:
        values = [value for piece in pieces for value in piece]
        return stack([values[place] for place in places])
    return np.concatenate(pieces)[places]
