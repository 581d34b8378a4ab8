"""Scripts and their modules as files of a run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipcook_provider.errors import ScriptError
from pipcook_provider.store.scripts import collect_script, declared_parameters, offers, script_path


def write(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files into a folder, by their paths in it."""
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def collected(script: Path, run: Path) -> set[str]:
    """Collect a script and return the paths of its modules in the run."""
    run.mkdir()
    target, modules = script_path(run, 0, script.name), run / "0-modules"
    collect_script(script.as_uri(), script, target, modules, lambda _uri, file: shutil.copyfile(script, file))
    assert target.file.read_bytes() == script.read_bytes()
    return {path.relative_to(modules).as_posix() for path in modules.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "text",
    [
        "def train(): ...",
        "async def train(): ...",
        "class train: ...",
        "from elsewhere import train",
        "from elsewhere import something as train",
        "from elsewhere import *",
        "import train.inner",
        "train = print",
        "train: object = print",
        "first, (train, *rest) = things",
        "[train := print]",
        "train = other = print",
        "try:\n    from fast import train\nexcept ImportError:\n    from slow import train",
        "try:\n    import fast\nexcept ImportError:\n    pass\nelse:\n    train = fast.fit",
        "if fast:\n    pass\nelif slow:\n    def train(): ...",
        "with here:\n    class train: ...",
        "with here as train:\n    pass",
        "for train in things:\n    pass",
        "while True:\n    def train(): ...",
        "match here:\n    case 1:\n        from one import train",
        "match here:\n    case train:\n        pass",
        "def __getattr__(name): ...",
        "from lazy import __getattr__",
        "globals()['train'] = print",
        "def define():\n    global train\n    train = print\ndefine()",
        "def define():\n    globals().update(train=print)\ndefine()",
        "import sys\nsetattr(sys.modules[__name__], 'train', print)",
        "import sys\nsys.modules[__name__].train = print",
        "exec('def train(): ...')",
    ],
)
def test_script_that_may_define_a_function_is_accepted(tmp_path: Path, text: str) -> None:
    """Whatever could bind the name at module level, in whichever statement, is left to the stage."""
    write(tmp_path, {"model.py": text})
    assert offers(tmp_path / "model.py", "train")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "def trian(): ...",
        "class Model:\n    def train(self): ...\n    train = 1",
        "def outer():\n    def train(): ...\n    import train\n    setattr(train, 'x', 1)",
        "import training, model.train",
        "from train import fit",
        "if here:\n    train()",
        "model.train(here)",
        "f = lambda: (train := 1)",
    ],
)
def test_script_that_surely_lacks_a_function_is_denied(tmp_path: Path, text: str) -> None:
    """A name that is only used, or bound in a function or class, is missed before anything runs."""
    write(tmp_path, {"model.py": text})
    assert not offers(tmp_path / "model.py", "train")


