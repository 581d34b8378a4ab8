"""What a dataset is made of: one sample, and what is known about all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SPLITS = ("train", "test", "valid", "predicted")


class Sample(NamedTuple):
    """One sample.

    Both may be ``bool``, ``int`` (64 bit), ``float``, ``str``, ``bytes``, ``None``, numpy arrays and scalars, and lists
    and dictionaries (with text keys) of those at any depth.

    :param data: what the model sees. Images that are not decoded yet are ``{"uri": path}`` or ``{"buffer": bytes}``.
    :param label: what it is to say: the name of a category, for detection a list of ``{"name", "bbox": [x, y, w, h]}``
        in pixels; ``None`` where it is not known.
    """

    data: Any
    label: Any = None


class Dimension(NamedTuple):
    """The size of all images: ``x`` is the width and ``y`` the height in pixels, ``z`` the number of channels."""

    x: int
    y: int
    z: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetMeta:
    """What is known about the samples of a pool.

    :param type: ``Image``, ``Table``, ``General``, or a name of one's own.
    :param size: number of samples by split (``train``, ``test``, ``valid``, ``predicted``); a pool fills it in.
    :param categories: names of the categories, the place of each being its number; ``None`` where there are none.
    :param dimension: the size of all images, or ``None`` where there is no such thing.
    :param extra: whatever else a script wants to tell the next one, as JSON values.
    """

    type: str = "General"
    size: Mapping[str, int] = field(default_factory=dict)
    categories: tuple[str, ...] | None = None
    dimension: Dimension | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON-able dictionary."""
        return {
            "type": self.type,
            "size": dict(self.size),
            "categories": None if self.categories is None else list(self.categories),
            "dimension": None if self.dimension is None else self.dimension._asdict(),
            "extra": dict(self.extra),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DatasetMeta:
        """Return the record that :meth:`to_json` wrote."""
        return cls(
            type=value["type"],
            size=value["size"],
            categories=None if value["categories"] is None else tuple(value["categories"]),
            dimension=None if value["dimension"] is None else Dimension(**value["dimension"]),
            extra=value["extra"],
        )
