"""How work looks to a person: progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from pipcook_provider.frameworks.report import LogReport, Report
from pipcook_provider.runtime.messages import Log, Message, Metric, Progress, describe_figures
from pipcook_provider.units import show_size

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from pipcook_provider.stages import StageResult

_PROGRESS_INTERVAL = 1.0
_REDRAW_INTERVAL = 0.1
_MOST_LINES = 1_000


@contextmanager
def open_console(titles: Mapping[str, str]) -> Iterator[Console]:
    """Yield the console that fits where stderr goes.

    :param titles: what to call each stage, by task id, in the order in which they run.
    """
    if not _on_terminal():
        yield Console(_Lines(titles))
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
        view = _Bars(titles, bars)
        try:
            yield Console(view)
        finally:
            view.flush()


@contextmanager
def open_report() -> Iterator[Report]:
    """Yield what shows the steps of getting frameworks, in the form that fits where stderr goes."""
    if not _on_terminal():
        yield LogReport(_Stderr())
        return
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[told]}", markup=False),
    )
    with Bars(*columns, console=RichConsole(stderr=True)) as bars:
        yield _BarReport(bars)


def _on_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class _Stderr:
    """Takes what a log would take."""

    def info(self, event: str, *arguments: object) -> None:
        print(event % arguments, file=sys.stderr, flush=True)

    def warning(self, event: str, *arguments: object) -> None:
        print(f"warning: {event % arguments}", file=sys.stderr, flush=True)


class _BarReport:
    """A bar for each long step; sentences scroll by above."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def info(self, text: str) -> None:
        self._bars.console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)

    def warning(self, text: str) -> None:
        self._bars.console.print(f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def progress(self, label: str, done: int, total: int | None) -> None:
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(label, total=total, told="")
        self._bars.update(self._tasks[label], completed=done, total=total, told=self._tell(label, done, total))

    def _tell(self, label: str, done: int, total: int | None) -> str:
        if not done:
            return ""
        if done == total:
            return show_size(done)
        speed = next(task.speed for task in self._bars.tasks if task.id == self._tasks[label])
        pace = f", {show_size(speed)}/s" if speed else ""
        return f"{show_size(done)}{f' of {show_size(total)}' if total else ''}{pace}"


class View(Protocol):
    """How things are shown."""

    def begin(self, task_id: str) -> None:
        """Show that a stage begins."""

    def end(self, told: str) -> None:
        """Show that the stage ended well, and what it tells."""

    def progress(self, value: float, told: str) -> None:
        """Show how far the stage is, from 0 to 1."""

    def line(self, text: str, *, of_script: bool) -> None:
        """Show a line; ``of_script`` if the user's script printed it."""


class Console:
    """A listener that is also told which stage runs: a message becomes a line, an epoch's metrics become one."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._step: int | None = None
        self._figures: dict[str, float] = {}
        self._logged = ""

    def begin(self, task_id: str) -> None:
        """Note that a stage begins."""
        self._view.begin(task_id)

    def end(self, result: StageResult | None = None) -> None:
        """Note that the stage ended well."""
        self._show_step()
        self._view.end(_summary(result))

    def message(self, message: Message) -> None:
        """Take what a stage tells."""
        match message:
            case Metric(name=name, value=value, step=int(step)):
                if step != self._step:
                    self._show_step()
                self._step = step
                self._figures[name] = value
            case Metric(name=name, value=value):
                self._show_step()
                self._view.line(f"{name} {value:.4g}", of_script=False)
            case Progress(value=value, extend_data=extend_data):
                self._show_step()
                self._view.progress(value, describe_figures(extend_data))
            case Log(level=level, text=text) if text != self._logged:
                self._logged = text
                self._view.line(text if level == "info" else f"{level}: {text}", of_script=False)

    def output(self, line: str) -> None:
        """Take a line that a script printed."""
        self._view.line(line, of_script=True)

    def _show_step(self) -> None:
        if self._figures:
            self._view.line(f"step {self._step}: {describe_figures(self._figures)}", of_script=False)
        self._step, self._figures = None, {}


class _Lines:
    """A line for each thing that happens; of progress, at most one a second."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles = titles
        self._stage = ""
        self._started = self._progress_at = float("-inf")

    def begin(self, task_id: str) -> None:
        self._stage, self._started, self._progress_at = task_id, time.monotonic(), float("-inf")
        self._print(f"started ({self._titles[task_id]})")

    def end(self, told: str) -> None:
        self._print(f"finished in {time.monotonic() - self._started:.1f} s{f': {told}' if told else ''}")

    def progress(self, value: float, told: str) -> None:
        if value < 1 and time.monotonic() - self._progress_at < _PROGRESS_INTERVAL:
            return
        self._progress_at = time.monotonic()
        self._print(f"{100 * value:3.0f} % {told}".rstrip())

    def line(self, text: str, *, of_script: bool) -> None:  # noqa: ARG002 - a line is a line
        self._print(text)

    def _print(self, text: str) -> None:
        print(f"[{self._stage}] {text}", file=sys.stderr, flush=True)


class _Bars:
    """A bar for each stage; lines scroll by above."""

    def __init__(self, titles: Mapping[str, str], bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {
            task_id: bars.add_task(title, start=False, total=None, told="") for task_id, title in titles.items()
        }
        self._current = next(iter(self._tasks.values()))
        self._lock = threading.Lock()
        self._lines: list[tuple[str, bool]] = []

    def begin(self, task_id: str) -> None:
        self._current = self._tasks[task_id]
        self._bars.start_task(self._current)

    def end(self, told: str) -> None:
        self._bars.update(self._current, total=1, completed=1, told=told)

    def progress(self, value: float, told: str) -> None:
        self._bars.update(self._current, total=1, completed=value, told=f"{100 * value:.0f} % {told}")

    def line(self, text: str, *, of_script: bool) -> None:
        with self._lock:
            self._lines.append((text, of_script))
            waiting = len(self._lines)
        if waiting == 1:
            # Each print draws all bars anew: a script that prints much would wait for the terminal.
            timer = threading.Timer(_REDRAW_INTERVAL, self.flush)
            timer.daemon = True
            timer.start()
        elif waiting >= _MOST_LINES:
            self.flush()

    def flush(self) -> None:
        """Show the lines that wait."""
        from rich.text import Text

        with self._lock:
            lines, self._lines = self._lines, []
        if lines:
            shown = (Text.from_ansi(text, style="" if of_script else "dim", no_wrap=True) for text, of_script in lines)
            self._bars.console.print(Text("\n").join(shown), soft_wrap=True, highlight=False)


def _summary(result: StageResult | None) -> str:
    if result is None:
        return ""
    samples = result.value.get("samples", {})
    told = describe_figures(result.metrics) or ", ".join(f"{count} {split}" for split, count in samples.items())
    return told or str(result.value.get("built") or "")
