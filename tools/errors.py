"""What can go wrong with tools."""

from __future__ import annotations


class ToolError(Exception):
    """It cannot go on; the text is for the person who started it."""
