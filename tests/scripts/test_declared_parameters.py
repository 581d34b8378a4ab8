"""The parameters that the official scripts declare are those that they read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipcook_provider.scripts
from pipcook_provider.store.scripts import declared_parameters

FOLDER = Path(pipcook_provider.scripts.__file__).parent
SCRIPTS = sorted(path for path in FOLDER.glob("*/*.py") if path.name != "__init__.py")


def names_read(script: Path) -> Iterator[str]:
    """Yield the names that a script asks `runtime.parameters` for."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("parameters."):
            yield ast.literal_eval(node.args[1])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_declared_parameters_are_those_that_are_read(script: Path) -> None:
    """Each official script declares exactly the parameters that it reads, each with what it is."""
    declared = declared_parameters(script)
    assert declared is not None
    assert sorted(declared) == sorted(names_read(script))
    assert all(declared.values())


def test_parameters_are_read_in_one_way() -> None:
    """No official script takes a parameter from its options past `runtime.parameters`, which the other test could not see."""
    for script in SCRIPTS:
        tree = ast.parse(script.read_text(encoding="utf-8"))
        taken = [node for node in ast.walk(tree) if isinstance(node, ast.Subscript | ast.Attribute)]
        assert [node.lineno for node in taken if isinstance(node.value, ast.Name) and node.value.id == "options"] == []
