"""Whether what an address, or a version, stands for stays the same."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote, urlsplit

_FULL_COMMIT: Final = re.compile(r"(?:^|[/@])[0-9a-f]{40}(?:/|$)")
# Without letters only git's usual seven digits count: eight may be a date. Without digits it may be a word.
_SHORT_COMMIT: Final = re.compile(r"@(?:[0-9]{7}|(?=[0-9a-f]*[0-9])(?=[0-9a-f]*[a-f])[0-9a-f]{7,39})(?:/|$)")
_EXACT_VERSION: Final = re.compile(r"@\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?(?:/|$)")

#: Names of branches and channels: what they stand for changes with the next release, or the next push.
_MOVING_NAME: Final = re.compile(
    "main|master|trunk|head|dev|develop|development|latest|next|stable|nightly|canary|edge|beta|alpha", re.IGNORECASE
)
_BEHIND_AT: Final = re.compile(r"(?<=[^/]@)[^/@]+(?=/|$)")
_PART_OF_VERSION: Final = re.compile(r"[v^~]?\d+(?:\.\d+)?(?:\.[x*])?", re.IGNORECASE)
_LATEST: Final = re.compile(r"(?<=/)latest(?=/|$)", re.IGNORECASE)
#: How hosts of git repositories write what a file's branch, tag or commit is.
_GIT: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"raw\.githubusercontent\.com/[^/]+/[^/]+/(?:refs/heads/)?(?P<name>[^/]+)/",
        r"cdn\.statically\.io/gh/[^/]+/[^/@]+/(?P<name>[^/]+)/",
        r"(?:huggingface\.co|hf-mirror\.com)/.+?/resolve/(?P<name>[^/]+)/",
        r"(?:github\.com|gitee\.com|bitbucket\.org)/[^/]+/[^/]+/raw/(?:refs/heads/)?(?P<name>[^/]+)/",
        r".+?/(?:-/raw|raw/branch)/(?P<name>[^/]+)/",
        r".+?/raw/(?P<name>main|master|trunk|develop)/",
    )
)
#: How networks that deliver packages write which package, and which version where one is stated.
_PACKAGE: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"[^/]*\bjsdelivr\.net/gh/(?P<package>[^/]+/[^/@]+)(?:@(?P<name>[^/]*))?/",
        r"[^/]*\bjsdelivr\.net/npm/(?P<package>(?:@[^/]+/)?[^/@]+)(?:@(?P<name>[^/]*))?/",
        r"unpkg\.com/(?P<package>(?:@[^/]+/)?[^/@]+)(?:@(?P<name>[^/]*))?/",
    )
)
#: A commit, or a tag: as a version is written, or below ``refs/tags``.
_FIXED: Final = re.compile(r"v?\d+\.\d+.*|refs|[0-9a-f]{7,40}", re.IGNORECASE)


def is_pinned(url: str) -> bool:
    """Tell whether what lies at an address never changes, as its path says.

    It names a commit or an exact version (``@major.minor.patch``). A commit is 40 hexadecimal digits between slashes or
    behind an ``@``, or fewer behind an ``@``: 7 to 39 with letters and decimal digits among them, or just 7 decimal ones.
    """
    path = unquote(urlsplit(url).path)
    return any(pattern.search(path) for pattern in (_FULL_COMMIT, _SHORT_COMMIT, _EXACT_VERSION))


@lru_cache(maxsize=1024)
def moving_part(url: str) -> str | None:
    """Return, in words, what in an address stands for something else tomorrow; ``None`` where nothing is known to.

    Only ``http`` and ``https`` addresses move; one that states a digest (``#sha256=``) does not.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.fragment or is_pinned(url):
        return None
    path = unquote(parts.path)
    place = f"{parts.hostname}{path}"
    for pattern in _PACKAGE:
        if found := pattern.match(place):
            return _moving_package(found["package"], found["name"])
    for pattern in _GIT:
        if found := pattern.match(place):
            return None if _FIXED.fullmatch(found["name"]) else f'the branch "{found["name"]}"'
    for found in _BEHIND_AT.finditer(path):
        if _MOVING_NAME.fullmatch(found[0]):
            return f'"@{found[0]}"'
        if _PART_OF_VERSION.fullmatch(found[0]):
            return f'"@{found[0]}", the beginning of a version'
    found = _LATEST.search(path)
    return f'"{found[0]}"' if found else None


def is_moving_name(name: str) -> bool:
    """Tell whether a branch, a tag of an image or a version is called as those are that move: ``main``, ``latest``."""
    return _MOVING_NAME.fullmatch(name) is not None


def _moving_package(package: str, version: str | None) -> str | None:
    if not version:
        return f"{package} without a version"
    if version[:1] in "vV" and _EXACT_VERSION.fullmatch(f"@{version[1:]}"):
        return None
    return f'"@{version}"'
