"""Rows of Arrow columns as the Python values that :mod:`pipcook_provider.runtime.columns` wrote.

A view gives any row in constant time and copies nothing but what Python's own types own: arrays are read-only views of
the column's memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np  # noqa: TID253 - this module is imported only where a dataset is written or read
import pyarrow as pa  # noqa: TID253

from pipcook_provider.runtime.columns import TAG
from pipcook_provider.runtime.kinds import Kind, ListOf, Plain, Ragged, Record, Scalar, Tensor

Array = np.ndarray[Any, Any]


class View(Protocol):
    """The values of one column."""

    def __getitem__(self, row: int, /) -> Any:
        """Return the value of a row."""


class Block:
    """Values of one width as one array.

    :param array: the rows along its first axis.
    :param pick: how a row is taken from the array.
    """

    def __init__(self, array: Array, pick: Callable[[Array, int], Any]) -> None:
        self.array = array
        self._pick = pick

    def __getitem__(self, row: int) -> Any:
        return self._pick(self.array, row)


def view(kind: Kind, column: pa.Array) -> View:
    """Return the view of a column of that kind."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    values = _present(kind, column)
    if column.null_count and kind != Plain("null"):
        return _Nullable(_bits(column.buffers()[0], len(column)), values)
    return values


def _present(kind: Kind, column: pa.Array) -> View:  # noqa: PLR0911 - one for each kind
    match kind:
        case Plain("null"):
            return _Nulls()
        case Plain("bool"):
            return Block(_bits(column.buffers()[1], len(column)), _item)
        case Plain("int" | "float" as name):
            return Block(_numbers(column, np.dtype(np.int64 if name == "int" else np.float64)), _item)
        case Plain("str" | "bytes" as name):
            return _Bytes(column, _text if name == "str" else bytes)
        case Scalar(dtype):
            return Block(_numbers(column, np.dtype(dtype)), _row)
        case Tensor(dtype, shape):
            return Block(_numbers(column.values, np.dtype(dtype)).reshape(len(column), *shape), _tensor)
        case Ragged(dtype):
            return _RaggedView(column, np.dtype(dtype))
        case ListOf(item):
            return _Lists(column, item)
        case Record(fields):
            return _Records({key: view(field, column.field(index)) for index, (key, field) in enumerate(fields)})
    return _Packed(column)


def _item(array: Array, row: int) -> Any:
    return array.item(row)


def _row(array: Array, row: int) -> Any:
    return array[row]


def _tensor(array: Array, row: int) -> Any:
    return array[row, ...]  # the ellipsis keeps arrays without axes arrays


def _text(data: memoryview) -> str:
    return str(data, "utf-8")


def _numbers(column: pa.Array, dtype: np.dtype[Any]) -> Array:
    buffer = column.buffers()[1]
    count = len(column)
    return np.frombuffer(buffer, dtype, count) if count and buffer else np.zeros(0, dtype)


def _bits(buffer: pa.Buffer, count: int) -> Array:
    packed = np.frombuffer(buffer, np.uint8) if count else np.zeros(0, np.uint8)
    return np.unpackbits(packed, count=count, bitorder="little").view(bool)


class _Nulls:
    def __getitem__(self, row: int) -> None:
        return None


class _Nullable:
    def __init__(self, valid: Array, values: View) -> None:
        self._valid = valid
        self._values = values

    def __getitem__(self, row: int) -> Any:
        return self._values[row] if self._valid[row] else None


class _Bytes:
    def __init__(self, column: pa.Array, convert: Callable[[memoryview], Any]) -> None:
        _, offsets, data = column.buffers()
        self._offsets = _offsets(offsets, len(column))
        self._data = memoryview(data or b"")
        self._convert = convert

    def __getitem__(self, row: int) -> Any:
        return self._convert(self._data[self._offsets[row] : self._offsets[row + 1]])


def _offsets(buffer: pa.Buffer, count: int) -> Array:
    return np.frombuffer(buffer, np.int32, count + 1) if count else np.zeros(1, np.int32)


class _RaggedView:
    def __init__(self, column: pa.Array, dtype: np.dtype[Any]) -> None:
        self._shapes = view(ListOf(Plain("int")), column.field(0))
        values = column.field(1)
        self._offsets = _offsets(values.buffers()[1], len(values))
        self._flat = _numbers(values.values, dtype)

    def __getitem__(self, row: int) -> Any:
        return self._flat[self._offsets[row] : self._offsets[row + 1]].reshape(self._shapes[row])


class _Lists:
    def __init__(self, column: pa.Array, item: Kind) -> None:
        self._offsets = _offsets(column.buffers()[1], len(column))
        self._items = view(item, column.values)

    def __getitem__(self, row: int) -> list[Any]:
        items = self._items
        return [items[index] for index in range(self._offsets[row], self._offsets[row + 1])]


class _Records:
    def __init__(self, fields: dict[str, View]) -> None:
        self._fields = fields

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {key: field[row] for key, field in self._fields.items()}


class _Packed:
    def __init__(self, column: pa.Array) -> None:
        self._texts = view(Plain("str"), column.field(0))
        blobs = column.field(1)
        self._starts = _offsets(blobs.buffers()[1], len(blobs))
        self._ends = _offsets(blobs.values.buffers()[1], len(blobs.values))
        self._data = memoryview(blobs.values.buffers()[2] or b"")

    def __getitem__(self, row: int) -> Any:
        first = self._starts[row]

        def unpack(value: dict[str, Any]) -> Any:
            if TAG not in value:
                return value
            name, content, *layout = value[TAG]
            if name == "dict":
                return dict(content)
            blob = self._data[self._ends[first + content] : self._ends[first + content + 1]]
            return bytes(blob) if name == "bytes" else _unblob(name, blob, *layout)

        return json.loads(self._texts[row], object_hook=unpack)


def _unblob(name: str, blob: memoryview, text: str, shape: list[int]) -> Any:
    dtype = np.dtype(text)
    if not dtype.itemsize:  # the empty text, the only value of no width
        return dtype.type()
    array = np.frombuffer(blob, dtype).reshape(shape) if blob else np.zeros(shape, dtype)
    return array if name == "array" else array[()]
