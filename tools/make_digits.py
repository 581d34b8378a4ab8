"""Make ``dags/data/digits.zip``: real handwritten digits as images, in folders by split and category.

The 1,797 images come with scikit-learn (``sklearn.datasets.load_digits``, from the UCI repository's "Optical
Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, 1998, CC BY 4.0): 8x8 pixels of 17 greys. They become
PNG files ``{train,validation,test}/{digit}/{number}.png``, split 70/15/15 within each digit. The same packages give the
same bytes.

    python tools/make_digits.py [TARGET]
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

TARGET = Path(__file__).resolve().parents[1] / "dags" / "data" / "digits.zip"
SPLITS = (("train", 0.70), ("validation", 0.85), ("test", 1.00))  # each up to that share of a digit's images
TIMESTAMP = (1998, 7, 1, 0, 0, 0)  # when the data set was published
SEED = 1998


def main(target: Path = TARGET) -> None:
    """Write the archive."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    with zipfile.ZipFile(target, "w") as archive:
        for name, number in _places(digits.target):
            archive.writestr(zipfile.ZipInfo(name, TIMESTAMP), _png(digits.images[number]))


def _places(labels: Any) -> Iterator[tuple[str, int]]:
    """Yield the name in the archive and the number of each image, sorted by name."""
    generator = np.random.RandomState(SEED)  # its sequence is promised never to change
    places = []
    for digit in range(10):
        numbers = generator.permutation(np.flatnonzero(labels == digit))
        start = 0
        for split, share in SPLITS:
            stop = round(share * len(numbers))
            places += [(f"{split}/{digit}/{number:04}.png", int(number)) for number in numbers[start:stop]]
            start = stop
    yield from sorted(places)


def _png(image: Any) -> bytes:
    file = BytesIO()
    Image.fromarray((image * (255 / 16)).round().astype(np.uint8)).save(file, "PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
