"""What can go wrong with the engine and the images."""

from __future__ import annotations


class ToolError(Exception):
    """It cannot go on; the text is for the person who started it."""
