"""How the demo looks: a progress bar per task on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

RUNNING = "running"
SUCCESS = "success"
FAILURES = frozenset({"failed", "upstream_failed"})


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that takes time.

    :param title: what a person calls it.
    :param state: ``""`` before it begins, then Airflow's name of its state.
    :param seconds: how long it has taken so far.
    :param progress: how far it is, from 0 to 1; None when nobody knows.
    :param told: what it tells of itself.
    """

    title: str
    state: str = ""
    seconds: float = 0.0
    progress: float | None = None
    told: str = ""


class Board(Protocol):
    """Shows rows as they are now."""

    def show(self, rows: Sequence[Row]) -> None:
        """Show all rows, in the place of those shown before."""


@contextmanager
def open_board() -> Iterator[Board]:
    """Yield the board that fits where stdout goes."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        yield _Lines()
        return
    from rich.live import Live

    with Live() as live:
        yield _Bars(live)


class _Lines:
    """A line whenever a row's state, or what it tells, is new."""

    def __init__(self) -> None:
        self._shown: dict[str, tuple[str, str]] = {}

    def show(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if (row.state, row.told) != self._shown.get(row.title, ("", "")):
                self._shown[row.title] = (row.state, row.told)
                print(
                    f"[{row.title}] {row.state:8} {row.seconds:5.1f} s  {_percent(row)}{row.told}".rstrip(), flush=True
                )


def _percent(row: Row) -> str:
    return "" if row.progress is None or row.state != RUNNING else f"{100 * row.progress:3.0f} %  "


class _Bars:
    """A bar for each row, redrawn in place."""

    def __init__(self, live: Live) -> None:
        from rich.spinner import Spinner

        self._live = live
        self._spinner = Spinner("dots")

    def show(self, rows: Sequence[Row]) -> None:
        self._live.update(self._table(rows))

    def _table(self, rows: Sequence[Row]) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1), expand=True)
        for column in ({"width": 1}, {"no_wrap": True}, {"width": 24}, {"justify": "right", "min_width": 7}):
            table.add_column(**column)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for row in rows:
            runs = row.state == RUNNING
            mark = (
                Text("✓", "green")
                if row.state == SUCCESS
                else Text("✗", "red")
                if row.state in FAILURES
                else Text("·", "dim")
            )
            done = 1.0 if row.state == SUCCESS else row.progress or 0.0
            table.add_row(
                self._spinner if runs else mark,
                Text(row.title),
                ProgressBar(total=1.0, completed=done, pulse=runs and row.progress is None),
                f"{row.seconds:.1f} s" if row.state else "",
                Text(row.told or ("" if row.state in (RUNNING, SUCCESS) else row.state)),
            )
        return table
