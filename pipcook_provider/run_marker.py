"""By what the folder of a run is known, to those who write runs and to those who look for documents."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

#: The file that lies in the folder of each run.
RUN_MARKER: Final = ".pipcook-workspace"


def is_run_folder(folder: Path) -> bool:
    """Tell whether a folder is that of a run, whatever has become of it."""
    return os.path.lexists(folder / RUN_MARKER)
