"""What is recorded: by ``framework.json`` of the packages, by the ``RECORD`` of each wheel (PEP 376, PEP 427) of its files."""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def check_record(record: Mapping[str, str], patterns: Mapping[str, str]) -> None:
    """Compare what ``framework.json`` records of a package with what each of the values must look like.

    :raises ValueError: it is something else.
    """
    if record.keys() != patterns.keys():
        raise ValueError(f"expected {', '.join(patterns)} of each package, found {', '.join(record)}")
    for key, pattern in patterns.items():
        if not re.fullmatch(pattern, record[key]):
            raise ValueError(f"{record[key]!r} is no {key}")


def recorded_digests(site_packages: Path) -> dict[str, str]:
    """Return the sha256 (hex) of the files in a folder by relative path with ``/``, as their wheels record it.

    Files of which no wheel knows the digest, or two wheels tell different ones, are not among them.
    """
    there = set(_files(site_packages))
    return {
        path: next(iter(digests))
        for path, digests in _recorded(site_packages).items()
        if len(digests) == 1 and path in there
    }


def changed_files(site_packages: Path) -> list[str]:
    """Return the files in a folder that are missing or differ from what their wheels record, ordered."""

    def is_changed(path: str, digests: set[str]) -> bool:
        try:
            with (site_packages / path).open("rb") as source:
                return hashlib.file_digest(source, "sha256").hexdigest() not in digests
        except OSError:
            return True

    recorded = sorted(_recorded(site_packages).items())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        changed = pool.map(lambda item: is_changed(*item), recorded)
        return [path for (path, _), is_other in zip(recorded, changed, strict=True) if is_other]


def _recorded(site_packages: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for record in site_packages.glob("*.dist-info/RECORD"):
        with record.open(encoding="utf-8", newline="") as lines:
            for path, algorithm, digest in _entries(csv.reader(lines)):
                # Installers write the scripts in bin/ and byte-code themselves.
                is_own = not path.startswith(("/", "../", "bin/")) and not path.endswith(".pyc")
                if algorithm == "sha256" and is_own:
                    found[path].add(digest)
    return found


def _entries(rows: Iterator[list[str]]) -> Iterator[tuple[str, str, str]]:
    for row in rows:
        if len(row) < 2:
            continue
        algorithm, _, digest = row[1].partition("=")
        try:
            yield row[0], algorithm, base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)).hex()
        except binascii.Error:
            continue


def _files(directory: Path) -> Iterator[str]:
    for folder, _, names in os.walk(directory):
        prefix = Path(folder).relative_to(directory).as_posix()
        for name in names:
            yield name if prefix == "." else f"{prefix}/{name}"
