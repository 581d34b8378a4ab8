"""Tests on a real Docker engine. `make test-docker` runs them; where no engine was asked for, they are left out."""

from __future__ import annotations

import os

#: Set by `make test-docker`: the images to test, as `make images` made them.
collect_ignore_glob = [] if os.environ.get("PIPCOOK_TEST_DOCKER") else ["test_*.py"]
