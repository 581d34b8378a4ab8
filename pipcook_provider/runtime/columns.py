"""Values of a dataset as Arrow columns, with exactly the types that they had in Python.

Each kind of :mod:`pipcook_provider.runtime.kinds` has one Arrow type; validity bitmaps carry ``None``. Arrays of
one shape are ``arrow.fixed_shape_tensor`` columns, of several shapes a list beside its shape; numbers that Arrow does
not know (complex, dates, foreign byte order) keep their bytes. What has no common structure is JSON text (whose numbers
Python reads back bit by bit) with bytes and arrays beside it.

Columns are assembled from buffers: ``pyarrow.array()`` is slow, and imports pandas where it is installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np  # noqa: TID253 - this module is imported only where a dataset is written or read
import pyarrow as pa  # noqa: TID253

from pipcook_provider.runtime.kinds import (
    PACKED,
    PLAIN,
    Kind,
    ListOf,
    NoneType,
    Plain,
    Ragged,
    Record,
    Scalar,
    Tensor,
    Uncarriable,
    complaint,
)

TAG = "$pipcook"  # marks, in packed JSON, what JSON itself cannot say

_PLAIN_ARROW: dict[str, Callable[[], pa.DataType]] = {
    "null": pa.null,
    "bool": pa.bool_,
    "int": pa.int64,
    "float": pa.float64,
    "str": pa.utf8,
    "bytes": pa.binary,
    "packed": lambda: pa.struct([("json", pa.utf8()), ("blobs", pa.list_(pa.binary()))]),
}


def arrow_type(kind: Kind) -> pa.DataType:
    """Return the Arrow type of a kind's column."""
    match kind:
        case Plain(name):
            return _PLAIN_ARROW[name]()
        case Scalar(dtype):
            return _element(dtype)
        case Tensor(dtype, shape):
            return _tensor_type(dtype, shape)
        case Ragged(dtype):
            return pa.struct([("shape", pa.list_(pa.int64())), ("values", pa.list_(_element(dtype)))])
        case ListOf(item):
            return pa.list_(arrow_type(item))
        case Record(fields):
            return pa.struct([(key, arrow_type(field)) for key, field in fields])


def _element(dtype: str) -> pa.DataType:
    native = np.dtype(dtype)
    if native.kind in "iuf" and native.isnative and native.itemsize <= 8:
        return pa.from_numpy_dtype(native)
    return pa.binary(native.itemsize)


def _tensor_type(dtype: str, shape: tuple[int, ...]) -> pa.DataType:
    element = _element(dtype)
    if pa.types.is_fixed_size_binary(element):
        return pa.list_(element, _count(shape))
    return pa.fixed_shape_tensor(element, shape)


