"""What the Dockerfile does inside of the build: lays out ``/opt/pipcook``, below ``/out``, from which it is copied.

Secrets of the build are read where they are mounted: ``ca`` (PEM certificates to trust beside the system's) and ``pip``
(a ``pip.conf``, of which the index is used). Standard library only; it runs with the Python of the base image.
"""

from __future__ import annotations

import argparse
import compileall
import configparser
import json
import os
import py_compile
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_HOME = Path("/opt/pipcook")
_OUT = Path("/out")
_SOURCE = Path("/source")
_SECRETS = Path("/run/secrets")
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_SITE_PACKAGES = f"lib/python{_PYTHON}/site-packages"

#: What compiles C++ against Arrow, tests it, or speaks Flight, its RPC protocol, which no dataset of a run uses: 45 MB.
_UNUSED_OF_PYARROW = ("include", "includes", "src", "tests", "*.pyx", "*.pxd", "*.pxi", "*flight*", "*_cpp_tests*")
#: Tests, and their data.
_UNUSED_OF_NUMPY = ("**/tests",)
#: Activation is for people; headers are for compilers.
_UNUSED_OF_VENV = ("bin/[Aa]ctivate*", "include")

#: What ``pipcook framework ensure`` imports.
_FRAMEWORK_TOOLS = ("filelock", "packaging", "requests", "rich", "urllib3", "uv")


def main() -> None:
    """Run the step that the command line names.

    :raises SystemExit: it cannot be done; the text is for whoever builds.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    steps = parser.add_subparsers(required=True)
    step = steps.add_parser("packages", help="a virtual environment with numpy and pyarrow")
    step.set_defaults(run=lambda _options: lay_out_packages())
    step = steps.add_parser("provider", help="this repository's package, beside them")
    for name in ("version", "protocol", "python"):
        step.add_argument(f"--{name}", required=True, help="what the image's label says")
    step.set_defaults(run=lambda options: lay_out_provider(options.version, options.protocol, options.python))
    step = steps.add_parser("framework", help="a framework, where one is asked for")
    step.add_argument("reference", help="name@version, exact; empty for none")
    step.add_argument("--variant", choices=("cpu", "cuda"), required=True)
    step.set_defaults(run=lambda options: lay_out_framework(options.reference, options.variant))
    options = parser.parse_args()
    options.run(options)


def lay_out_packages() -> None:
    """Make the virtual environment, without pip, and install what datasets are made of."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", _HOME], check=True)
    _pip(
        "--constraint",
        "/constraints.txt",
        "--only-binary=:all:",
        "--target",
        _HOME / _SITE_PACKAGES,
        "numpy",
        "pyarrow",
    )
    _remove(_HOME, _UNUSED_OF_VENV)
    _remove(_HOME / _SITE_PACKAGES, ("bin",))
    _remove(_HOME / _SITE_PACKAGES / "pyarrow", _UNUSED_OF_PYARROW)
    _remove(_HOME / _SITE_PACKAGES / "numpy", _UNUSED_OF_NUMPY)
    _compile(_HOME / _SITE_PACKAGES)
    shutil.copytree(_HOME, _OUT / _HOME.relative_to("/"), symlinks=True)


def lay_out_provider(version: str, protocol: str, python: str) -> None:
    """Install this repository's package, without its dependencies, and the link that the entry point names.

    :raises SystemExit: a label would say what is not so.
    """
    package = _SOURCE / "pipcook_provider"
    _check("VERSION", version, _assigned(package / "__init__.py", "__version__"))
    _check("PROTOCOL", protocol, _assigned(package / "runtime" / "messages.py", "PROTOCOL"))
    _check("PYTHON", python, _PYTHON)
    home = _OUT / _HOME.relative_to("/")
    _pip("--no-deps", "--target", home / _SITE_PACKAGES, _SOURCE)
    _remove(home / _SITE_PACKAGES, ("bin",))
    _compile(home / _SITE_PACKAGES)
    (home / "child.py").symlink_to(_HOME / _SITE_PACKAGES / "pipcook_provider" / "runtime" / "child.py")


