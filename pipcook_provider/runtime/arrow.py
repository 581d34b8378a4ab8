"""Datasets on disk, as Arrow IPC files.

A pool is a folder: ``manifest.json``, and for each split one or more segments ``{split}-{number}.arrow`` of one schema
each, in record batches of bounded size with the columns ``data`` and ``label``. The schema's metadata ``pipcook`` holds
the kinds of :mod:`pipcook_provider.runtime.kinds` as JSON; ``manifest.json`` holds::

    version   1
    meta      what DatasetMeta.to_json() gives
    splits    by name:
        rows      number of samples
        segments  in order: file, schema (SHA-256 of its kinds), rows (of each record batch), offsets (where each begins
                  in the file, in bytes)
        lazy      transforms to be applied on reading: script (path relative to the folder), function

Whoever reads maps the files: opening costs the same for any size, and pages that were read are given back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa  # noqa: TID253 - this module is imported only where a dataset is written or read

from pipcook_provider.errors import DatasetError
from pipcook_provider.runtime.columns import arrow_type, build
from pipcook_provider.runtime.datasets import Dataset, DatasetPool
from pipcook_provider.runtime.kinds import Kind, Uncarriable, footprint, infer, locate, to_json, widen
from pipcook_provider.runtime.lazy import describe_transform, load_transform
from pipcook_provider.runtime.mapped import MappedRows, Segment
from pipcook_provider.runtime.parallel import ordered_map
from pipcook_provider.runtime.rows import Transform, TransformedRows, apply
from pipcook_provider.runtime.samples import DatasetMeta, Sample

MANIFEST = "manifest.json"
VERSION = 1
BATCH_BYTES = 8 << 20


def write_pool(pool: DatasetPool, directory: Path, *, batch_bytes: int = BATCH_BYTES) -> dict[str, Any]:
    """Write a pool into a folder and return its manifest.

    Transforms run now, once for each sample. The manifest is written last; making the folder appear at once is up to
    the caller.

    :param batch_bytes: about how much of a split is held in memory, and how large a record batch becomes.
    :raises DatasetError: a sample cannot be carried unchanged; the message names its place.
    """
    directory.mkdir(parents=True, exist_ok=True)
    splits = {name: _write_split(name, split, directory, batch_bytes) for name, split in pool.splits.items()}
    sizes = {name: split["rows"] for name, split in splits.items()}
    manifest = {"version": VERSION, "meta": replace(pool.meta, size=sizes).to_json(), "splits": splits}
    (directory / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
    return manifest


def read_pool(directory: Path) -> DatasetPool:
    """Return the pool that was written into a folder. Its files are mapped when their samples are asked for.

    :raises DatasetError: there is none, or another version wrote it.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise DatasetError(
            f"expected a dataset in {directory}, found none that can be read ({exc}): the stage before has not written "
            "it, or it was removed. Run that stage again."
        ) from exc
    if manifest.get("version") != VERSION:
        raise DatasetError(
            f"expected a dataset of version {VERSION}, found {manifest.get('version')!r} in {directory}: another "
            "version of pipcook-provider wrote it. Run the stages before again with this one."
        )
    splits = {name: _read_split(directory, split) for name, split in manifest["splits"].items()}
    return DatasetPool(**splits, meta=DatasetMeta.from_json(manifest["meta"]))


def _read_split(directory: Path, split: dict[str, Any]) -> Dataset:
    segments = [Segment(directory / entry["file"], entry["rows"], entry["offsets"]) for entry in split["segments"]]
    dataset = Dataset(MappedRows(segments))
    for entry in split["lazy"]:
        dataset = dataset.transform(load_transform(directory, entry), lazy=True)
    return dataset


def _write_split(name: str, split: Dataset, directory: Path, batch_bytes: int) -> dict[str, Any]:
    source = split.rows.source if isinstance(split.rows, TransformedRows) else split.rows
    transforms = split.rows.transforms if isinstance(split.rows, TransformedRows) else ()
    eager = tuple(takewhile(lambda transform: not transform.lazy, transforms))
    lazy = [describe_transform(transform.function, directory) for transform in transforms[len(eager) :]]
    samples = _transformed(name, (source[row] for row in split.order()), eager, len(split))
    writer = _SplitWriter(name, directory, batch_bytes)
    with closing(writer):
        for sample in samples:
            writer.append(sample)
        writer.flush()
    return {"rows": writer.rows, "segments": writer.segments, "lazy": lazy}


