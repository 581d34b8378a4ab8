"""``pipcook framework``: the frameworks on this machine."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipcook_provider.cli.base import FAILED, Commands, add_mirrors, argument, with_mirrors
from pipcook_provider.settings import Settings
from pipcook_provider.units import read_duration, read_size, show_size

if TYPE_CHECKING:
    from pipcook_provider.frameworks import Framework


def add_commands(commands: Commands) -> None:
    """Add the group ``framework`` with its commands."""
    group = commands.group(
        "framework",
        purpose="see, fetch, build, check and remove frameworks",
        description="The frameworks that runs on this machine share.",
    )
    _add_ls(group)
    _add_ensure(group)
    _add_build(group)
    _add_verify(group)
    _add_prune(group)


def _add_ls(group: Commands) -> None:
    parser = group.add(
        "ls",
        _ls,
        purpose="list the cached frameworks",
        description="List the cached frameworks: what they are, where they came from, when they were last used.",
        example="framework ls",
    )
    _add_json(parser)


def _add_ensure(group: Commands) -> None:
    parser = group.add(
        "ensure",
        _ensure,
        purpose="fetch or build a framework where it is not there yet",
        description="Make sure that frameworks are there: from the cache, else from a mirror, else built from the "
        "package registries. Prints their folders.",
        example="framework ensure tensorflow@2.21",
    )
    parser.add_argument(
        "references",
        nargs="+",
        metavar="FRAMEWORK",
        help="name@version, name, the URL of a zip, or the path of a zip or directory",
    )
    _add_gpu(parser)
    add_mirrors(parser)
    parser.add_argument("--refresh", action="store_true", help="fetch or build again although it is cached")
    parser.add_argument("--verify", action="store_true", help="compare each file, and repair what is damaged")
    _add_json(parser)


def _add_build(group: Commands) -> None:
    parser = group.add(
        "build",
        _build,
        purpose="build a framework from the package registries",
        description="Build a framework by its recipe, and with --output pack it as a mirror serves it: serve DIR by any web "
        "server, or share it as a folder, and name it as framework mirror elsewhere.",
        example="framework build tensorflow@2.21 --output /srv/frameworks",
    )
    parser.add_argument("reference", metavar="NAME@VERSION", help="a recipe's name, with a version or its beginning")
    _add_gpu(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="folder of the mirror that gets the zip")
    parser.add_argument("--refresh", action="store_true", help="build again although it is cached")
    _add_json(parser)


def _add_verify(group: Commands) -> None:
    parser = group.add(
        "verify",
        _verify,
        purpose="compare cached frameworks with what was installed",
        description="Compare each file of the cached frameworks with its recorded digest; exit status 1 when one is "
        "missing or changed.",
        example="framework verify",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as tensorflow@2.21 (default: all of them)")
    _add_json(parser)


def _add_prune(group: Commands) -> None:
    parser = group.add(
        "prune",
        _prune,
        purpose="remove frameworks that are no longer used",
        description="Remove cached frameworks by age or size, the longest unused first; never what a running task uses. "
        "Leftovers of what was interrupted go in any case.",
        example="framework prune --older-than 30d --keep-size 20GB",
    )
    parser.add_argument(
        "--older-than", type=argument(read_duration), metavar="AGE", help="unused for longer: 30d, 12h, 45min"
    )
    parser.add_argument(
        "--keep-size", type=argument(read_size), metavar="SIZE", help="remove until at most this is left: 20GB"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    _add_json(parser)


def _ls(options: argparse.Namespace, settings: Settings) -> int:
    from pipcook_provider.frameworks.housekeeping import list_frameworks, prune_frameworks

    found = list_frameworks(settings)
    if options.json:
        print(json.dumps([cached.describe() for cached in found]))
        return 0
    if not found:
        print(f"no frameworks in {settings.home / 'framework'}")
        return 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    rows = [
        (
            cached.reference,
            f"{cached.platform or ''}{'-gpu' if cached.variant == 'gpu' else ''}",
            show_size(cached.size),
            "in use" if cached.is_used else _ago(cached.used),
            cached.source,
        )
        for cached in found
    ]
    _print_table(("FRAMEWORK", "PLATFORM", "SIZE", "LAST USED", "SOURCE"), rows, width)
    total = show_size(sum(cached.size for cached in found))
    print(f"{len(found)} framework(s), {total} in {settings.home / 'framework'}")
    if more := sum(pruned.size for pruned in prune_frameworks(settings, dry_run=True)):
        print(f"{show_size(more)} more of older builds and leftovers: pipcook framework prune")
    return 0


def _ensure(options: argparse.Namespace, settings: Settings) -> int:
    from pipcook_provider.console import open_report
    from pipcook_provider.frameworks import ensure_framework

    settings = with_mirrors(settings, options)
    with open_report() as report:
        frameworks = [
            ensure_framework(
                reference, settings, gpu=options.gpu, refresh=options.refresh, verify=options.verify, report=report
            )
            for reference in options.references
        ]
    if options.json:
        print(json.dumps([_described(framework) for framework in frameworks]))
        return 0
    for framework in frameworks:
        print(framework.path)
    return 0


def _build(options: argparse.Namespace, settings: Settings) -> int:
    from pipcook_provider.console import open_report
    from pipcook_provider.frameworks import build_framework
    from pipcook_provider.frameworks.pack import pack

    with open_report() as report:
        framework = build_framework(
            options.reference, settings, gpu=options.gpu, refresh=options.refresh, report=report
        )
        packed = pack(framework, options.output.absolute(), report) if options.output else None
    if options.json:
        print(json.dumps({**_described(framework), "zip": str(packed) if packed else None}))
    else:
        print(packed or framework.path)
    return 0


def _verify(options: argparse.Namespace, settings: Settings) -> int:
    from pipcook_provider.console import open_report
    from pipcook_provider.frameworks.housekeeping import list_frameworks, verify_frameworks

    with open_report() as report:
        checked = verify_frameworks(settings, options.names, report)
    damaged = {name: damages for name, damages in checked.items() if damages}
    if options.json:
        print(
            json.dumps(
                {
                    name: [{"path": damage.path, "problem": damage.problem} for damage in damages]
                    for name, damages in checked.items()
                }
            )
        )
        return FAILED if damaged else 0
    for name, damages in damaged.items():
        for damage in damages:
            print(f"{name}: {damage.path} {'is missing' if damage.problem == 'missing' else 'was changed'}")
    print(f"{len(checked)} framework(s) checked: {len(damaged)} damaged")
    if damaged:
        references = {cached.name: cached.asked for cached in list_frameworks(settings)}
        print(
            f"Repair with: pipcook framework ensure --verify {' '.join(references.get(name, name) for name in damaged)}"
        )
    return FAILED if damaged else 0


def _prune(options: argparse.Namespace, settings: Settings) -> int:
    from pipcook_provider.frameworks.housekeeping import prune_frameworks

    pruned = prune_frameworks(settings, older_than=options.older_than, keep=options.keep_size, dry_run=options.dry_run)
    if options.json:
        print(json.dumps([{"name": one.name, "reason": one.reason, "size": one.size} for one in pruned]))
        return 0
    verb = "would remove" if options.dry_run else "removed"
    for one in pruned:
        print(f"{verb} {one.name}: {one.reason} ({show_size(one.size)})")
    print(f"{verb} {len(pruned)} item(s), {show_size(sum(one.size for one in pruned))}")
    return 0


def _add_gpu(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpu", action="store_true", help="the GPU variant, where there are two")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")


def _described(framework: Framework) -> Mapping[str, Any]:
    return {
        "reference": framework.reference,
        "name": framework.name,
        "version": framework.version,
        "variant": framework.variant,
        "path": str(framework.path),
    }


def _ago(moment: datetime) -> str:
    past = datetime.now(UTC) - moment
    for unit, length in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        if past >= length:
            count = past // length
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"


def _print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> None:
    """Print columns; lines longer than a terminal is wide are cut."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        line = "  ".join(cell.ljust(length) for cell, length in zip(row, widths, strict=True)).rstrip()
        print(line if width is None or len(line) <= width else f"{line[: width - 1]}…")
