"""Names that are nearly right."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=1024)
def nearest(name: str, known: tuple[str, ...], cutoff: float = 0.6) -> str | None:
    """Return the known name that is most like ``name``, or ``None`` when none is; case and ``_``, ``-`` do not count.

    :param cutoff: how alike they must be, from 0 (anything) to 1 (the same).
    """
    import difflib

    folded = {_fold(candidate): candidate for candidate in reversed(known)}  # of two spellings the first counts
    hits = difflib.get_close_matches(_fold(name), folded, n=1, cutoff=cutoff)
    return folded[hits[0]] if hits else None


def slip(name: str, known: tuple[str, ...]) -> str | None:
    """Return the known name that ``name`` is a typing slip of, or ``None``; stricter than `nearest`."""
    near = nearest(name, known, 0.75)
    return near if near is not None and abs(len(near) - len(name)) <= 2 else None


def did_you_mean(name: str, known: tuple[str, ...]) -> str:
    """Return `` Did you mean "...?"`` with the nearest known name, or an empty string."""
    near = nearest(name, known)
    return f' Did you mean "{near}"?' if near is not None else ""


def _fold(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
