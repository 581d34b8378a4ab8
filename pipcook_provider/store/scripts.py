"""A script of a pipeline document becomes a file of the run, with the modules that it imports from beside it."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipcook_provider.errors import ScriptError


@dataclass(frozen=True, slots=True)
class CollectedScript:
    """A script in the run's ``scripts`` folder.

    :param file: ``{order}-{basename}``.
    :param modules: the folder ``{order}-modules``, or None when the script imports nothing from beside it.
    """

    file: Path
    modules: Path | None


def script_path(scripts: Path, order: int, basename: str) -> CollectedScript:
    """Return where a script of the run lies, by its place in the pipeline counted from 0."""
    modules = scripts / f"{order}-modules"
    return CollectedScript(scripts / f"{order}-{basename}", modules if modules.is_dir() else None)


def collect_script(
    uri: str, source: Path | None, target: CollectedScript, modules: Path, download: Callable[[str, Path], object]
) -> None:
    """Bring a script, and the modules beside it that it imports, into the run.

    :param uri: where the script is.
    :param source: its path when it is a local file; only such a script can import modules from beside it.
    :param target: where it goes.
    :param modules: where the modules go, if there are any.
    :param download: fetches a URI into a file.
    :raises FetchError: the script cannot be had.
    :raises ScriptError: it is no Python that can be compiled.
    """
    download(uri, target.file)
    tree = _parse(target.file, uri)
    if source is None:
        return
    pending = list(_imported(tree))
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        for file, relative in _module_files(source.parent, name):
            copy = modules / relative
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            if file.suffix == ".py":
                pending.extend(_imported(_parse(file, file.as_uri())))


def offers(file: Path, name: str) -> bool:
    """Tell whether a script may define ``name``; only a script that surely does not is denied.

    Nothing of the script runs, so a function that is missing is noticed before anything is trained.
    """
    for node in _parse(file, file.name).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name in (name, "__getattr__"):
                return True
        elif isinstance(node, ast.Import | ast.ImportFrom):
            if any((alias.asname or alias.name) in (name, "*") for alias in node.names):
                return True
        elif any(isinstance(part, ast.Name) and part.id in (name, "globals", "exec") for part in ast.walk(node)):
            return True
    return False


def _parse(file: Path, uri: str) -> ast.Module:
    text = file.read_bytes()
    try:
        return ast.parse(text, filename=uri)
    except SyntaxError as exc:
        page = " A web page came instead of a script." if text.lstrip()[:1] == b"<" else ""
        source = f"\n    {exc.text.strip()}" if exc.text else ""
        raise ScriptError(
            f"the script {uri} is not valid Python at line {exc.lineno}:{source}\nSyntaxError: {exc.msg}.{page} "
            "Nothing was run; correct the script and try again."
        ) from exc
    except ValueError as exc:
        raise ScriptError(f"the script {uri} is not Python text: {exc}. Nothing was run.") from exc


def _imported(tree: ast.Module) -> Iterator[str]:
    """Yield the top-level names of the modules that a script imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _module_files(folder: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """Yield the files of module or package ``name`` in ``folder``, each with its path relative to the folder."""
    module = folder / f"{name}.py"
    if module.is_file():
        yield module, Path(module.name)
    package = folder / name
    if (package / "__init__.py").is_file():
        for file in sorted(package.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file, file.relative_to(folder)
