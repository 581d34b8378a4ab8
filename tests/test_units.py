from __future__ import annotations

from datetime import timedelta

import pytest

from pipcook_provider.units import read_duration, read_memory, read_size, show_size


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_960, "100 kB"),
        (999_600, "1.0 MB"),
        (1.5e9, "1.5 GB"),
        (4e12, "4.0 TB"),
    ],
)
def test_shown_size(size: float, shown: str) -> None:
    """Two or three digits and the unit that people would choose."""
    assert show_size(size) == shown


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("20GB", 20 * 10**9), ("1.5 g", 15 * 10**8), ("512 MiB", 2**29), ("7b", 7)]
)
def test_size(text: str, size: int) -> None:
    """Decimal and binary units, in any case, with or without a space."""
    assert read_size(text) == size


def test_duration() -> None:
    """Durations and sizes need their unit."""
    assert read_duration("30d") == timedelta(days=30)
    assert read_duration("1.5 h") == timedelta(minutes=90)
    for text in ("30", "d", "-1d", "3 fortnights"):
        with pytest.raises(ValueError, match="such as 30d"):
            read_duration(text)
    for text in ("much", "20"):
        with pytest.raises(ValueError, match="such as 500MB"):
            read_size(text)


def test_memory() -> None:
    """A limit is a size that container engines take."""
    assert read_memory("6MiB") == 6 * 2**20
    for text in ("0", "5MB", "4", "9223372TB" + "9" * 9, "9" * 400 + "GB", "much"):
        with pytest.raises(ValueError, match="expected a size"):
            read_memory(text)