def lay_out_framework(reference: str, variant: str) -> None:
    """Fetch or build a framework for this platform, as ``pipcook framework ensure`` does.

    :param reference: empty for none.
    :raises SystemExit: the reference is not exact, or there is no such framework.
    """
    _OUT.mkdir()
    if not reference:
        return
    tools = Path("/tools")
    _pip("--constraint", _SOURCE / "constraints.txt", "--target", tools, *_FRAMEWORK_TOOLS)
    command = [sys.executable, "-m", "pipcook_provider.cli", "framework", "ensure", "--json", reference]
    ensured = subprocess.run(
        [*command, "--gpu"] if variant == "cuda" else command,
        env={
            **_environment(),
            "PATH": f"{tools / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": f"{_SOURCE}:{tools}",
            "PIPCOOK_HOME": "/pipcook",
            "PIPCOOK_FRAMEWORK_RECIPES": "/recipes" if Path("/recipes").is_dir() else "",
        },
        stdout=subprocess.PIPE,
        check=False,
    )
    if ensured.returncode:
        raise SystemExit(f"FRAMEWORK={reference} cannot be baked in, for the reason above. No image was made.")
    (framework,) = json.loads(ensured.stdout)
    if reference != framework["reference"]:
        raise SystemExit(
            f"Expected FRAMEWORK to be an exact reference, found {reference}, which is {framework['reference']} now; the "
            f"image's label and tag would be wrong, so no image was made. Pass FRAMEWORK={framework['reference']}."
        )
    shutil.copytree(framework["path"], _OUT / _HOME.relative_to("/") / "framework", symlinks=True)


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--root-user-action=ignore"]
    command += ["--disable-pip-version-check", *map(str, arguments)]
    if subprocess.run(command, env=_environment(), check=False).returncode:
        raise SystemExit(
            "pip failed for the reason above, so no image was made. Where certificates or an index of your own are needed, "
            "pass them as the secrets `ca` and `pip`, as `make images` does."
        )


def _environment() -> Mapping[str, str]:
    """Return the environment in which pip and uv find the index, and trust it, as the secrets say."""
    environment = {**os.environ, "UV_LINK_MODE": "copy"}
    if (ca := _SECRETS / "ca").is_file():
        system = Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt")
        bundle = Path("/dev/shm/ca.pem")  # noqa: S108 - no layer keeps what lies here
        bundle.write_bytes(b"\n".join(file.read_bytes() for file in (system, ca) if file.is_file()))
        environment |= dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), str(bundle))
    if (configuration := _SECRETS / "pip").is_file():
        environment["PIP_CONFIG_FILE"] = str(configuration)
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(configuration, encoding="utf-8")
        names = {"UV_DEFAULT_INDEX": "index-url", "UV_INDEX": "extra-index-url"}
        found = {variable: parser.get("global", option, fallback="") for variable, option in names.items()}
        environment |= {variable: " ".join(value.split()) for variable, value in found.items() if value}
    return environment


def _check(argument: str, told: str, found: str) -> None:
    if told != found:
        raise SystemExit(
            f"Expected the build argument {argument} to be what is built, {found}, but it is {told or 'empty'}; the image's "
            f"label would be wrong, so no image was made. Pass --build-arg {argument}={found}, or let `make images` do it."
        )


def _assigned(file: Path, name: str) -> str:
    """Return the literal that a module gives to a name, without running it."""
    found = re.search(rf'^{name} = "?([^"\n]+)"?$', file.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise SystemExit(f"{file} was expected to assign {name}, and does not; no image was made.")
    return found[1]


def _remove(folder: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for path in list(folder.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _compile(folder: Path) -> None:
    """Compile, once and for all: nothing in an image changes, so Python need not compare times when it imports."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    # The result is not looked at: packages bring files that are not for this Python.
    compileall.compile_dir(folder, quiet=2, workers=0, invalidation_mode=mode)


if __name__ == "__main__":
    main()
