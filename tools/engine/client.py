"""The ``docker`` program: which one, and running it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.errors import ToolError

_LAST_LINES = 20


@dataclass(frozen=True, slots=True)
class Client:
    """A ``docker`` program.

    :param program: its path.
    :param environment: what it runs with.
    """

    program: str
    environment: Mapping[str, str]

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> Client | None:
        """Return the first on PATH that builds with BuildKit; None when there is none.

        Being first is not enough: since version 23 ``docker build`` lies in a plug-in of its own, which may be missing.
        """
        environment = {**environment, "DOCKER_BUILDKIT": "1"}
        for folder in environment.get("PATH", os.defpath).split(os.pathsep):
            if (program := shutil.which("docker", path=folder)) and cls(program, environment).builds():
                return cls(program, environment)
        return None

    def builds(self) -> bool:
        """Return whether it can build with BuildKit."""
        return self._start("build", "--help").returncode == 0

    def engine(self) -> str | None:
        """Return the version of the engine that answers it; None when none does."""
        answer = self._start("version", "--format", "{{.Server.Version}}")
        return answer.stdout.strip() if answer.returncode == 0 else None

    def has_image(self, image: str) -> bool:
        """Return whether the engine has an image."""
        return self._start("image", "inspect", image).returncode == 0

    def run(self, *arguments: str | Path, purpose: str) -> str:
        """Run a command to its end; return what it writes to stdout.

        :param purpose: what it is run for, as what an error says could not be done.
        :raises ToolError: it fails; the text has the last lines of what it wrote to stderr.
        """
        answer = self._start(*arguments)
        if answer.returncode:
            lines = answer.stderr.strip().splitlines()[-_LAST_LINES:]
            raise ToolError("\n    ".join([f"{purpose}: {self.program} {arguments[0]} failed.", *lines]))
        return answer.stdout.strip()

    def _start(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
