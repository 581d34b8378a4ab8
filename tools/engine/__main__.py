"""An engine and images on it; see ``--help``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tools.errors import ToolError

from .daemon import Daemon, ensure_engine, need_engine
from .images import BASE_IMAGE, VARIANTS, Image, build, ensure_base, size


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, or 1 for a failure."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ToolError as exc:
        print(f"engine: {exc}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.engine", description="A Docker engine, and the images that stages run in."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    start = commands.add_parser("start", help="make sure that an engine answers: install and start one where none does")
    start.set_defaults(run=_start)
    stop = commands.add_parser("stop", help="end the engine that `start` started, and no other one")
    stop.set_defaults(run=_stop)
    status = commands.add_parser("status", help="say whether an engine answers; exit status 1 where none does")
    status.set_defaults(run=_status)
    images = commands.add_parser("images", help="build the images that stages run in")
    images.add_argument(
        "--base-image",
        default="",
        help=f"image to build on (default: {BASE_IMAGE}, or where it cannot be pulled, a stand-in)",
    )
    images.add_argument("--framework", default="", help="exact reference of a framework to bake in: tensorflow@2.21.0")
    images.add_argument(
        "variants", nargs="*", metavar="VARIANT", help=f"of {', '.join(VARIANTS)} (default: all of them)"
    )
    images.set_defaults(run=_images)
    return parser


def _start(_options: argparse.Namespace) -> None:
    daemon = Daemon()
    client, started = ensure_engine(daemon)
    origin = f"was started; its log: {daemon.log}" if started else "was there"
    print(f"engine {client.engine()} answers {client.program}; it {origin}")


def _stop(_options: argparse.Namespace) -> None:
    print("engine stopped" if Daemon().stop() else "no engine to stop: none was started here")


def _status(_options: argparse.Namespace) -> None:
    client = need_engine()
    print(f"engine {client.engine()} answers {client.program}")


def _images(options: argparse.Namespace) -> None:
    unknown = set(options.variants).difference(VARIANTS)
    if unknown:
        raise ToolError(f"Expected variants of {', '.join(VARIANTS)}, found {', '.join(sorted(unknown))}.")
    client = need_engine()
    base = ensure_base(client, options.base_image)
    for variant in options.variants or VARIANTS:
        begin = time.monotonic()
        image = Image(variant, base, options.framework)
        build(client, image)
        print(
            f"{image.tag}: {size(client, image.tag) / 1e6:.0f} MB, built on {base} in {time.monotonic() - begin:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
