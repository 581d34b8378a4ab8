"""What addresses stand for tomorrow."""

from __future__ import annotations

import pytest

from pipcook_provider.pinning import is_moving_name, is_pinned, moving_part

COMMIT = "4b3d60c" + 33 * "a"
DIGEST = "sha256=" + 64 * "a"


@pytest.mark.parametrize(
    "path",
    [
        "/gh/o/r@2232184/a.py",
        "/gh/o/r@4b3d60c/a.py",
        "/gh/o/r%404b3d60c/a.py",
        f"/o/r/{COMMIT}/a.py",
        f"/gh/o/r@{COMMIT}/a.py",
        f"/o/r/{40 * '1'}/a.py",
        "/npm/@scope/p@1.2.3/a.py",
        "/npm/p@1.2.3-beta.1/a.py",
        "/p@1.2.3",
    ],
)
def test_is_pinned(path: str) -> None:
    """A commit and an exact version in the path pin an address."""
    assert is_pinned(f"https://h{path}")


@pytest.mark.parametrize(
    "url",
    [
        "https://h/gh/o/r@main/a.py",
        "https://h/gh/o/r@20240131/a.py",
        "https://h/gh/o/r@defaced/a.py",
        "https://h/gh/o/r@4b3d60/a.py",
        "https://h/npm/p@1.2/a.py",
        "https://h/npm/p@1.2.3.py",
        "https://h/4b3d60c/a.py",
        f"https://h/{COMMIT}0/a.py",
        f"https://h/a.py?commit=/{COMMIT}/",
        f"https://h/a.py#@{COMMIT}",
        "https://u:p@4b3d60c/a.py",
    ],
)
def test_is_not_pinned(url: str) -> None:
    """Branches, dates, words and ranges of versions do not, nor does anything outside the path."""
    assert not is_pinned(url)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("https://cdn.jsdelivr.net/gh/o/r@main/a.py", '"@main"'),
        ("https://cdn.jsdelivr.net/gh/o/r@a-feature/a.py", '"@a-feature"'),
        ("https://cdn.jsdelivr.net/gh/o/r@1.2/a.py", '"@1.2"'),
        ("https://cdn.jsdelivr.net/gh/o/r/a.py", "o/r without a version"),
        ("https://cdn.jsdelivr.net/npm/@scope/p/a.py", "@scope/p without a version"),
        ("https://cdn.jsdelivr.net/npm/@scope/p@2/a.py", '"@2"'),
        ("https://unpkg.com/p@next/a.py", '"@next"'),
        ("https://unpkg.com/p/a.py", "p without a version"),
        ("https://raw.githubusercontent.com/o/r/main/a.py", 'the branch "main"'),
        ("https://raw.githubusercontent.com/o/r/refs/heads/fast/a.py", 'the branch "fast"'),
        ("https://RAW.githubusercontent.com/o/r/Feature/a.py?x=1", 'the branch "Feature"'),
        ("https://github.com/o/r/raw/master/a.py", 'the branch "master"'),
        ("https://gitlab.example.com/group/sub/r/-/raw/dev/a.py", 'the branch "dev"'),
        ("https://codeberg.org/o/r/raw/branch/x/a.py", 'the branch "x"'),
        ("https://git.example.com/o/r/raw/master/a.py", 'the branch "master"'),
        ("https://huggingface.co/o/r/resolve/main/model.zip", 'the branch "main"'),
        ("https://example.com/scripts@latest/a.py", '"@latest"'),
        ("https://example.com/scripts%40Master/a.py", '"@Master"'),
        ("https://example.com/scripts@v2/a.py", '"@v2", the beginning of a version'),
        ("http://example.com/latest/a.py", '"latest"'),
        ("http://example.com/builds/Latest", '"Latest"'),
    ],
)
def test_moving_part(url: str, part: str) -> None:
    """Branches, channels and beginnings of versions move, and so does a package that is named without a version."""
    assert moving_part(url) == part


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.jsdelivr.net/gh/o/r@fe00a8e/a.py",
        "https://cdn.jsdelivr.net/gh/o/r@v1.2.3/a.py",
        "https://cdn.jsdelivr.net/npm/p@1.2.3/a.py",
        f"https://raw.githubusercontent.com/o/r/{COMMIT}/a.py",
        "https://raw.githubusercontent.com/o/r/v1.2/a.py",
        "https://raw.githubusercontent.com/o/r/refs/tags/first/a.py",
        "https://codeberg.org/o/r/raw/tag/first/a.py",
        f"https://codeberg.org/o/r/raw/commit/{COMMIT}/a.py",
        "https://example.com/raw/data/a.py",
        "https://example.com/main/a.py",
        "https://example.com/latest.py",
        "https://example.com/icon@2x.png",
        "https://user@example.com/a.py",
        "https://example.com/a.py?version=latest",
        f"https://example.com/latest/a.py#{DIGEST}",
        "file:///srv/latest/a.py",
        "/srv/scripts@main/a.py",
    ],
)
def test_nothing_moves(url: str) -> None:
    """Commits, versions, tags, digests and files of this machine do not move; of other addresses nothing is known."""
    assert moving_part(url) is None


def test_moving_names() -> None:
    """Names of branches and channels are told from versions."""
    assert all(map(is_moving_name, ("main", "latest", "Nightly")))
    assert not any(map(is_moving_name, ("1", "v2.1", "mainz", "")))
