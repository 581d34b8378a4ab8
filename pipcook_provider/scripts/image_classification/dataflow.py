"""Images decoded and brought to one size.

Gives samples of ``(height, width, 3)`` arrays, in RGB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from pipcook_provider.runtime import Context, DatasetPool, Dimension, Sample, parameters

PARAMETERS = {
    "size": "width and height in pixels, size=224&size=224; one number means a square; 224 by default",
    "normalize": "true gives 32-bit floats from 0 to 1; by default pixels stay bytes from 0 to 255, a quarter of that, which "
    "the model scales",
}


def dataflow(dataset: DatasetPool, options: Mapping[str, Any], context: Context) -> DatasetPool:
    """Return the pool with its images as arrays of one shape.

    :raises ValueError: a parameter cannot be used, or an image cannot be decoded.
    """
    size = parameters.integers(options, "size", (224,), minimum=1)
    if len(size) > 2:
        raise ValueError(f"expected size=WIDTH&size=HEIGHT, or one size for both, found {len(size)} sizes. Correct it.")
    width, height = size[0], size[-1]
    normalize = parameters.boolean(options, "normalize", False)

    def decode(sample: Sample) -> Sample:
        pixels = _decode(sample.data, width, height)
        return Sample(np.divide(pixels, 255, dtype=np.float32) if normalize else pixels, sample.label)

    return dataset.transform(decode, replace(dataset.meta, dimension=Dimension(width, height, 3)))


def _decode(data: Mapping[str, Any], width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    try:
        with Image.open(BytesIO(data["buffer"]) if "buffer" in data else data["uri"]) as image:
            image.draft("RGB", (width, height))  # a large JPEG is decoded at a half, a quarter or an eighth of its size
            upright = ImageOps.exif_transpose(image) if "exif" in image.info else image
            return np.array(upright.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise ValueError(
            f"expected an image in {data.get('uri', 'the archive')}, found data that cannot be decoded: {exc}. "
            "Remove it from the data set, or convert it to PNG or JPEG."
        ) from exc
