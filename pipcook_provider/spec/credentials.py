"""User and password in addresses: refused in documents, masked in messages."""

from __future__ import annotations

import re
from typing import Final

# A password may hold "/", "?" or "#" by mistake: what follows the colon is then no port, and all up to the "@" counts.
_SLIPPED: Final = r'[^\s/?#"\[:@]+:(?!\d*(?:[/?#"\s]|$))[^\s"]*@'
_HELD: Final = re.compile(rf"\s*(?:https?:/*|(?:[A-Za-z][\w+.-]*:)?//+)(?:[^/?#]*@|{_SLIPPED})", re.IGNORECASE)
_SHOWN: Final = re.compile(rf'(?<=//)(?:(?:\\.|[^/?#"\\\n])*@|{_SLIPPED})|[^\s/?#"\\:@]+:[^\s/?#"\\]*@')


def refuse_credentials(address: str) -> None:
    """Refuse an address with a user or password in it.

    :raises ValueError: it has; the message, for the document's author, repeats neither.
    """
    if holds_credentials(address):
        raise ValueError(
            'Expected an address without user and password, found one with them before the "@". They would be written '
            "into the run's files, the model's folder and the zip. Remove them, and put them into the file ~/.netrc of "
            "the workers, which downloads read."
        )


def holds_credentials(address: str) -> bool:
    """Tell whether a URI or path begins with a user or password."""
    return "@" in address and _HELD.match(address) is not None


def masked(text: str) -> str:
    """Return a text with ``***`` for every user and password in the addresses in it."""
    return _SHOWN.sub("***@", text) if "@" in text else text
