"""A script of a pipeline document becomes a file of the run, with the modules that it imports from beside it."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
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
    :raises ScriptError: it is JavaScript, or no Python that can be compiled; the same for a module that it imports.
    """
    if target.file.suffix.lower() in _JAVASCRIPT:
        raise ScriptError(
            f"expected a Python script, found {uri}: JavaScript scripts are not supported by this version, so nothing was "
            "run. Name a Python script in its place."
        )
    download(uri, target.file)
    tree = _parse(target.file, uri)
    if source is None:
        return
    # Python itself looks in the real folder of a script that is a link; trees of links keep the modules beside the link.
    folders = list(dict.fromkeys((source.parent, source.resolve().parent)))
    needed, perhaps = list(_imported(tree)), list[str]()
    seen: set[str] = set()
    while needed or perhaps:
        must_be_python = bool(needed)
        name = (needed or perhaps).pop()
        if name in seen:
            continue
        seen.add(name)
        files = next(filter(None, (list(_module_files(folder, name)) for folder in folders)), [])
        for file, relative in files:
            copy = modules / relative
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            if file.suffix != ".py":
                continue
            # Of a package only what every import of it runs is known to be needed; the rest may be templates.
            if must_be_python and relative in (Path(f"{name}.py"), Path(name, "__init__.py")):
                needed.extend(_imported(_parse(file, file.as_uri())))
            else:
                with suppress(ScriptError):
                    perhaps.extend(_imported(_parse(file, file.as_uri())))


_JAVASCRIPT = frozenset({".js", ".mjs", ".cjs"})

#: What a script can define its functions with in ways that its text does not show.
_DYNAMIC_NAMES = frozenset({"globals", "exec"})
_DYNAMIC_NAMES_AT_TOP_LEVEL = frozenset({"locals", "vars", "setattr", "__dict__", "modules"})


def offers(file: Path, name: str) -> bool:
    """Tell whether a script may define ``name``; only a script that surely does not is denied.

    Nothing of the script runs, so a function that is missing is noticed before anything is trained.
    """
    tree = _parse(file, file.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Global) and name in node.names:
            return True
        if isinstance(node, ast.Name) and node.id in _DYNAMIC_NAMES:
            return True
    return any(_may_bind(node, name) for node in _top_level(tree))


def declared_parameters(file: Path) -> dict[str, str] | None:
    """Return the parameters that a script says it takes, with what they are; ``None`` where it does not say.

    It does by a literal dict of texts at its top level: ``PARAMETERS = {"url": "URL of the images"}``. Nothing of it runs.

    :raises ScriptError: it is no Python.
    """
    for node in _parse(file, file.name).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="PARAMETERS")], value=ast.Dict() as value):
                pass
            case ast.AnnAssign(target=ast.Name(id="PARAMETERS"), value=ast.Dict() as value):
                pass
            case _:
                continue
        with suppress(ValueError):
            declared: dict[str, str] = ast.literal_eval(value)
            if all(isinstance(text, str) for entry in declared.items() for text in entry):
                return declared
    return None


def _top_level(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes that belong to the module itself, in compound statements too, but not in functions and classes."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))


def _may_bind(node: ast.AST, name: str) -> bool:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return node.name in (name, "__getattr__")
        case ast.Import() | ast.ImportFrom():
            bound = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            return not bound.isdisjoint((name, "__getattr__", "*"))
        case ast.Name(id=used, ctx=context) | ast.Attribute(attr=used, ctx=context):
            stored = used in (name, "__getattr__") and isinstance(context, ast.Store)
            return stored or used in _DYNAMIC_NAMES_AT_TOP_LEVEL
        case ast.MatchAs(name=captured) | ast.MatchStar(name=captured) | ast.MatchMapping(rest=captured):
            return captured == name
    return False


def _parse(file: Path, uri: str) -> ast.Module:
    text = file.read_bytes()
    try:
        return ast.parse(text, filename=uri)
    except SyntaxError as exc:
        page = " A web page came instead of a script." if text.lstrip()[:1] == b"<" else ""
        # A document may name any file as its script: what is none by its name is not shown.
        source = f"\n    {exc.text.strip()}" if exc.text and file.suffix == ".py" else ""
        raise ScriptError(
            f"the script {uri} is not valid Python at line {exc.lineno}:{source}\nSyntaxError: {exc.msg}.{page} "
            "Nothing was run; correct the script and try again."
        ) from exc
    except ValueError as exc:
        raise ScriptError(f"the script {uri} is not Python text: {exc}. Nothing was run.") from exc
    except (MemoryError, RecursionError) as exc:
        raise ScriptError(
            f"the script {uri} holds an expression that is nested too deeply for Python ({type(exc).__name__}). Nothing was "
            "run; divide the expression."
        ) from exc


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
    # A folder without __init__.py is a package too, if there is Python in it and no module of that name.
    if (package / "__init__.py").is_file() or (not module.is_file() and any(package.rglob("*.py"))):
        for file in sorted(package.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                yield file, file.relative_to(folder)
