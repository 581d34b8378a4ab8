"""Scripts, frameworks and images: what cannot be used, and what a scheduled pipeline should name more exactly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from pipcook_provider.pinning import is_moving_name, moving_part
from pipcook_provider.spec.diagnose import Flaw
from pipcook_provider.spec.framework import is_name
from pipcook_provider.spec.lint.facts import Facts
from pipcook_provider.spec.lint.sections import scripts_of, sections
from pipcook_provider.spec.model import PipelineSpec
from pipcook_provider.spec.places import Path

_FRAMEWORK: Final = ("options", "framework")
# The grammar of github.com/distribution/reference, with room for an image's id.
_IMAGE: Final = re.compile(
    r"(?P<name>(?:(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9A-Fa-f:]+\])"
    r"(?::[0-9]+)?/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?P<digest>@[A-Za-z][\w.+-]*:[0-9A-Fa-f]{32,})?"
    r"|(?P<id>sha256:[0-9a-f]{64})",
    re.ASCII,
)


def unusable(reasons: Mapping[Path, str]) -> Iterator[Flaw]:
    """Yield what a document names and cannot be used, by the reasons that were found out."""
    for path, reason in reasons.items():
        yield Flaw(path, reason)


def moving(spec: PipelineSpec, facts: Facts) -> Iterator[Flaw]:
    """Yield what a scheduled pipeline runs today and may be something else tomorrow."""
    if spec.airflow.schedule is None:
        return
    for path, script in scripts_of(spec):
        if script.reference not in facts.locked and (what := moving_part(script.reference)):
            yield Flaw(path, _moves(what, "a commit or an exact version"))
    if spec.framework and spec.framework not in facts.locked and (what := _moving_framework(spec.framework)):
        yield Flaw(_FRAMEWORK, _moves(what, "an exact version"))
    for path, image in _images(spec):
        if (found := _IMAGE.fullmatch(image)) and not (found["digest"] or found["id"]):
            tag = found["tag"]
            if tag is None or is_moving_name(tag):
                what = f'the tag "{tag}"' if tag else "an image without a tag"
                yield Flaw(path, f"{_MOVING.format(what)} Name the tag of a version, or add the digest of the image.")


def no_images(spec: PipelineSpec) -> Iterator[Flaw]:
    """Yield images that no engine can read the name of."""
    for path, image in _images(spec):
        if _IMAGE.fullmatch(image) is None:
            yield Flaw(
                path,
                f'Expected an image as name, name:tag or name@sha256:digest, such as "registry.example.com/stage:1", in '
                f'small letters and without spaces, found "{image}", which no container engine can read. Correct it.',
            )


_MOVING: Final = "This pipeline runs by itself, and {} may be something else at the next run."


def _moves(what: str, exact: str) -> str:
    return f'{_MOVING.format(what)} Name {exact}, or hold the document to what it names now: "pipcook lock".'


def _moving_framework(reference: str) -> str | None:
    if not is_name(reference):
        return moving_part(reference)
    name, _, version = reference.partition("@")
    if not version:
        return f"{name} without a version"
    return f'"@{version}", the beginning of a version,' if version.isdecimal() else None


def _images(spec: PipelineSpec) -> Iterator[tuple[Path, str]]:
    for path, section in sections(spec):
        image = section.get("image")
        if isinstance(image, str):
            yield (*path, "image"), image
        elif image:
            for kind, name in image.items():
                if name is not None:
                    yield (*path, "image", kind), name
