"""What a framework's binaries depend on, and how a mirror's file names spell it.

Names of files on a mirror are Pipcook's, those of frameworks without JavaScript packages without the parts about Node::

    py311/tensorflow%402.21.0-linux-x64.zip
    py311/tensorflow%402.21.0-linux-x64-gpu.zip
    node20-py311/tfjs%403.8.0-linux-x64-v9.zip
    node20-py37/tfjs%403.8.0-linux-x64-v9.zip     on Pipcook's own mirrors, whatever the Python
"""

from __future__ import annotations

import functools
import json
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from urllib.parse import quote

from pipcook_provider.errors import FrameworkError

_ARCHITECTURES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}
_PIPCOOKS_PYTHON = "py37"
_ANSWER_TIME = 30


@dataclass(frozen=True, slots=True)
class Node:
    """The Node.js of a machine.

    :param major: 20 for Node 20.11.
    :param napi: version of Node-API, which compiled packages are built against.
    """

    major: int
    napi: int

    @classmethod
    def current(cls) -> Node:
        """Return the Node.js that ``PATH`` leads to; it is asked once per process.

        :raises FrameworkError: there is none, or it does not answer.
        """
        program = shutil.which("node")
        if program is None:
            raise FrameworkError(
                "Node.js was expected on this machine, since the framework has JavaScript packages, but PATH leads to no "
                "program node, so they could not run. Install Node.js, which brings npm along, or choose a framework "
                "of Python packages."
            )
        return _ask(program)


@functools.cache
def _ask(program: str) -> Node:
    question = "JSON.stringify([process.versions.node, process.versions.napi])"
    try:
        asked = subprocess.run(
            [program, "-p", question], capture_output=True, text=True, check=True, timeout=_ANSWER_TIME
        )
        version, napi = json.loads(asked.stdout)
        return Node(int(version.partition(".")[0]), int(napi))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as exc:
        raise FrameworkError(
            f"{program} was expected to be Node.js and to tell its version, but it did not ({exc}), so packages cannot be "
            "chosen for it. Install Node.js again, or correct PATH."
        ) from exc


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system, architecture, Python, and where it matters Node.js, of the place where a framework is used.

    :param os: ``linux``, ``darwin`` or ``win32``.
    :param arch: ``x64`` or ``arm64``; others as the machine calls itself.
    :param python: ``py311`` for Python 3.11.
    :param node: for frameworks with JavaScript packages only.
    """

    os: str
    arch: str
    python: str
    node: Node | None = None

    @classmethod
    def current(cls) -> Platform:
        """Return the platform of this process."""
        machine = platform.machine().lower()
        version = f"py{sys.version_info.major}{sys.version_info.minor}"
        arch = _ARCHITECTURES.get(machine, machine)
        return cls(sys.platform, arch, version)

    def with_node(self) -> Platform:
        """Return this platform for a framework with JavaScript packages.

        :raises FrameworkError: there is no Node.js, or it is another platform than this process's, whose Node.js nobody knows.
        """
        if self.is_current:
            return replace(self, node=Node.current())
        raise FrameworkError(
            f"A framework for {self.key} was expected to be of Python packages only, but this one has JavaScript packages. "
            f"They need Node.js, which container images do not have and only a worker's own platform "
            f"({Platform.current().key}) can tell of. Run the pipeline in processes instead of containers, or choose a "
            "framework of Python packages."
        )

    @property
    def is_current(self) -> bool:
        """Whether it is that of this process, Node.js aside."""
        return replace(self, node=None) == Platform.current()

    @property
    def has_cuda(self) -> bool:
        """Whether this operating system can have CUDA at all."""
        return self.os != "darwin"

    @property
    def key(self) -> str:
        """``py311-linux-x64``, or ``node20-py311-linux-x64-v9`` with Node.js: the end of a cache key."""
        return f"{self.folders[0]}-{self.binaries}"

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of a mirror that have files for this platform, in the order to look into them."""
        if self.node is None:
            return (self.python,)
        pythons = dict.fromkeys((self.python, _PIPCOOKS_PYTHON))
        return tuple(f"node{self.node.major}-{python}" for python in pythons)

    def mirror_paths(self, name: str, version: str, variant: str | None) -> tuple[str, ...]:
        """Return the paths below a mirror's address at which a framework may be, in the order to try them.

        :param variant: ``gpu`` names the GPU variant's file, anything else the plain one.
        """
        gpu = "-gpu" if variant == "gpu" else ""
        file = f"{quote(f'{name}@{version}', safe='')}-{self.binaries}{gpu}.zip"
        return tuple(f"{folder}/{file}" for folder in self.folders)

    @property
    def binaries(self) -> str:
        """What compiled packages depend on beside Python: ``linux-x64``, or ``linux-x64-v9`` with Node.js."""
        return f"{self.os}-{self.arch}" + (f"-v{self.node.napi}" if self.node else "")
