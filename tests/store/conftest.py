from __future__ import annotations

import pytest
from http_server import impatient, server

__all__ = ["impatient", "server"]


@pytest.fixture(autouse=True)
def _impatient(impatient: None) -> None:
    pass
