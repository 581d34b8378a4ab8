"""What a stage is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipcook_provider.errors import ProtocolError
from pipcook_provider.runtime.context import Context, ScriptWorkspace, StageContext, TaskType


@pytest.mark.parametrize(
    ("origin", "uri", "expected"),
    [
        ("/dags/a.json", "data/x.zip", "file:///dags/data/x.zip"),
        ("/dags/a.json", "../x y.zip", "file:///x%20y.zip"),
        ("/dags/a.json", "/data/x.zip", "file:///data/x.zip"),
        ("file:///my%20dags/a.json", "x.zip", "file:///my%20dags/x.zip"),
        ("https://example.com/p/a.json", "x.zip", "https://example.com/p/x.zip"),
        ("/dags/a.json", "https://example.com/x.zip", "https://example.com/x.zip"),
    ],
)
def test_relative_addresses_are_relative_to_the_document(tmp_path: Path, origin: str, uri: str, expected: str) -> None:
    """A script's context resolves addresses as the document's own are resolved."""
    context = Context(ScriptWorkspace.at(tmp_path, None), TaskType.TRAIN, origin, tmp_path)
    assert context.resolve(uri) == expected


def test_context_document_survives_the_disk(tmp_path: Path) -> None:
    """What is written is what is read; keys that a later version adds are ignored."""
    written = StageContext(
        stage="model",
        role="model",
        parameters={"名": "值"},
        options={},
        origin="/a.json",
        downloads="/d",
        script="s.py",
    )
    text = json.dumps({**written.to_json(), "later": 1})
    (tmp_path / "context.json").write_text(text, encoding="utf-8")
    assert StageContext.read(tmp_path / "context.json") == written


def test_context_of_another_protocol_is_refused(tmp_path: Path) -> None:
    """A child of another version says which versions met and what to do."""
    (tmp_path / "context.json").write_text('{"protocol": 99}', encoding="utf-8")
    with pytest.raises(ProtocolError, match=r"expected a context of protocol 1, found 99 .*Install the same one"):
        StageContext.read(tmp_path / "context.json")
