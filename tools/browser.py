"""A Chromium for tests of Airflow's web UI: ``python -m tools.browser install`` or ``path``; see ``--help``."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence

from tools.debian import install_packages
from tools.errors import ToolError

#: Programs that are a Chromium, the first on PATH is used; the first of them is also the name of Debian's package.
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_browser() -> str | None:
    """Return the path of a Chromium or Chrome; None when there is none on PATH."""
    return next(filter(None, map(shutil.which, _PROGRAMS)), None)


def need_browser() -> str:
    """Return the path of a Chromium or Chrome.

    :raises ToolError: there is none on PATH.
    """
    found = find_browser()
    if found is None:
        raise ToolError(
            f"Expected a Chromium on PATH ({', '.join(_PROGRAMS)}), found none, so that nothing can be tested in a browser. "
            "Install one, or as root on Debian: .venv/bin/python -m tools.browser install"
        )
    return found


def install_browser() -> str:
    """Return the path of a Chromium or Chrome, of Debian's package where there is none yet.

    :raises ToolError: there is none, and it cannot be installed.
    """
    if find_browser() is None:
        install_packages([_PROGRAMS[0]])
    return need_browser()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, or 1 for a failure."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.browser", description="A Chromium for tests of Airflow's web UI."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    install = commands.add_parser("install", help="make sure that there is one: install Debian's where there is none")
    install.set_defaults(run=install_browser)
    path = commands.add_parser("path", help="say where it is; exit status 1 where there is none")
    path.set_defaults(run=need_browser)
    try:
        print(parser.parse_args(arguments).run())
    except ToolError as exc:
        print(f"browser: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