@pytest.mark.parametrize("name", ["model.js", "model.mjs", "model.CJS"])
def test_javascript_is_refused(tmp_path: Path, name: str) -> None:
    """A script of the original Pipcook is told as what it is, before it is fetched."""
    write(tmp_path, {name: "module.exports = () => {}"})
    with pytest.raises(ScriptError, match=rf"{name}: JavaScript scripts are not supported by this version"):
        collected(tmp_path / name, tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("name", ["model", "model.txt", "model.py"])
def test_script_needs_no_suffix(tmp_path: Path, name: str) -> None:
    """Everything else is taken as Python, and its modules are found."""
    write(tmp_path, {name: "import helper", "helper.py": ""})
    assert collected(tmp_path / name, tmp_path / "run") == {"helper.py"}


def test_modules_and_packages_are_collected(tmp_path: Path) -> None:
    """Modules, packages with their data, and what these import come along; nothing else does."""
    texts = {
        "here/model.py": "import helper\ndef train():\n    from package.inner import x",
        "here/helper.py": "import second, json",
        "here/second.py": "",
        "here/package/__init__.py": "",
        "here/package/inner.py": "import third",
        "here/package/labels.txt": "a b",
        "here/package/__pycache__/inner.pyc": "",
        "here/third.py": "",
        "here/unused.py": "",
    }
    write(tmp_path, texts)
    names = {"helper.py", "second.py", "third.py", "package/__init__.py", "package/inner.py", "package/labels.txt"}
    assert collected(tmp_path / "here" / "model.py", tmp_path / "run") == names


def test_folder_of_modules_is_a_package(tmp_path: Path) -> None:
    """A folder without ``__init__.py`` that holds Python is collected; other folders and shadowed ones are not."""
    texts = {
        "here/model.py": "import tools.inner, pictures, single",
        "here/tools/inner.py": "import helper",
        "here/tools/deep/labels.txt": "a b",
        "here/helper.py": "",
        "here/pictures/one.png": "",
        "here/single.py": "",
        "here/single/never.py": "",
    }
    write(tmp_path, texts)
    names = {"tools/inner.py", "tools/deep/labels.txt", "helper.py", "single.py"}
    assert collected(tmp_path / "here" / "model.py", tmp_path / "run") == names


def test_modules_beside_a_linked_script_are_found(tmp_path: Path) -> None:
    """The modules of a script that is a link lie beside the link or, as Python has it, beside the real file."""
    write(tmp_path, {"real/model.py": "import helper, other", "real/helper.py": "real", "real/other.py": "real"})
    write(tmp_path, {"here/other.py": "here"})
    (tmp_path / "here" / "linked.py").symlink_to(tmp_path / "real" / "model.py")
    assert collected(tmp_path / "here" / "linked.py", tmp_path / "run") == {"helper.py", "other.py"}
    assert (tmp_path / "run" / "0-modules" / "other.py").read_text(encoding="utf-8") == "here"


def test_templates_in_a_package_are_not_parsed(tmp_path: Path) -> None:
    """A file of a package that is no Python fails only whoever imports it."""
    texts = {
        "here/model.py": "import package",
        "here/package/__init__.py": "from package import good",
        "here/package/good.py": "import helper",
        "here/package/templates/x.py": "import {{ name }}",
        "here/helper.py": "print 'Python 2'",
    }
    write(tmp_path, texts)
    names = {"package/__init__.py", "package/good.py", "package/templates/x.py", "helper.py"}
    assert collected(tmp_path / "here" / "model.py", tmp_path / "run") == names


@pytest.mark.parametrize("broken", ["model.py", "helper.py", "package/__init__.py"])
def test_what_is_surely_imported_must_be_python(tmp_path: Path, broken: str) -> None:
    """The script, the modules that it imports and its packages' ``__init__.py`` are refused if they are no Python."""
    texts = {
        "model.py": "import package, helper",
        "helper.py": "",
        "package/__init__.py": "",
        broken: "import helper; def (",
    }
    write(tmp_path / "here", texts)
    with pytest.raises(ScriptError, match=rf"{broken} is not valid Python at line 1"):
        collected(tmp_path / "here" / "model.py", tmp_path / "run")


@pytest.mark.parametrize("text", ["-" * 100_000 + "1", "x = " + "+".join(["1"] * 100_000)])
def test_absurdly_deep_expression_is_refused(tmp_path: Path, text: str) -> None:
    """What Python's own parser gives up on is an error of the script."""
    write(tmp_path, {"model.py": text})
    with pytest.raises(ScriptError, match="nested too deeply for Python"):
        collected(tmp_path / "model.py", tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "declared"),
    [
        (
            'PARAMETERS = {"url": "of the " "images", "size": "in pixels"}',
            {"url": "of the images", "size": "in pixels"},
        ),
        ('PARAMETERS: dict[str, str] = {"url": "of the images"}', {"url": "of the images"}),
        ("PARAMETERS = {}", {}),
        ("def datasource(options, context): ...", None),
        ('PARAMETERS = dict(url="of the images")', None),
        ('PARAMETERS = {name: "one" for name in names}', None),
        ('PARAMETERS = {"url": something()}', None),
        ('PARAMETERS = {"url": 1}', None),
        ("PARAMETERS = {**other}", None),
        ('if here:\n    PARAMETERS = {"url": "of the images"}', None),
        ('def datasource():\n    PARAMETERS = {"url": "of the images"}', None),
    ],
)
def test_declared_parameters(tmp_path: Path, text: str, declared: dict[str, str] | None) -> None:
    """A script declares its parameters by a literal at its top level; whatever else it does, it declares none."""
    write(tmp_path, {"script.py": text})
    assert declared_parameters(tmp_path / "script.py") == declared
