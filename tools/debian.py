"""Programs from Debian's packages, where they are missing and root may install them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection

from tools.errors import ToolError

_LAST_LINES = 15


def install_packages(packages: Collection[str]) -> None:
    """Install packages with ``apt-get``; nothing is done where there are none.

    :raises ToolError: this is not root on Debian or Ubuntu, or it fails.
    """
    if not packages:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ToolError(
            f"Expected {', '.join(packages)} to be installed; only root on Debian or Ubuntu can have that done here. "
            "Install them, then try again."
        )
    print(f"Installing {' '.join(packages)} ...", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        answer = subprocess.run(
            ["apt-get", "--quiet", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if answer.returncode:
            lines = answer.stdout.splitlines()[-_LAST_LINES:]
            raise ToolError(
                "\n    ".join([f"apt-get {command[0]} failed, so {' '.join(packages)} could not be installed:", *lines])
            )
