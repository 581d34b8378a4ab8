"""``airflow pipcook ...``: the ``pipcook`` command with Airflow's connections. Imported by every ``airflow`` command: light
on purpose.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.cli.cli_config import ActionCommand, Arg

if TYPE_CHECKING:
    from pipcook_provider.settings import Settings
    from pipcook_provider.templating import ConnectionFields

#: What the help names: asking the command itself would have every ``airflow`` command import it.
COMMANDS = ("train", "lint", "lock", "framework", "clean")

_CONTEXT = "_AIRFLOW_PROCESS_CONTEXT"


def get_pipcook_commands() -> list[ActionCommand]:
    """Return what the provider adds to the ``airflow`` command."""
    return [
        ActionCommand(
            name="pipcook",
            help="Train from Pipcook documents and keep their frameworks, with Airflow's connections",
            func=run,
            args=[_arguments()],
            epilog=f"COMMAND is one of {', '.join(COMMANDS)}; airflow pipcook COMMAND --help says more.",
        )
    ]


def _arguments() -> Arg:
    return Arg(  # type: ignore[no-untyped-call] # Airflow's own
        ("arguments",), nargs=argparse.REMAINDER, metavar="COMMAND ...", help="the same as of the command pipcook"
    )


def run(options: argparse.Namespace) -> None:
    """Run ``pipcook`` with the arguments behind it, and exit with its status."""
    from pipcook_provider.cli import main

    for handler in logging.getLogger().handlers:
        # Airflow logs to stdout, which is for the command's result, such as JSON.
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)
    arguments = options.arguments
    sys.exit(main(arguments, program="airflow pipcook", load_settings=_settings, find_connection=_find_connection))


def _settings() -> Settings:
    from pipcook_provider.hooks.framework import PipcookFrameworkHook

    with _reading_the_metastore():
        return PipcookFrameworkHook().settings()


def _find_connection(settings: Settings, conn_id: str) -> ConnectionFields:
    from pipcook_provider.operators.templates import find_connection

    with _reading_the_metastore():
        return find_connection(settings, conn_id)


@contextmanager
def _reading_the_metastore() -> Iterator[None]:
    """Let connections be looked up as Airflow's own commands do it, those in its database too."""
    former = os.environ.get(_CONTEXT)
    os.environ[_CONTEXT] = "server"
    try:
        yield
    finally:
        if former is None:
            del os.environ[_CONTEXT]
        else:
            os.environ[_CONTEXT] = former
