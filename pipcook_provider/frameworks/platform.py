"""What a framework's binaries depend on, and how a mirror's file names spell it."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass

_ARCHITECTURES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system, architecture and Python of the place where a framework is used.

    :param os: ``linux``, ``darwin`` or ``win32``.
    :param arch: ``x64`` or ``arm64``; others as the machine calls itself.
    :param python: ``py311`` for Python 3.11.
    """

    os: str
    arch: str
    python: str

    @classmethod
    def current(cls) -> Platform:
        """Return the platform of this process."""
        machine = platform.machine().lower()
        version = f"py{sys.version_info.major}{sys.version_info.minor}"
        return cls(sys.platform, _ARCHITECTURES.get(machine, machine), version)

    @property
    def has_cuda(self) -> bool:
        """Whether this operating system can have CUDA at all."""
        return self.os != "darwin"

    @property
    def key(self) -> str:
        """``py311-linux-x64``: the end of a cache key."""
        return f"{self.python}-{self.os}-{self.arch}"