def _transformed(name: str, samples: Iterator[Sample], transforms: Sequence[Transform], count: int) -> Iterator[Sample]:
    if not transforms:
        yield from samples
        return
    done = 0
    try:
        for sample in ordered_map(lambda sample: apply(transforms, sample), samples, count):
            yield sample
            done += 1
    except Exception as exc:
        exc.add_note(f"This happened while {name}[{done}] was made.")
        raise


class _SplitWriter:
    """Writes samples in record batches; a batch that needs a wider schema starts another segment."""

    def __init__(self, name: str, directory: Path, batch_bytes: int) -> None:
        self.rows = 0
        self.segments: list[dict[str, Any]] = []
        self._name = name
        self._directory = directory
        self._batch_bytes = batch_bytes
        self._pending: list[Sample] = []
        self._size = 0
        self._kinds: tuple[Kind, ...] = ()
        self._schema: pa.Schema | None = None
        self._sink: Any = None
        self._writer: Any = None

    def append(self, sample: Sample) -> None:
        """Take a sample, which is written with others of its batch.

        :raises DatasetError: it, or another of the batch, cannot be carried unchanged.
        """
        self._pending.append(sample)
        try:
            self._size += footprint(sample.data) + footprint(sample.label)
        except Uncarriable as exc:
            raise DatasetError(self._explain()) from exc
        if self._size >= self._batch_bytes:
            self.flush()

    def flush(self) -> None:
        """Write the samples taken so far.

        :raises DatasetError: one of them cannot be carried unchanged.
        """
        if not self._pending:
            return
        try:
            batch = self._record_batch(list(zip(*self._pending, strict=True)))
        except (Uncarriable, OverflowError, UnicodeEncodeError) as exc:
            raise DatasetError(self._explain()) from exc
        self._writer.write_batch(batch)
        self.segments[-1]["rows"].append(len(self._pending))
        self.segments[-1]["offsets"].append(self._sink.tell())
        self.rows += len(self._pending)
        self._pending, self._size = [], 0

    def _record_batch(self, values: Sequence[Sequence[Any]]) -> pa.RecordBatch:
        kinds = tuple(infer(column) for column in values)
        if self._kinds:
            kinds = tuple(widen(old, new) for old, new in zip(self._kinds, kinds, strict=True))
        arrays = [build(kind, column) for kind, column in zip(kinds, values, strict=True)]
        if kinds != self._kinds:
            self._kinds = kinds
            self._start_segment(kinds)
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _start_segment(self, kinds: Sequence[Kind]) -> None:
        self.close()
        described = json.dumps([to_json(kind) for kind in kinds])
        fields = zip(("data", "label"), map(arrow_type, kinds), strict=True)
        self._schema = pa.schema(fields, metadata={"pipcook": described})
        file = f"{self._name}-{len(self.segments)}.arrow"
        self._sink = pa.OSFile(str(self._directory / file), "wb")
        self._writer = pa.ipc.new_file(self._sink, self._schema)
        digest = sha256(described.encode()).hexdigest()
        self.segments.append({"file": file, "schema": digest, "rows": [], "offsets": [self._sink.tell()]})

    def close(self) -> None:
        """Complete the segment that is being written."""
        if self._sink is not None:
            self._writer.close()
            self._sink.close()

    def _explain(self) -> str:
        for index, sample in enumerate(self._pending, self.rows):
            for field, value in zip(sample._fields, sample, strict=True):
                if found := locate(value):
                    path, description = found
                    return (
                        f"{self._name}[{index}].{field}{path}: expected bool, int, float, str, bytes, None, a numpy "
                        f"array or scalar, a list or a dict, found {description}: it would not reach the next stage "
                        "unchanged. Convert it in the script that makes the sample."
                    )
        return (
            f"{self._name}[{self.rows}:{self.rows + len(self._pending)}]: expected at most 2 GiB in one value, found "
            "more: Arrow cannot hold it. Divide the sample, or hand on a path to its file."
        )
