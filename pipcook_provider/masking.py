"""User and password in addresses: where they stand, and how they are kept out of what is shown."""

from __future__ import annotations

import re
from typing import Final

# A password may hold "/", "?" or "#" by mistake: what follows the colon is then no port, and all up to the "@" counts.
_SLIPPED: Final = r"[^/?#\[:@]*:(?!\d*(?:[/?#]|$))(?s:.)*@"
_SECRET: Final = rf"(?:[^/?#]*@(?:{_SLIPPED})?|{_SLIPPED})"
_HELD: Final = re.compile(rf"\s*(?:https?:/*|(?:[A-Za-z][\w+.-]*:)?//+){_SECRET}", re.IGNORECASE)
_DROPPED: Final = re.compile(rf"(^\s*(?:https?:/*|//)|://){_SECRET}", re.IGNORECASE)

# The same within a text, where white space and quotes end an address. No part of the text is looked at once for each place
# that an address could begin at: texts may be long, and written to take long.
_IN_TEXT: Final = re.compile(
    r'(?<=//)(?:\\.|[^/?#"\\\n])*@|(?<![^\s/?#"\\])((?:[^\s/?#"\\:@]*+@|:)*+)[^\s/?#"\\:@]++:[^\s/?#"\\]*@'
)
_UP_TO_AT: Final = re.compile(r'(?<![^\s"])[^\s"]*@')
_SLIPPED_IN_TEXT: Final = re.compile(r'(?<=//)(?:[^\s/?#"\\]*@)?[^\s/?#"\[:@]*:(?!\d*[/?#])[^\s"]*@')


def holds_credentials(address: str) -> bool:
    """Tell whether a URI or path begins with a user or password."""
    return "@" in address and _HELD.match(address) is not None


def without_credentials(address: str) -> str:
    """Return a URI or path without user and password."""
    return _DROPPED.sub(r"\1", address, count=1) if "@" in address else address


def masked(text: str) -> str:
    """Return a text with ``***`` for every user and password in the addresses in it."""
    if "@" not in text:
        return text
    return _UP_TO_AT.sub(lambda found: _SLIPPED_IN_TEXT.sub("***@", found[0]), _IN_TEXT.sub(r"\1***@", text))
