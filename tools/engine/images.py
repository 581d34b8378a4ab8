"""The base image, and the images of docker/Dockerfile on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipcook_provider import __version__
from pipcook_provider.runtime.messages import PROTOCOL
from tools.errors import ToolError

from .client import Client
from .daemon import install_missing

REPOSITORY = Path(__file__).resolve().parents[2]
VARIANTS = ("cpu", "cuda")
#: What docker/Dockerfile builds on when nobody says otherwise.
BASE_IMAGE = "python:3.11-slim-bookworm"
STAND_IN = "pipcook-base:bookworm"

_PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
#: What a running image does not need. Copyright notices stay, as the licenses ask for it.
_UNUSED = (
    # What it stands for lets pip install as well.
    "usr/lib/python3*/EXTERNALLY-MANAGED",
    "usr/share/doc/*/[!c]*",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt/*",
    "var/lib/apt/lists/*",
    "var/log/*",
)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_INDEX_OPTIONS = ("index-url", "extra-index-url", "trusted-host")


@dataclass(frozen=True, slots=True)
class Image:
    """What to build.

    :param variant: ``cpu`` or ``cuda``.
    :param base: the image that it builds on.
    :param framework: exact reference of the framework to bake in, such as ``tensorflow@2.21.0``; empty for none.
    """

    variant: str
    base: str
    framework: str = ""

    @property
    def tag(self) -> str:
        """Its tag: the one that stages run in by default, unless a framework is baked in, which not every stage wants."""
        framework = f"-{self.framework.replace('@', '-')}" if self.framework else ""
        return f"pipcook-stage:{__version__}-{self.variant}{framework}"


def ensure_base(client: Client, wanted: str = "") -> str:
    """Return an image to build on that the engine has: the wanted one, else the default, else a stand-in for it.

    :param wanted: pulled when the engine does not have it; empty for the default.
    :raises ToolError: it cannot be had.
    """
    image = wanted or BASE_IMAGE
    if client.has_image(image):
        return image
    try:
        client.run("pull", "--quiet", image, purpose=f"{image}, to build on, cannot be had")
    except ToolError as exc:
        if wanted or not (client.has_image(STAND_IN) or _can_make_stand_in()):
            raise ToolError(
                f"{exc}\nPull it where that works, or name another image with Python: BASE_IMAGE=..."
            ) from None
        print(f"{exc}\nA stand-in made of Debian's packages takes its place: {STAND_IN}", file=sys.stderr, flush=True)
        ensure_stand_in(client)
        return STAND_IN
    return image


def ensure_stand_in(client: Client) -> None:
    """Make, unless it is there, a stand-in for the base image from Debian's packages: bookworm has Python 3.11 too.

    :raises ToolError: it cannot be made.
    """
    if client.has_image(STAND_IN):
        return
    install_missing("debootstrap")
    with tempfile.TemporaryDirectory(prefix="pipcook-base-") as folder:
        root = Path(folder) / "root"
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(root)]
        made = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if made.returncode:
            lines = made.stdout.splitlines()[-10:]
            raise ToolError("\n    ".join([f"{STAND_IN} cannot be made: debootstrap failed:", *lines]))
        for path in [path for pattern in _UNUSED for path in root.glob(pattern)]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)  # One may be a link into another that is gone already.
        (root / "usr/bin/python").symlink_to("python3")
        archive = Path(folder) / "root.tar"
        subprocess.run(["tar", "--create", "--file", archive, "--directory", root, "."], check=True)
        client.run("import", "--change", 'CMD ["python3"]', archive, STAND_IN, purpose=f"{STAND_IN} cannot be made")


def build(client: Client, image: Image, context: Path = REPOSITORY) -> None:
    """Build an image; its tag is the engine's afterwards.

    :param context: a checkout of this repository.
    :raises ToolError: the build fails.
    """
    arguments = {
        "BASE_IMAGE": image.base,
        "VERSION": __version__,
        "PROTOCOL": str(PROTOCOL),
        "PYTHON": _python_of(client, image.base),
        "FRAMEWORK": image.framework,
    }
    with _secrets() as secrets:
        options = [
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            # Without a value, so that a password in it stays off the command line.
            *(f"--build-arg={name}" for name in _PROXIES if os.environ.get(name)),
            *(f"--secret=id={name},src={path}" for name, path in secrets.items()),
            f"--target={image.variant}",
            f"--tag={image.tag}",
            f"--file={context / 'docker' / 'Dockerfile'}",
        ]
        client.run("build", "--progress=plain", *options, context, purpose=f"{image.tag} was not built")


def size(client: Client, tag: str) -> int:
    """Return the bytes that an image takes, with those it shares with others."""
    return int(client.run("image", "inspect", "--format={{.Size}}", tag, purpose=f"The size of {tag} is not known"))


def _can_make_stand_in() -> bool:
    return os.geteuid() == 0 and bool(shutil.which("debootstrap") or shutil.which("apt-get"))


def _python_of(client: Client, base: str) -> str:
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    arguments = ("--rm", "--network=none", "--entrypoint=python3", base, "-c", program)
    return client.run("run", *arguments, purpose=f"{base} was expected to have Python")


@contextmanager
def _secrets() -> Iterator[Mapping[str, Path]]:
    """Yield the files by which a build gets at the package index as this machine does: certificates, and a pip.conf."""
    names = filter(None, [*map(os.environ.get, _CERTIFICATES), _pip_option("cert")])
    certificates = next((path for path in map(Path, names) if path.is_file()), None)
    options = {option: value for option in _INDEX_OPTIONS if (value := _pip_option(option))}
    with tempfile.TemporaryDirectory(prefix="pipcook-build-") as folder:
        found = {} if certificates is None else {"ca": certificates}
        if options:
            found["pip"] = Path(folder) / "pip.conf"
            lines = ["[global]", *(f"{option} = {' '.join(value.split())}" for option, value in options.items())]
            found["pip"].write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield found


def _pip_option(option: str) -> str:
    """Return what pip is told here by its environment, else by its configuration files; empty for nothing."""
    variable = f"PIP_{option.upper().replace('-', '_')}"
    command = [sys.executable, "-m", "pip", "config", "get", f"global.{option}"]
    return (
        os.environ.get(variable) or subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    )
