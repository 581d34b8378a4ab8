"""Pools from what data sets are usually kept in."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from pipcook_provider.archive import BROKEN, Limits, plan
from pipcook_provider.errors import DatasetError, IntegrityError
from pipcook_provider.runtime.datasets import Dataset, DatasetMeta, DatasetPool, Sample
from pipcook_provider.runtime.rows import Rows

#: What the folders of each split may be called.
FOLDERS = {"train": "train", "test": "test", "validation": "valid", "valid": "valid", "val": "valid"}
#: Images are read one at a time: only how they expand counts, not how many there are.
_LIMITS = Limits(members=10_000_000, size=2**43)

IMAGE_SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))


def images_from_list(
    images: Mapping[str, Iterable[tuple[str | Path | bytes, str | None]]], categories: Sequence[str] | None = None
) -> DatasetPool:
    """Return a pool of images with their categories.

    :param images: for each split (``train``, ``test``, ``valid``, ``predicted``) pairs of an image, by path or as the
        bytes of its file, and its category.
    :param categories: all categories in order; those that occur, sorted, by default.
    """
    splits = {
        name: [
            Sample({"buffer": image} if isinstance(image, bytes) else {"uri": str(image)}, category)
            for image, category in pairs
        ]
        for name, pairs in images.items()
    }
    if categories is None:
        found = {sample.label for samples in splits.values() for sample in samples}
        categories = sorted(found - {None})
    return DatasetPool.from_samples(**splits, meta=DatasetMeta(type="Image", categories=tuple(categories)))


def images_from_folders(path: Path) -> DatasetPool:
    """Return a pool of the images in a folder or a zip archive, laid out as ``{split}/{category}/{image}``.

    The splits' folders are ``train``, ``test`` and ``validation``; they may stand inside one other folder. Images in a
    folder are named by path (``{"uri": ...}``), those in an archive are read from it (``{"buffer": ...}``); neither are
    decoded.

    :raises DatasetError: there are no training images in it.
    :raises IntegrityError: the archive is damaged or unsafe.
    """
    names, read = _folder(path) if path.is_dir() else _archive(path)
    splits: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        if place := _place(name):
            split, category = place
            splits.setdefault(split, []).append((name, category))
    if "train" not in splits:
        raise DatasetError(
            f"expected images in {path} as train/CATEGORY/IMAGE, found {_outline(names)}: there is nothing to train "
            "with. Lay the files out in folders train, test and validation with one folder for each category."
        )
    categories = {category for images in splits.values() for _, category in images}
    return DatasetPool(
        **{split: Dataset(_ImageRows(images, read)) for split, images in splits.items()},
        meta=DatasetMeta(type="Image", categories=tuple(sorted(categories))),
    )


Reader = Callable[[str], dict[str, str | bytes]]


class _ImageRows(Rows):
    """Images that are read from where they lie when their sample is asked for.

    :param images: name and category of each.
    """

    def __init__(self, images: Sequence[tuple[str, str]], read: Reader) -> None:
        self._images = images
        self._read = read

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> Sample:
        name, category = self._images[row]
        return Sample(self._read(name), category)


def _folder(path: Path) -> tuple[list[str], Reader]:
    root = path.resolve()
    found = (Path(folder, file) for folder, _, files in os.walk(root) for file in files)
    return sorted(file.relative_to(root).as_posix() for file in found), lambda name: {"uri": str(root / name)}


def _archive(path: Path) -> tuple[list[str], Reader]:
    try:
        archive = zipfile.ZipFile(path)
        members = plan(archive.infolist(), path.stat().st_size, _LIMITS)
    except (OSError, ValueError, zipfile.BadZipFile) as exc:
        raise IntegrityError(
            f"expected a folder or a zip archive of images in {path}, found {exc}: no image can be read. Correct the "
            "path or URL, or make the archive again."
        ) from exc

    def read(name: str) -> dict[str, str | bytes]:
        try:
            return {"buffer": archive.read(name)}
        except BROKEN as exc:
            raise IntegrityError(
                f"expected an image in {path} at {name}, found damaged or encrypted data ({exc}): the data set is not "
                "complete. Download or make the archive again."
            ) from exc

    return sorted(member.info.filename for member in members if member.kind == "file"), read


def _place(name: str) -> tuple[str, str] | None:
    """Return split and category of an image by its name, or ``None`` for whatever else lies around."""
    parts = PurePosixPath(name).parts
    if PurePosixPath(name).suffix.lower() not in IMAGE_SUFFIXES or parts[-1].startswith("."):
        return None
    for depth in range(min(2, len(parts) - 2)):
        if split := FOLDERS.get(parts[depth].lower()):
            return split, parts[depth + 1]
    return None


def _outline(names: Sequence[str]) -> str:
    rest = f" and {len(names) - 3} more files" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest if names else "no files"
