"""The images that stages run in, as ``make images`` made them."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipcook_provider import __version__
from pipcook_provider.runtime.messages import PROTOCOL
from tools.engine.client import Client
from tools.engine.daemon import need_engine
from tools.engine.images import REPOSITORY, VARIANTS, Image, build
from tools.errors import ToolError

PYTHON = "/opt/pipcook/bin/python"
CHILD = "/opt/pipcook/child.py"
#: As a stage runs: nothing can be written but /tmp, and there is no network.
LOCKED = ("--rm", "--read-only", "--tmpfs=/tmp", "--network=none", "--cap-drop=ALL")
SHOW_PACKAGES = "import site, sys; sys.path[:] = [entry for entry in sys.path if 'packages' not in entry]; site.main();"

RECIPE = {"name": "six", "packages": [{"name": "six", "version": "{version}", "type": "python"}]}


@pytest.fixture(scope="module")
def client() -> Client:
    return need_engine()


@pytest.fixture(scope="module")
def base(client: Client) -> str:
    """Return the image that the images under test were built on."""
    return str(inspect(client, tag("cpu"))["Config"]["Labels"]["org.opencontainers.image.base.name"])


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a build context with a recipe of its own."""
    folder = tmp_path_factory.mktemp("context")
    for name in ("pyproject.toml", "constraints.txt", "README.md", "LICENSE", ".dockerignore"):
        shutil.copy2(REPOSITORY / name, folder)
    for name in ("pipcook_provider", "docker"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".env"))
    recipe = folder / "docker" / "recipes" / "six"
    recipe.mkdir(parents=True)
    (recipe / "framework.json").write_text(json.dumps(RECIPE), encoding="utf-8")
    (recipe / "index.py").write_text("def initialize(options):\n    import six\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def baked(client: Client, base: str, context: Path) -> Iterator[Image]:
    """Build an image with a framework."""
    image = Image("cpu", base, "six@1.17.0")
    build(client, image, context)
    yield image
    client.run("image", "rm", image.tag, purpose="The image is left behind")


def tag(variant: str) -> str:
    return Image(variant, base="").tag


def inspect(client: Client, image: str) -> dict[str, Any]:
    (found,) = json.loads(client.run("image", "inspect", image, purpose="`make images` makes it"))
    return dict(found)


def python(client: Client, image: str, program: str, *options: str) -> str:
    """Run a program in an image with the packages that a stage without a framework sees; return what it prints."""
    arguments = (*LOCKED, f"--entrypoint={PYTHON}", image, "-I", "-S", *options, "-c", SHOW_PACKAGES + program)
    return client.run("run", *arguments, purpose="The program fails")


@pytest.mark.parametrize("variant", VARIANTS)
def test_labels_say_what_the_image_is(client: Client, variant: str) -> None:
    """A launcher reads the versions of provider, protocol and Python, and the variant, without starting anything."""
    labels = inspect(client, tag(variant))["Config"]["Labels"]
    inside = python(client, tag(variant), "print('%d.%d' % sys.version_info[:2])")
    assert {name: value for name, value in labels.items() if name.startswith("io.pipcook.")} == {
        "io.pipcook.version": __version__,
        "io.pipcook.protocol": str(PROTOCOL),
        "io.pipcook.python": inside,
        "io.pipcook.variant": variant,
        "io.pipcook.framework": "",
    }
    assert labels["org.opencontainers.image.version"] == __version__


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_image_starts_a_stage(client: Client, variant: str) -> None:
    """The entry point is the runtime's own child, isolated and unbuffered; the image states no command."""
    configuration = inspect(client, tag(variant))["Config"]
    assert configuration["Entrypoint"] == [PYTHON, "-I", "-S", "-B", "-u", "-X", "utf8", CHILD]
    assert not configuration["Cmd"]
    beside = python(
        client, tag(variant), f"import os, pipcook_provider as p; print(os.path.realpath({CHILD!r}), p.__file__)"
    )
    child, package = map(Path, beside.split())
    assert child == package.parent / "runtime" / "child.py"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_user_is_not_root_and_owns_nothing(client: Client, variant: str) -> None:
    """Stages run as user 10001 when nobody says otherwise, and can change nothing of the image."""
    program = """
import os
print(os.getuid(), os.getgid())
for folder, _, names in os.walk("/opt/pipcook"):
    for path in (folder, *(os.path.join(folder, name) for name in names)):
        found = os.lstat(path)
        if found.st_uid or (found.st_mode & 0o022 and not os.path.islink(path)):
            print(path)
"""
    assert python(client, tag(variant), program) == "10001 10001"


def test_the_image_has_the_runtime_and_no_more(client: Client) -> None:
    """There are this package, numpy and pyarrow, in the versions of constraints.txt: no Airflow, framework, pip or uv."""
    program = """
import importlib.metadata, importlib.util, json
names = ("airflow", "tensorflow", "keras", "sklearn", "pip", "uv", "setuptools", "requests", "docker")
versions = {found.name: found.version for found in importlib.metadata.distributions()}
print(json.dumps([versions, [name for name in names if importlib.util.find_spec(name)]]))
"""
    versions, importable = json.loads(python(client, tag("cpu"), program))
    pins = dict(
        line.split(" ;")[0].split("==")
        for line in (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if not line.endswith("python_full_version >= '3.12'")
    )
    assert versions == {"pipcook-provider": __version__, "numpy": pins["numpy"], "pyarrow": pins["pyarrow"]}
    assert importable == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_of_the_runtime_can_be_imported(client: Client, variant: str) -> None:
    """Nothing that the runtime, a processor or a script's use of Arrow needs was left out; processors are found."""
    program = """
import importlib, pkgutil
import pipcook_provider.artifacts, pipcook_provider.runtime
for package in (pipcook_provider.artifacts, pipcook_provider.runtime):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
for name in ("compute", "csv", "dataset", "feather", "fs", "ipc", "json", "orc", "parquet"):
    importlib.import_module("pyarrow." + name)
from importlib.metadata import entry_points
print(*(processor.load().__name__ for processor in entry_points(group="pipcook.artifacts")))
"""
    expected = [one.load().__name__ for one in importlib.metadata.entry_points(group="pipcook.artifacts")]
    assert python(client, tag(variant), program).split() == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_compiled_when_a_stage_starts(client: Client, variant: str) -> None:
    """All that the runtime imports, the standard library too, comes from byte-code in the image."""
    program = """
import importlib.util, os, pipcook_provider.runtime.arrow, pipcook_provider.runtime.roles
for module in list(sys.modules.values()):
    source = getattr(module, "__file__", None) or ""
    if source.endswith(".py") and not os.path.exists(importlib.util.cache_from_source(source)):
        print(source)
"""
    assert python(client, tag(variant), program) == ""
    verbose = ("sh", "-c", f'exec {PYTHON} -v -I -S -c "$1" 2>&1', "sh", SHOW_PACKAGES + program)
    trace = client.run("run", *LOCKED, "--entrypoint=env", tag(variant), *verbose, purpose="The program fails")
    objects = [line for line in trace.splitlines() if line.startswith("# code object from")]
    assert len(objects) > 100
    assert [line for line in objects if not line.endswith(".pyc'")] == []


def test_the_image_is_small(client: Client, tensorflow_framework: Path) -> None:
    """The CPU image takes at most 0.4 GB, and with TensorFlow beside it at most 2.0 GB."""
    image = inspect(client, tag("cpu"))["Size"]
    files = {(found.st_dev, found.st_ino): found.st_size for found in map(Path.lstat, tensorflow_framework.rglob("*"))}
    assert image <= 0.4e9
    assert image + sum(files.values()) <= 2.0e9


def test_the_driver_is_asked_for_in_the_cuda_image_only(client: Client) -> None:
    """NVIDIA's container runtime brings the libraries that compute, and refuses drivers that are too old for CUDA 12."""
    variables = {variant: inspect(client, tag(variant))["Config"]["Env"] for variant in VARIANTS}
    asked = [variable for variable in variables["cuda"] if variable.startswith("NVIDIA_")]
    assert asked == ["NVIDIA_DRIVER_CAPABILITIES=compute,utility", "NVIDIA_REQUIRE_CUDA=cuda>=12.0"]
    assert [variable for variable in variables["cpu"] if variable.startswith("NVIDIA_")] == []


def test_a_framework_is_baked_in(client: Client, baked: Image) -> None:
    """The framework lies where the launcher expects it, named by the label, with byte-code; the tag is one of its own."""
    assert baked.tag == f"{tag('cpu')}-six-1.17.0"
    assert inspect(client, baked.tag)["Config"]["Labels"]["io.pipcook.framework"] == "six@1.17.0"
    program = """
import json, os
folder = "/opt/pipcook/framework"
sys.path.insert(0, folder + "/site-packages")
import six
manifest = json.load(open(folder + "/framework.json"))
print(manifest["name"], manifest["version"], six.__version__, six.__file__, os.path.exists(six.__cached__))
"""
    expected = "six 1.17.0 1.17.0 /opt/pipcook/framework/site-packages/six.py True"
    assert python(client, baked.tag, program) == expected
    assert python(client, tag("cpu"), "import os; print(os.path.exists('/opt/pipcook/framework'))") == "False"


def test_a_framework_must_be_named_exactly(client: Client, base: str, context: Path) -> None:
    """A label that leaves the version open would not say what is in the image."""
    with pytest.raises(ToolError, match=r"FRAMEWORK=six@1\.17\.0"):
        build(client, Image("cpu", base, "six@1.17"), context)


def test_labels_cannot_say_what_is_not_so(client: Client, base: str) -> None:
    """A build with another version than the package's fails, and says which one it should be."""
    arguments = {"BASE_IMAGE": base, "VERSION": "0.0.1", "PROTOCOL": str(PROTOCOL), "PYTHON": "3.11"}
    options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    file = REPOSITORY / "docker" / "Dockerfile"
    with pytest.raises(ToolError, match=f"--build-arg VERSION={__version__}"):
        client.run(
            "build", "--progress=plain", *options, "--target=cpu", f"--file={file}", REPOSITORY, purpose="refused"
        )


def test_an_image_is_made_of_ours(client: Client, tmp_path: Path) -> None:
    """An image that begins with ours and adds packages, as docker/README.md tells, shows them to stages."""
    (tmp_path / "packages" / "ours").mkdir(parents=True)
    (tmp_path / "packages" / "ours" / "__init__.py").write_text("answer = 42\n", encoding="utf-8")
    (tmp_path / "Dockerfile").write_text(
        f"FROM {tag('cpu')}\nCOPY packages /opt/pipcook/lib/python3.11/site-packages\n", encoding="utf-8"
    )
    client.run("build", "--tag=pipcook-test-ours:1", tmp_path, purpose="refused")
    try:
        assert python(client, "pipcook-test-ours:1", "import ours; print(ours.answer)") == "42"
        assert inspect(client, "pipcook-test-ours:1")["Config"]["Labels"]["io.pipcook.variant"] == "cpu"
    finally:
        client.run("image", "rm", "pipcook-test-ours:1", purpose="The image is left behind")
