"""Small images for tests, made without a base image."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import tarfile
from collections.abc import Iterator

from pipcook_provider.launchers.docker.engine import Engine

#: What `make images` says in the labels of an image.
LABELS = {
    "io.pipcook.version": "0.1.0",
    "io.pipcook.protocol": "1",
    "io.pipcook.python": "3.11",
    "io.pipcook.variant": "cpu",
}


def build_image(engine: Engine, tag: str, *, layers: int = 1, size: int = 1_000) -> None:
    """Build an image with so many layers of so many bytes that no compression makes smaller, and with our labels."""
    copies = [f"COPY {number} /{number}" for number in range(layers)]
    labels = [f'LABEL {name}="{text}"' for name, text in LABELS.items()]
    files = {"Dockerfile": "\n".join(["FROM scratch", *copies, *labels, 'CMD ["/none"]']).encode()}
    files |= {str(number): os.urandom(size) for number in range(layers)}
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    context.seek(0)
    told = list(engine.client.build(fileobj=context, custom_context=True, tag=tag, rm=True, decode=True))
    assert not [step for step in told if "error" in step], told


def remove_image(engine: Engine, tag: str) -> None:
    """Remove an image from the engine, if it is there."""
    from docker.errors import ImageNotFound

    with contextlib.suppress(ImageNotFound):
        engine.client.remove_image(tag, force=True)


@contextlib.contextmanager
def small_image(engine: Engine) -> Iterator[str]:
    """Have an image of one layer for as long as the block lasts."""
    tag = f"pipcook-test-{secrets.token_hex(4)}:1"
    build_image(engine, tag)
    try:
        yield tag
    finally:
        remove_image(engine, tag)
