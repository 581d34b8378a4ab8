"""What the errors of this package are as texts."""

from __future__ import annotations

import pytest

from pipcook_provider.errors import FetchError, PipcookError, Problem, SpecError


@pytest.mark.parametrize("kind", [PipcookError, FetchError])
def test_error_can_be_stored(kind: type[PipcookError]) -> None:
    """NUL and half a character, which a server's answer may hold and no database can, are told by their escapes."""
    assert (
        str(kind("404 No\0thing \ud800 数据 \U0001f600\n\x1b[0m"))
        == "404 No\\x00thing \\ud800 数据 \U0001f600\n\x1b[0m"
    )


def test_problems_can_be_stored() -> None:
    """So are the problems of a document, whatever it is called."""
    error = SpecError("/dags/\udcff.json", (Problem.of_document("Expected a text, found \ud800."),))
    assert str(error) == "/dags/\\udcff.json:1:1: $: Expected a text, found \\ud800."
