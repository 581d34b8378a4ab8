"""Files that readers see whole or not at all."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path


def write_atomically(target: Path, content: bytes) -> None:
    """Write a file by way of a rename; a file that is there is replaced.

    :raises OSError: it cannot be written; what was there stays.
    """
    partial = unique_sibling(target)
    try:
        partial.write_bytes(content)
        partial.replace(target)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def unique_sibling(target: Path) -> Path:
    """Return a hidden path beside a file that nobody else uses."""
    return target.with_name(f".{secrets.token_hex(8)}.part")
