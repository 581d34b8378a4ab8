"""Images by category, from a folder or a zip archive.

Gives samples of ``{"uri": path}`` or ``{"buffer": bytes}`` with the category's name as label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipcook_provider.runtime import Context, DatasetPool, images_from_folders, parameters

PARAMETERS = {
    "url": "URL or path (relative to the pipeline document) of a folder or zip archive with the folders train, test and "
    "validation, each with one folder of images for each category; only train is required",
}


def datasource(options: Mapping[str, Any], context: Context) -> DatasetPool:
    """Return the images of ``url``, not decoded yet.

    :raises ValueError: there is no ``url``.
    """
    url = parameters.text(options, "url", None)
    if url is None:
        raise ValueError(
            "expected the parameter 'url' with the URL or path of a zip archive or folder of images, found none: there "
            "is no data to train with. Add it to the script's URI: datasource.py?url=data/images.zip"
        )
    return images_from_folders(context.download(url))