def _count(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def build(kind: Kind, values: Sequence[Any]) -> pa.Array:  # noqa: PLR0911 - one for each kind
    """Return the values as a column.

    :raises Uncarriable: a value cannot be carried.
    :raises OverflowError: an integer needs more than 64 bits, or the texts of one batch more than 2 GiB.
    :raises UnicodeEncodeError: a text cannot be encoded.
    """
    match kind:
        case Plain("null"):
            return pa.nulls(len(values))
        case Plain("str"):
            return _build_bytes(pa.utf8(), [None if value is None else value.encode() for value in values])
        case Plain("bytes"):
            return _build_bytes(pa.binary(), values)
        case Plain("packed"):
            return _build_packed(values)
        case Plain(name):
            return _build_numbers(name, values)
        case Scalar(dtype):
            filled = _filled(values, np.zeros((), dtype)[()])
            return _array(arrow_type(kind), values, np.array(filled, np.dtype(dtype)))
        case Tensor():
            return _build_tensors(kind, values)
        case Ragged(dtype):
            return _build_ragged(dtype, values)
        case ListOf(item):
            items = list(chain.from_iterable(value for value in values if value is not None))
            return _array(arrow_type(kind), values, _offsets(values), children=[build(item, items)])
        case Record(fields):
            columns = [
                build(field, [None if value is None else value[key] for value in values]) for key, field in fields
            ]
            return _array(arrow_type(kind), values, children=columns)


def _array(
    arrow: pa.DataType, values: Sequence[Any], *buffers: Any, children: Sequence[pa.Array] | None = None
) -> pa.Array:
    data = [pa.py_buffer(buffer) for buffer in buffers]
    return pa.Array.from_buffers(arrow, len(values), [_validity(values), *data], children=children)


def _validity(values: Sequence[Any]) -> pa.Buffer | None:
    if NoneType not in set(map(type, values)):
        return None
    return pa.py_buffer(np.packbits([value is not None for value in values], bitorder="little"))


def _filled(values: Sequence[Any], filler: Any) -> Sequence[Any]:
    if NoneType not in set(map(type, values)):
        return values
    return [filler if value is None else value for value in values]


def _offsets(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    lengths = [0, *map(len, _filled(values, ()))]
    ends = np.cumsum(lengths, dtype=np.int64)
    if ends[-1] >= 2**31:
        raise OverflowError
    return ends.astype(np.int32)


def _build_bytes(arrow: pa.DataType, values: Sequence[bytes | None]) -> pa.Array:
    return _array(arrow, values, _offsets(values), b"".join(_filled(values, b"")))


def _build_numbers(name: str, values: Sequence[Any]) -> pa.Array:
    filled = _filled(values, 0)
    if name == "bool":
        return _array(pa.bool_(), values, np.packbits(np.array(filled, bool), bitorder="little"))
    return _array(arrow_type(Plain(name)), values, np.array(filled, np.int64 if name == "int" else np.float64))


def _build_tensors(kind: Tensor, values: Sequence[Any]) -> pa.Array:
    arrays = _filled(values, np.zeros(kind.shape, kind.dtype))
    flat = _flatten(kind.dtype, arrays)
    arrow = arrow_type(kind)
    storage = arrow.storage_type if isinstance(arrow, pa.BaseExtensionType) else arrow
    items = pa.Array.from_buffers(storage.value_type, flat.size, [None, pa.py_buffer(flat)])
    column = _array(storage, values, children=[items])
    return column if storage is arrow else pa.ExtensionArray.from_storage(arrow, column)


def _flatten(dtype: str, arrays: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Return all elements one after the other; without ``out``, numpy would swap foreign bytes."""
    flat = np.empty(sum(array.size for array in arrays), dtype)
    return np.concatenate(arrays, axis=None, out=flat) if arrays else flat


def _build_ragged(dtype: str, values: Sequence[Any]) -> pa.Array:
    shapes = [None if value is None else list(value.shape) for value in values]
    flats = [None if value is None else value.ravel() for value in values]
    flat = _flatten(dtype, _filled(flats, np.zeros(0, dtype)))
    items = pa.Array.from_buffers(_element(dtype), flat.size, [None, pa.py_buffer(flat)])
    columns = [
        build(ListOf(Plain("int")), shapes),
        _array(pa.list_(_element(dtype)), flats, _offsets(flats), children=[items]),
    ]
    return _array(arrow_type(Ragged(dtype)), values, children=columns)


def _build_packed(values: Sequence[Any]) -> pa.Array:
    texts: list[str | None] = []
    blobs: list[list[bytes]] = []
    for value in values:
        blobs.append([])
        texts.append(None if value is None else json.dumps(_pack(value, blobs[-1])))
    columns = [build(Plain("str"), texts), build(ListOf(Plain("bytes")), blobs)]
    return _array(arrow_type(PACKED), values, children=columns)


def _pack(value: Any, blobs: list[bytes]) -> Any:
    if type(value) is list:
        return [_pack(item, blobs) for item in value]
    if type(value) is dict:
        packed = {key: _pack(item, blobs) for key, item in value.items()}
        if not all(type(key) is str for key in packed):
            raise Uncarriable
        return {TAG: ["dict", list(packed.items())]} if TAG in packed else packed
    if complaint(value):
        raise Uncarriable
    if value is None or (type(value) in PLAIN and type(value) is not bytes):
        return value
    blobs.append(value if type(value) is bytes else value.tobytes())
    if type(value) is bytes:
        return {TAG: ["bytes", len(blobs) - 1]}
    return {TAG: ["array" if type(value) is np.ndarray else "scalar", len(blobs) - 1, value.dtype.str, value.shape]}
