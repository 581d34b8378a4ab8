"""``python -m pipcook_provider.cli``."""

from __future__ import annotations

import sys

from pipcook_provider.cli import main

sys.exit(main())
