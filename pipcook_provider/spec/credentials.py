"""User and password in addresses are refused in documents."""

from __future__ import annotations

from pipcook_provider.masking import holds_credentials


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
