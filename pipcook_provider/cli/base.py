"""What the commands share: how they are declared, and options that several of them have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from pipcook_provider.settings import Settings

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

T = TypeVar("T")

#: Exit status of a command that failed, or that found something wrong.
FAILED = 1

Run = Callable[[argparse.Namespace, Settings], int]


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands of a program, or of a group of it.

    :param program: what a person types before the first command.
    :param subparsers: where argparse keeps them.
    """

    program: str
    subparsers: Subparsers

    def add(
        self, name: str, run: Run, *, purpose: str, description: str, example: str, aliases: Sequence[str] = ()
    ) -> argparse.ArgumentParser:
        """Add a command.

        :param purpose: a few words about it.
        :param run: takes the parsed options and this machine's settings, and returns the exit status.
        :param example: what a person could type, without the program's name.
        """
        parser = self.subparsers.add_parser(
            name,
            aliases=list(aliases),
            help=purpose,
            description=description,
            epilog=f"example: {self.program} {example}",
        )
        parser.set_defaults(run=run)
        return parser

    def group(self, name: str, *, purpose: str, description: str) -> Commands:
        """Add a group of commands."""
        parser = self.subparsers.add_parser(name, help=purpose, description=description)
        return Commands(self.program, parser.add_subparsers(title="commands", required=True, metavar="COMMAND"))


def argument(read: Callable[[str], T]) -> Callable[[str], T]:
    """Return a reader for argparse that tells what the given one says is wrong."""

    def checked(text: str) -> T:
        try:
            return read(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from exc

    return checked


def add_mirrors(parser: argparse.ArgumentParser) -> None:
    """Add the option that names framework mirrors."""
    parser.add_argument(
        "-m",
        "--mirror",
        action="append",
        metavar="URL",
        help="framework mirror, an address or a folder, in the place of the configured ones; may be given repeatedly",
    )


def with_mirrors(settings: Settings, options: argparse.Namespace) -> Settings:
    """Return the settings with the mirrors that the command line names, in the place of the configured ones."""
    return replace(settings, framework_mirror=tuple(options.mirror)) if options.mirror else settings
