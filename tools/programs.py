"""Programs that tests use beside Python's packages: ``python -m tools.programs install`` or ``list``; see ``--help``."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.debian import install_packages
from tools.errors import ToolError


@dataclass(frozen=True)
class Program:
    """A program, and where it comes from.

    :param name: what people call it.
    :param purpose: the tests that need it.
    :param commands: its commands; the first that is found is used.
    :param package: the Debian package that has it.
    :param folders: where to look beside PATH: a pattern below the root folder, of which the last match counts.
    """

    name: str
    purpose: str
    commands: tuple[str, ...]
    package: str
    folders: str = ""

    def find(self) -> str | None:
        """Return the path of its command; None when there is none."""
        # Names of folders are numbers of versions: the longer one is the newer.
        folders = map(str, Path("/").glob(self.folders)) if self.folders else ()
        places = [None, *sorted(folders, key=lambda path: (len(path), path), reverse=True)]
        return next(
            (found for place in places for name in self.commands if (found := shutil.which(name, path=place))), None
        )

    @property
    def remedy(self) -> str:
        """What is missing where it is, and what to do."""
        return (
            f"needs {self.name} ({', '.join(self.commands)}), found none; install it, or as root on Debian: "
            ".venv/bin/python -m tools.programs install"
        )


CHROMIUM: Final = Program(
    "Chromium",
    "Airflow's web UI",
    ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "chromium",
)
POSTGRESQL: Final = Program(
    "PostgreSQL", "a whole Airflow", ("initdb",), "postgresql", folders="usr/lib/postgresql/*/bin"
)
PROGRAMS: Final = (CHROMIUM, POSTGRESQL)


def install() -> None:
    """Install Debian's packages of the programs that are missing.

    :raises ToolError: one is missing, and cannot be installed.
    """
    install_packages([program.package for program in PROGRAMS if program.find() is None])


def show() -> None:
    """Print each program's path.

    :raises ToolError: one is missing.
    """
    found = {program: program.find() for program in PROGRAMS}
    for program, path in found.items():
        print(f"{program.name}: {path or 'missing'}")
    missing = [f"Testing {program.purpose} {program.remedy}" for program, path in found.items() if path is None]
    if missing:
        raise ToolError("\n".join(missing))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, or 1 for a failure."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.programs", description="Programs that tests use beside Python's packages."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    commands.add_parser("install", help="install Debian's packages of those that are missing, then list them")
    commands.add_parser("list", help="say where they are; exit status 1 where one is missing")
    try:
        if parser.parse_args(arguments).command == "install":
            install()
        show()
    except ToolError as exc:
        print(f"programs: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
