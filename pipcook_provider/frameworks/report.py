"""Who is told what getting a framework does, while it lasts."""

from __future__ import annotations

import logging
from typing import Protocol

from pipcook_provider.units import show_size

_SMALL = 10_000_000
_log = logging.getLogger(__name__.rpartition(".")[0])


class Report(Protocol):
    """Is told what is done, as it happens; the default is :class:`LogReport`."""

    def info(self, text: str) -> None:
        """Take a sentence about a step."""

    def warning(self, text: str) -> None:
        """Take a sentence about what is not as it should be, though work goes on."""

    def progress(self, label: str, done: int, total: int | None) -> None:
        """Take how far a long step is, in bytes; ``total`` is None where nobody knows it, both are 0 at its end."""


class LogReport:
    """Writes sentences into a log; of the progress of what is not small, each quarter.

    :param log: by default this package's.
    """

    def __init__(self, log: Logger = _log) -> None:
        self._log = log
        self._told: tuple[str, int] | None = None

    def info(self, text: str) -> None:
        """Log a sentence."""
        self._log.info("%s", text)

    def warning(self, text: str) -> None:
        """Log a warning."""
        self._log.warning("%s", text)

    def progress(self, label: str, done: int, total: int | None) -> None:
        """Log the start and every quarter of a long step."""
        if total is None or total < _SMALL:
            return
        quarter = 4 * done // total
        if (label, quarter) != self._told:
            self._told = (label, quarter)
            self._log.info("%s", f"{label}: {25 * quarter} % of {show_size(total)}")


class Logger(Protocol):
    """What is needed of a logger."""

    def info(self, event: str, *arguments: object) -> object:
        """Log a line."""

    def warning(self, event: str, *arguments: object) -> object:
        """Log a warning."""
