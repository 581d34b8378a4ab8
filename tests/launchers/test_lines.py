"""Lines of a stage's output, however their bytes arrive."""

from __future__ import annotations

import pytest

from pipcook_provider.launchers.lines import Lines

TEXT = "plain\näöü 雑音 🎲\n\nlast, without an end 雑"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_are_whole_however_they_arrive(size: int) -> None:
    """Lines and characters are put together from pieces of any size."""
    found: list[bytes] = []
    lines = Lines(found.append)
    data = TEXT.encode()
    for begin in range(0, len(data), size):
        lines.feed(data[begin : begin + size])
    lines.finish()
    assert [line.decode() for line in found] == TEXT.split("\n")


@pytest.mark.parametrize("character", ["x", "ä", "雑", "🎲"])
def test_endless_line_is_cut_between_characters(character: str) -> None:
    """A line without an end is passed on in pieces; each ends with a whole character, and none is lost."""
    found: list[bytes] = []
    lines = Lines(found.append)
    data = f"-{character * 200_000}".encode()
    for begin in range(0, len(data), 10_001):
        lines.feed(data[begin : begin + 10_001])
        assert max(map(len, found), default=0) < 80_000
    lines.finish()
    assert len(found) > 2
    assert "".join(line.decode() for line in found) == data.decode()
