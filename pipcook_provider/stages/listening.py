"""Who listens on the way: what gets frameworks speaks to a run's listener, and a run's metrics are kept."""

from __future__ import annotations

import math

from pipcook_provider.launchers import Listener
from pipcook_provider.runtime.messages import Log, Message, Metric, Progress
from pipcook_provider.units import show_size


class ListenerReport:
    """Tells a run's listener how its framework is got."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._told: tuple[str, int] | None = None

    def info(self, text: str) -> None:
        self._listener.message(Log("info", text))

    def warning(self, text: str) -> None:
        self._listener.message(Log("warning", text))

    def progress(self, label: str, done: int, total: int | None) -> None:
        if not total or (label, 100 * done // total) == self._told:
            return
        if self._told is None or self._told[0] != label:
            self.info(f"{label} ({show_size(total)})")
        self._told = (label, 100 * done // total)
        self._listener.message(Progress(done / total, {}))


#: More names than that are a mistake, and would make an XCom and an asset's event of megabytes.
_MOST_METRICS = 1_000


class Recorder:
    """Passes everything on and keeps the metrics, those of the first 1,000 names."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._of_steps: dict[str, float] = {}
        self._of_run: dict[str, float] = {}
        self._full = False

    @property
    def metrics(self) -> dict[str, float | None]:
        """The metrics of the whole run, or, where a script reports only steps, the last value of each.

        What is no finite number is None: neither Airflow's XCom nor JSON can hold it.
        """
        found = self._of_run or self._of_steps
        return {name: value if math.isfinite(value) else None for name, value in found.items()}

    def message(self, message: Message) -> None:
        if isinstance(message, Metric):
            self._keep(message)
        self._listener.message(message)

    def _keep(self, metric: Metric) -> None:
        kept = self._of_run if metric.step is None else self._of_steps
        if metric.name in kept or len(kept) < _MOST_METRICS:
            kept[metric.name] = metric.value
        elif not self._full:
            self._full = True
            self._listener.message(
                Log(
                    "warning",
                    f"expected at most {_MOST_METRICS:,} metrics by name, found more, {metric.name!r} among them: these are "
                    "shown but not kept. Log what changes by step under one name, with its step.",
                )
            )

    def output(self, line: str) -> None:
        self._listener.output(line)
