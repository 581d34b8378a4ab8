"""Sizes and durations as people write and read them."""

from __future__ import annotations

import re
from datetime import timedelta

_SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SIZES |= {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_DURATIONS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AMOUNT = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([a-z]*)")
_LEAST_MEMORY = 6 * 2**20  # Docker refuses less
_MOST_MEMORY = 2**63 - 1


def show_size(size: float) -> str:
    """Return a number of bytes in the unit that people would choose: ``1.5 GB``, ``12 kB``, ``0 B``."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def read_size(text: str) -> int:
    """Return the bytes that a text such as ``20GB`` or ``512 MiB`` means.

    :raises ValueError: it means none.
    """
    return int(_read(text, _SIZES, "a size such as 500MB or 20GB"))


def read_memory(text: str) -> int:
    """Return the bytes that a text such as ``4GB`` lets a container use.

    :raises ValueError: it means no size, or one that container engines do not take.
    """
    size = read_size(text)
    if not _LEAST_MEMORY <= size <= _MOST_MEMORY:
        raise ValueError(f"expected a size from 6MiB on that 64 bits can hold, such as 4GB, found {text!r}")
    return size


def read_duration(text: str) -> timedelta:
    """Return the duration that a text such as ``30d``, ``12h`` or ``45min`` means.

    :raises ValueError: it means none.
    """
    return timedelta(seconds=_read(text, _DURATIONS, "a duration such as 30d, 12h or 45min"))


def _read(text: str, units: dict[str, int], expected: str) -> float:
    found = _AMOUNT.fullmatch(text.strip().lower())
    if found and float(found[1]) == 0:
        return 0
    if found is None or found[2] not in units:
        raise ValueError(f"expected {expected}, found {text!r}")
    return float(found[1]) * units[found[2]]
