"""Starts Airflow with this repository's dags folder and runs one pipeline in it; see ``--help``."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import NoReturn

from .api import Airflow
from .board import RUNNING, SUCCESS, Board, Row, open_board
from .errors import DemoError
from .run import POLL, Run, follow
from .standalone import PIPELINES, Setup, Standalone, alone_in

_REPOSITORY = Path(__file__).resolve().parents[2]
_START_TIMEOUT = 300.0
_SHOWN_TRACE_LINES = 12
_SILENCE = timedelta(minutes=2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return its exit status: 0, 1 for a failure, 130 after Ctrl-C before the run was over."""
    options = _parser().parse_args(arguments)
    # Set here, since a program started in the background inherits that SIGINT is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        with alone_in(options.home):
            return _demo(options)
    except DemoError as exc:
        _complain(str(exc))
        return 1
    except KeyboardInterrupt:
        _complain("Interrupted; Airflow has been stopped.")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.demo", description="Start Airflow on this machine and train a model in it."
    )
    parser.add_argument("--once", action="store_true", help="stop Airflow when the run is over")
    parser.add_argument(
        "--dag-id", default="digits-image-classification", help="which DAG to run (default: %(default)s)"
    )
    parser.add_argument("--dags", type=_folder, default=_REPOSITORY / "dags", help="the dags folder")
    parser.add_argument(
        "--home", type=_folder, default=_REPOSITORY / ".airflow", help="folder of Airflow and workspaces"
    )
    parser.add_argument(
        "--cache", type=_folder, default=_REPOSITORY / ".cache" / "pipcook", help="folder of frameworks and downloads"
    )
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds that the run may take (default: 3600)")
    return parser


def _folder(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _leave(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - a signal handler's signature
    sys.exit(128 + number)


def _complain(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)


def _demo(options: argparse.Namespace) -> int:
    """Run the pipeline, show it, tell what came of it; return the exit status."""
    print(f"Starting Airflow in {options.home} ...", flush=True)
    begin = datetime.now(UTC)
    with Standalone(Setup(options.home, options.dags, options.cache, PIPELINES)) as standalone:
        airflow = Airflow(standalone.url)
        with open_board() as board:
            up = _wait_until_up(standalone, airflow, options.dag_id, begin, board)
            run = follow(
                airflow,
                options.dag_id,
                show=lambda rows: board.show([up, *rows]),
                check=lambda: _check(standalone, airflow),
                timeout=options.timeout,
            )
        failed = _tell(run, airflow.import_errors(begin))
        if not options.once:
            _stay(standalone, f"{standalone.url}/dags/{run.dag_id}/runs/{run.run_id}")
        return int(failed)


def _wait_until_up(standalone: Standalone, airflow: Airflow, dag_id: str, begin: datetime, board: Board) -> Row:
    """Wait until every service has reported and the DAG was read anew: the database may know an older one.

    :param begin: when the demo began.
    :returns: Airflow's own row.
    """
    while True:
        seconds = (datetime.now(UTC) - begin).total_seconds()
        waiting = airflow.missing(begin) or _unread(airflow, dag_id, begin)
        if not waiting:
            board.show([up := Row("airflow", SUCCESS, seconds, told=standalone.url)])
            return up
        standalone.check()
        if seconds > _START_TIMEOUT:
            raise DemoError(
                f"Expected Airflow to be up within {_START_TIMEOUT:.0f} s, still waiting for {', '.join(waiting)}. "
                f"{standalone.last_words()}"
            )
        board.show([Row("airflow", RUNNING, seconds, told=f"waiting for {', '.join(waiting)}")])
        time.sleep(POLL)


def _unread(airflow: Airflow, dag_id: str, begin: datetime) -> list[str]:
    parsed = airflow.parsed_at(dag_id)
    if parsed is not None and parsed >= begin:
        return []
    for file, error in airflow.import_errors(begin).items():
        raise DemoError(f"Expected a DAG {dag_id!r}, found none. {_broken(file, error)}")
    return [f"DAG {dag_id}"]


def _check(standalone: Standalone, airflow: Airflow) -> None:
    """Raise when a part of Airflow is gone: the run would stand still, and say nothing."""
    standalone.check()
    silent = airflow.missing(datetime.now(UTC) - _SILENCE)
    if silent:
        raise DemoError(f"Nothing is heard of Airflow's {', '.join(silent)} any more. {standalone.last_words()}")


def _tell(run: Run, import_errors: dict[str, str]) -> bool:
    """Print what came of the run; return whether anything is wrong."""
    problems = run.failures() + [_broken(file, error) for file, error in import_errors.items()]
    for problem in problems:
        _complain(problem)
    if run.state == SUCCESS:
        print()
        for name, figure in run.figures().items():
            print(f"{name:14} {figure}")
    return bool(problems)


def _broken(file: str, trace: str) -> str:
    return "\n  ".join(
        [f"{file} cannot be loaded. The end of the traceback:", *trace.splitlines()[-_SHOWN_TRACE_LINES:]]
    )


def _stay(standalone: Standalone, page: str) -> None:
    """Keep Airflow up until Ctrl-C.

    :raises DemoError: it ended by itself.
    """
    print(f"{'web UI':14} {page}\n\nIt stays up until Ctrl-C.", flush=True)
    try:
        while True:
            standalone.check()
            time.sleep(POLL)
    except KeyboardInterrupt:
        print("\nStopping Airflow ...", flush=True)


if __name__ == "__main__":
    sys.exit(main())
