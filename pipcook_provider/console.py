"""How a run looks to a person: a progress bar per stage on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from pipcook_provider.launchers import Listener
from pipcook_provider.runtime.messages import Log, Message, Metric, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from pipcook_provider.stages import StageResult

_PROGRESS_INTERVAL = 1.0


class Console(Listener, Protocol):
    """A listener that is told which stage runs."""

    def begin(self, task_id: str) -> None:
        """Note that a stage begins."""

    def end(self, result: StageResult | None = None) -> None:
        """Note that the stage ended well."""


@contextmanager
def open_console(titles: Mapping[str, str]) -> Iterator[Console]:
    """Yield the console that fits where stderr goes.

    :param titles: what to call each stage, by task id, in the order in which they run.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _PlainConsole(titles)
        return
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[told]}", markup=False),
    )
    with Bars(*columns, console=RichConsole(stderr=True)) as bars:
        yield _TerminalConsole(titles, bars)


def describe(message: Message) -> str:
    """Return a message as one line."""
    match message:
        case Log(level=level, text=text):
            return text if level == "info" else f"{level}: {text}"
        case Metric(name=name, value=value, step=step):
            return f"{name} = {value:.4g}" + ("" if step is None else f" (step {step})")
        case Progress(value=value, extend_data=extend_data):
            return " ".join(
                [f"{100 * value:3.0f} %", *(f"{name}={_short(data)}" for name, data in extend_data.items())]
            )
        case _:
            return ""


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class _PlainConsole:
    """One line for each thing that happens; of progress, at most one a second."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles = titles
        self._stage = ""
        self._started = self._progress_at = float("-inf")

    def begin(self, task_id: str) -> None:
        self._stage, self._started, self._progress_at = task_id, time.monotonic(), float("-inf")
        self._print(f"started ({self._titles[task_id]})")

    def end(self, result: StageResult | None = None) -> None:
        told = _summary(result)
        self._print(f"finished in {time.monotonic() - self._started:.1f} s{f': {told}' if told else ''}")

    def message(self, message: Message) -> None:
        if isinstance(message, Progress):
            if message.value < 1 and time.monotonic() - self._progress_at < _PROGRESS_INTERVAL:
                return
            self._progress_at = time.monotonic()
        self._print(describe(message))

    def output(self, line: str) -> None:
        self._print(line)

    def _print(self, text: str) -> None:
        print(f"[{self._stage}] {text}", file=sys.stderr, flush=True)


class _TerminalConsole:
    """A bar for each stage; what scripts print scrolls by above."""

    def __init__(self, titles: Mapping[str, str], bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {
            task_id: bars.add_task(title, start=False, total=None, told="") for task_id, title in titles.items()
        }
        self._current = next(iter(self._tasks.values()))

    def begin(self, task_id: str) -> None:
        self._current = self._tasks[task_id]
        self._bars.start_task(self._current)

    def end(self, result: StageResult | None = None) -> None:
        self._bars.update(self._current, total=1, completed=1, told=_summary(result))

    def message(self, message: Message) -> None:
        if isinstance(message, Progress):
            self._bars.update(self._current, total=1, completed=message.value, told=describe(message))
        else:
            self._bars.console.print(describe(message), markup=False, highlight=False, style="dim")

    def output(self, line: str) -> None:
        self._bars.console.print(line, markup=False, highlight=False)


def _summary(result: StageResult | None) -> str:
    if result is None:
        return ""
    if result.metrics:
        return ", ".join(f"{name} {value:.4g}" for name, value in result.metrics.items())
    samples = result.value.get("samples")
    if samples:
        return ", ".join(f"{count} {split}" for split, count in samples.items())
    return str(result.value.get("built") or "")
