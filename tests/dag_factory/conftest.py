"""What the tests of DAGs share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipcook_provider.dag_factory import building


@pytest.fixture
def fresh_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Settings that are read anew in this test, and again after it."""
    building._settings.cache_clear()
    yield monkeypatch
    building._settings.cache_clear()
