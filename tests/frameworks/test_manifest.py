from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_build import SIX, Told, build, write_recipe

from pipcook_provider.archive import extract_zip
from pipcook_provider.frameworks.framework import Framework, Manifest
from pipcook_provider.frameworks.pack import pack

IMAGES = {"cpu": "registry.example:5000/team/toy:1", "gpu": f"toy@sha256:{'0' * 64}"}


def test_images(tmp_path: Path) -> None:
    """A framework may name its container images, one of them, or none; they stay with it when it is built and packed."""
    told = Told()
    built = build(write_recipe(tmp_path, SIX, images=IMAGES), tmp_path / "built", told, asked="1.17")
    framework = Framework.load(built)
    assert framework.images == IMAGES
    extract_zip(pack(framework, tmp_path / "mirror", told), tmp_path / "again")
    assert Framework.load(tmp_path / "again").images == IMAGES
    (built / "framework.json").write_text(json.dumps({"name": "toy", "version": "1", "images": {"gpu": "toy:1"}}))
    assert Framework.load(built).images == {"gpu": "toy:1"}
    (built / "framework.json").write_text(json.dumps({"name": "toy", "version": "1"}))
    assert Framework.load(built).images == {}
    assert len({Framework.load(built), Framework.load(built)}) == 1


@pytest.mark.parametrize(
    ("images", "told"),
    [
        ("toy:1", "expected an object with cpu or gpu"),
        (["toy:1"], "expected an object with cpu or gpu"),
        ({"cuda": "toy:1"}, "expected an object with cpu or gpu.*cuda"),
        (None, "expected an object with cpu or gpu.*None"),
        ({"cpu": 1}, "container image.*as cpu of images, found 1"),
        ({"gpu": ""}, "container image.*as gpu of images, found ''"),
        ({"gpu": "toy:1 --privileged"}, "container image.*found 'toy:1 --privileged'"),
        ({"gpu": "-toy"}, "container image.*found '-toy'"),
    ],
)
def test_unusual_images(images: Any, told: str) -> None:
    """What names no images is told apart."""
    with pytest.raises(ValueError, match=told):
        Manifest.parse({"name": "toy", "version": "1", "images": images})
