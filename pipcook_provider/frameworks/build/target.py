"""Another platform than this one, as packages and their installer spell it: Linux with glibc, as container images have it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipcook_provider.errors import FrameworkError
from pipcook_provider.frameworks.platform import Platform

if TYPE_CHECKING:
    from packaging.tags import Tag

_MACHINES = {"x64": "x86_64", "arm64": "aarch64"}
_PYTHON = re.compile(r"py(\d)(\d+)")
#: The glibc that packages may need is 2.28, as manylinux images have it: all distributions that are maintained have it.
_GLIBC = 28
#: Names that tags had before they told the version of glibc, by that (PEP 600).
_FORMER_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


@dataclass(frozen=True, slots=True)
class Target:
    """What packages are chosen for, where that is not this process's platform.

    :param python: major and minor version.
    :param machine: as Linux calls it: ``x86_64`` or ``aarch64``.
    """

    python: tuple[int, int]
    machine: str

    @classmethod
    def of(cls, platform: Platform) -> Target | None:
        """Return what to choose packages for; None for this process's platform, for which nothing need be said.

        :raises FrameworkError: no packages can be chosen here for that platform.
        """
        if platform.is_current:
            return None
        python = _PYTHON.fullmatch(platform.python)
        if platform.os != "linux" or platform.arch not in _MACHINES or python is None:
            raise FrameworkError(
                f"A framework for {platform.key} cannot be built on another platform: expected Linux on "
                f"{' or '.join(_MACHINES)} and a Python such as py312, as container images have them. Build it on such a "
                "machine and name a mirror that has it, or choose another image."
            )
        return cls((int(python[1]), int(python[2])), _MACHINES[platform.arch])

    @property
    def version(self) -> str:
        """Version of Python, such as ``3.12``."""
        return ".".join(map(str, self.python))

    @property
    def has_this_python(self) -> bool:
        """Whether this process's byte-code is valid there."""
        return self.python == sys.version_info[:2]

    @property
    def options(self) -> tuple[str, ...]:
        """The options of uv that stand for it."""
        return ("--python-version", self.version, "--python-platform", f"{self.machine}-manylinux_2_{_GLIBC}")

    @property
    def markers(self) -> dict[str, str]:
        """The variables of environment markers (PEP 508). Like uv, the first release of a Python stands for all."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.version}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.version}.0",
            "python_version": self.version,
            "sys_platform": "linux",
        }

    def tags(self) -> Iterator[Tag]:
        """Yield the tags of wheels that fit, the best first."""
        from packaging.tags import compatible_tags, cpython_tags

        platforms = list(self._platforms())
        interpreter = f"cp{self.python[0]}{self.python[1]}"
        yield from cpython_tags(self.python, [interpreter], platforms)
        yield from compatible_tags(self.python, interpreter, platforms)

    def _platforms(self) -> Iterator[str]:
        yield f"linux_{self.machine}"
        for minor in range(_GLIBC, min(_FORMER_NAMES) - 1, -1):
            yield f"manylinux_2_{minor}_{self.machine}"
            if minor in _FORMER_NAMES:
                yield f"{_FORMER_NAMES[minor]}_{self.machine}"
