"""The ``pipcook`` command: the same stages as in Airflow, without any Airflow service."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from pipcook_provider import __version__
from pipcook_provider.cli import framework, housekeeping, lint, lock, train
from pipcook_provider.cli.base import FAILED, Commands
from pipcook_provider.errors import PipcookError, ScriptError
from pipcook_provider.settings import Settings
from pipcook_provider.templating import ConnectionFields

_INTERRUPTED = 130


def main(
    arguments: Sequence[str] | None = None,
    *,
    program: str = "pipcook",
    load_settings: Callable[[], Settings] = Settings.load,
    find_connection: Callable[[Settings, str], ConnectionFields] | None = None,
) -> int:
    """Run the command; return its exit status: 0, 1 for a failure, 2 for wrong usage, 130 after Ctrl-C.

    :param arguments: by default those of this process.
    :param program: what a person typed to get here.
    :param load_settings: how the settings are had, once the arguments are known to be right.
    :param find_connection: what templates may have of an Airflow connection, by its id; None where there are none.
    """
    options = _parser(program).parse_args(arguments, argparse.Namespace(find_connection=find_connection))
    try:
        with _leaving_in_order():
            settings = load_settings()
            if settings.connections and not settings.credentials:
                print(
                    "warning: [pipcook] connections are Airflow's, and not used by this command. Use airflow pipcook.",
                    file=sys.stderr,
                )
            return int(options.run(options, settings))
    except BrokenPipeError:
        # Whoever reads our output has seen enough; nothing must be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (PipcookError, OSError) as exc:
        if getattr(options, "debug", False):
            raise
        if isinstance(exc, ScriptError) and exc.details:
            print(exc.details.rstrip(), file=sys.stderr)
        print(f"pipcook: {exc}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(
            "pipcook: interrupted; what was running has been ended, what of a download arrived is kept", file=sys.stderr
        )
        return _INTERRUPTED


@contextmanager
def _leaving_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the command as an exception does: the stage with it, the terminal as it was."""

    def leave(number: int, _frame: object) -> NoReturn:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Train models from Pipcook pipeline documents.",
        epilog=f"example: {program} train dags/digits-image-classification.json -o digits",
    )
    parser.add_argument("--version", action="version", version=f"pipcook-provider {__version__}")
    commands = Commands(program, parser.add_subparsers(title="commands", required=True, metavar="COMMAND"))
    for part in (train, lint, lock, framework, housekeeping):
        part.add_commands(commands)
    return parser
