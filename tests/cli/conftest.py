from __future__ import annotations

from http_server import server

__all__ = ["server"]
