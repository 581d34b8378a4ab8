from __future__ import annotations

from pathlib import Path

import pytest

from pipcook_provider.errors import FrameworkError
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.frameworks.reference import (
    NameReference,
    PathReference,
    UrlReference,
    parse_reference,
    version_key,
)


@pytest.mark.parametrize(
    ("text", "origin", "expected"),
    [
        ("tensorflow", None, NameReference("tensorflow", None)),
        ("tensorflow@2.21", "/p/a.json", NameReference("tensorflow", "2.21")),
        ("tfjs@3.8.0-rc.1", None, NameReference("tfjs", "3.8.0-rc.1")),
        ("https://h/f.zip#sha256=00", None, UrlReference("https://h/f.zip#sha256=00")),
        ("HTTP://h/f.zip", None, UrlReference("HTTP://h/f.zip")),
        ("/a/f.zip", "/p/a.json", PathReference(Path("/a/f.zip"))),
        ("file:///a/f%20g", "/p/a.json", PathReference(Path("/a/f g"))),
        ("f.zip", "/p/a.json", PathReference(Path("/p/f.zip"))),
        ("./f", "/p/a.json", PathReference(Path("/p/f"))),
        ("f/g", "file:///p/a.json", PathReference(Path("/p/f/g"))),
        ("~/f", "/p/a.json", PathReference(Path.home() / "f")),
        ("./f", None, PathReference(Path.cwd() / "f")),
        ("../f.zip", "https://h/p/a.json?x=1", UrlReference("https://h/f.zip")),
    ],
)
def test_forms(text: str, origin: str | None, expected: object) -> None:
    """Each form is told from the others, and relative ones are relative to the document."""
    assert parse_reference(text, origin) == expected


@pytest.mark.parametrize("text", ["", "TensorFlow@2", "tensorflow==2.21", "tensorflow@latest", "ftp://h/f.zip", "a b"])
def test_no_form(text: str) -> None:
    """What is none of the forms is refused with all of them."""
    with pytest.raises(FrameworkError, match="name@version"):
        parse_reference(text)


def test_accepts() -> None:
    """A version accepts what begins with it, number by number; pre-releases only by their own name."""
    asked = NameReference("f", "2.21")
    assert [v for v in ("2.21", "2.21.3", "2.21.0+cpu", "2.2", "2.210", "2.21.0rc1") if asked.accepts(v)] == [
        "2.21",
        "2.21.3",
        "2.21.0+cpu",
    ]
    assert NameReference("f", "2.21.0").accepts("2.21")
    assert NameReference("f", "2.21.0rc1").accepts("2.21.0rc1")
    assert NameReference("f", None).accepts("1")


def test_version_order() -> None:
    """Versions are ordered as people read them."""
    ordered = ["2.9", "2.21.0rc1", "2.21.0", "2.21.1", "10"]
    assert sorted(["10", "2.21.0", "2.9", "2.21.1", "2.21.0rc1"], key=version_key) == ordered
    assert version_key("2.21") == version_key("2.21.0")


def test_platform() -> None:
    """The platform is spelled as mirrors spell it."""
    assert Platform("linux", "x64", "py311").key == "py311-linux-x64"
    assert Platform.current().arch not in {"x86_64", "aarch64", "AMD64"}
    assert not Platform("darwin", "arm64", "py311").has_cuda
