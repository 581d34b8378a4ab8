"""``options.framework``: what can be said of a reference without looking for the framework."""

from __future__ import annotations

import os
import re
from typing import Final

from pipcook_provider.spec.credentials import refuse_credentials

# The same forms as in pipcook_provider.frameworks.reference, which lies in another layer; a test compares the two.
#: Pattern of ``name`` and ``name@version``, which all of the text must match; what ends in ``.zip`` is a path.
NAME: Final = r"(?!.*\.zip$)[a-z0-9][a-z0-9._-]{0,59}(@[0-9][0-9a-z.+-]{0,39})?"
_NAME: Final = re.compile(NAME)
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+-]+):")


def is_name(text: str) -> bool:
    """Tell whether a reference is ``name`` or ``name@version``, rather than a URL or path."""
    return _NAME.fullmatch(text) is not None


def absolute_framework(text: str, folder: str) -> str:
    """Return a reference that means the same wherever it stands: a relative path as an absolute one.

    :param text: a reference that `check_framework` accepts.
    :param folder: what a relative path is relative to.
    """
    if is_name(text) or _SCHEME.match(text) or text.startswith("~"):
        return text
    return os.path.normpath(os.path.join(folder, text))  # noqa: PTH118


def check_framework(text: str) -> None:
    """Check the form of a reference.

    :raises ValueError: it is neither ``name`` or ``name@version``, nor an ``http``, ``https`` or ``file`` URL, nor a
        path (with a separator, beginning with ``.`` or ``~``, or ending in ``.zip``); or it holds a user or password.
    """
    if _NAME.fullmatch(text):
        return
    refuse_credentials(text)
    if scheme := _SCHEME.match(text):
        usable = scheme[1].lower() in {"http", "https", "file"}
    else:
        usable = text.startswith((".", "~")) or text.endswith(".zip") or "/" in text or "\\" in text
    if not usable:
        likely = "@".join(re.findall(r"[a-z0-9][a-z0-9._+-]*", text.lower())[:2])
        example = likely if _NAME.fullmatch(likely) and not scheme else "tensorflow@2.21"
        raise ValueError(
            f'Expected the framework as name@version, such as "{example}", in small letters and without spaces, or as '
            f'the http(s) URL of a zip, or the path of a zip or directory, found "{text}". Correct it, or write null.'
        )
