"""What can go wrong with the demo."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on; the text is for the person who started it."""
