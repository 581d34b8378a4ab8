"""``pipcook clean``: what runs share and can fetch again."""

from __future__ import annotations

import argparse
from datetime import timedelta

from pipcook_provider.cli.base import Commands
from pipcook_provider.settings import Settings
from pipcook_provider.units import show_size

_DOWNLOADS = ("data", "script")


def add_commands(commands: Commands) -> None:
    """Add ``clean``."""
    clean = commands.add(
        "clean",
        _clean,
        purpose="remove cached frameworks and downloads",
        description="Remove what runs share and can fetch again: frameworks that nobody uses, and downloads. "
        "Workspaces stay.",
        example="clean --dry-run",
    )
    clean.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def _clean(options: argparse.Namespace, settings: Settings) -> int:
    import shutil

    from pipcook_provider.frameworks.housekeeping import prune_frameworks

    verb = "would remove" if options.dry_run else "removed"
    for pruned in prune_frameworks(settings, older_than=timedelta(), dry_run=options.dry_run):
        print(f"{verb} {pruned.name} ({show_size(pruned.size)})")
    for name in _DOWNLOADS:
        folder = settings.home / name
        if not folder.is_dir() or folder.is_symlink():
            continue
        size = sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())
        if not options.dry_run:
            shutil.rmtree(folder)
        print(f"{verb} {folder} ({show_size(size)})")
    return 0
