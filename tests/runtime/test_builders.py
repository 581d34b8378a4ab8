from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pipcook_provider.errors import DatasetError, IntegrityError
from pipcook_provider.runtime.builders import images_from_folders, images_from_list
from pipcook_provider.runtime.datasets import DatasetMeta, DatasetPool, Sample

FILES = {
    "train/dog/1.png": b"1",
    "train/cat/2.JPG": b"2",
    "train/cat/deeper/3.png": b"3",
    "validation/cat/4.png": b"4",
    "test/bird/5.png": b"5",
    "train/cat/notes.txt": b"",
    "train/stray.png": b"",
    "README.md": b"",
}
SIZES = {"train": 3, "test": 1, "valid": 1}


def lay_out(root: Path, prefix: str = "") -> Path:
    for name, content in FILES.items():
        path = root / prefix / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def pack(path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/train/cat/._2.JPG", b"")
        for name, content in FILES.items():
            archive.writestr(prefix + name, content)
    return path


def contents(pool: DatasetPool) -> dict[str, list[tuple[bytes, str]]]:
    return {
        name: [(Path(data["uri"]).read_bytes() if "uri" in data else data["buffer"], label) for data, label in split]
        for name, split in pool.splits.items()
    }


@pytest.mark.parametrize("prefix", ["", "pets/"])
@pytest.mark.parametrize("packed", [False, True])
def test_images_are_found_by_split_and_category(packed: bool, prefix: str, tmp_path: Path) -> None:
    """A folder and an archive of the same files give the same images, also inside one other folder."""
    pool = images_from_folders(pack(tmp_path / "data.zip", prefix) if packed else lay_out(tmp_path / "data", prefix))
    assert pool.meta == DatasetMeta(type="Image", size=SIZES, categories=("bird", "cat", "dog"))
    assert contents(pool) == {
        "train": [(b"2", "cat"), (b"3", "cat"), (b"1", "dog")],
        "test": [(b"5", "bird")],
        "valid": [(b"4", "cat")],
    }


def test_folder_without_training_images_says_what_is_there(tmp_path: Path) -> None:
    """Where there is nothing to train with, the message shows what was found."""
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"train/CATEGORY/IMAGE, found cat/1\.png"):
        images_from_folders(tmp_path)


def test_damaged_archive_is_told_by_its_member(tmp_path: Path) -> None:
    """An image whose bytes do not match the archive's checksum is named."""
    path = pack(tmp_path / "data.zip")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"train/dog/1.png1", b"train/dog/1.png2"))
    train = images_from_folders(path).train
    assert train is not None
    with pytest.raises(IntegrityError, match=r"train/dog/1\.png"):
        list(train)
    path.write_text("<html>")
    with pytest.raises(IntegrityError, match=r"data\.zip"):
        images_from_folders(path)


def test_images_from_list() -> None:
    """Paths and bytes with categories become a pool; categories are those that occur."""
    pool = images_from_list({"train": [("b.png", "b"), (b"bytes", "a")], "predicted": [(Path("c.png"), None)]})
    assert pool.meta == DatasetMeta(type="Image", size={"train": 2, "predicted": 1}, categories=("a", "b"))
    assert pool.train is not None
    assert list(pool.train) == [Sample({"uri": "b.png"}, "b"), Sample({"buffer": b"bytes"}, "a")]
