"""Assets that a pipeline is scheduled on, and the rules about them that a JSON Schema cannot express."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pipcook_provider.spec.credentials import refuse_credentials
from pipcook_provider.spec.model import AssetCondition, AssetSpec
from pipcook_provider.spec.names import did_you_mean
from pipcook_provider.spec.places import Path

CONDITIONS: Final = ("any", "all")
TIME_AND_ASSETS: Final = ("time", "assets")
_OF_ASSETS: Final = ("name", "uri", "watch", "interval")
_DEEPEST: Final = 16
_PROHIBITED: Final = frozenset({"self", "context"})
_NOT_IN_ADDRESS: Final = re.compile(r'[^\x21-\x7e]|["<>\\^`{|}]')
#: Bytes of an asset's name and URI that the index of Airflow's database has room for.
_LONGEST: Final = 2600
#: Airflow asks its database for all assets of a schedule at once, which refuses a question of ten thousand.
_MOST: Final = 1000

Report = Callable[[Path, str], object]
"""Takes the path of a part that cannot be used, from the schedule on, and why; may raise."""


@dataclass(frozen=True, slots=True)
class AssetReader:
    """Reads conditions that conform to the schema, and sees to it that an asset is the same wherever it stands.

    :param report: is told of everything that cannot be used; what is returned then means nothing.
    :param known: the assets so far, each by ``name`` and by ``uri``, and where it stands.
    """

    report: Report
    known: dict[tuple[str, str], tuple[AssetSpec, Path]] = field(default_factory=dict)

    def assets(self, value: Any, path: Path) -> AssetCondition:
        """Read a list of assets, all of which count, or an object with ``any`` or ``all``."""
        if isinstance(value, list):
            return self.entries("all", value, path)
        return self.condition(value, path, 'a list of assets, or "any" or "all" with one')

    def condition(self, value: Mapping[str, Any], path: Path, expected: str) -> AssetCondition:
        """Read an object that is to have ``any`` or ``all``, and nothing else.

        :param expected: what an error says of it.
        """
        kinds = stated(value, CONDITIONS)
        others = stated(value, (*TIME_AND_ASSETS, *_OF_ASSETS))
        if len(kinds) == 1 and not others:
            kind: Literal["any", "all"] = "any" if kinds == ("any",) else "all"
            return self.entries(kind, value[kind], (*path, kind))
        self.report(path, f"Expected {expected}, found {_keys(value)}. {_remedy(kinds, others, value)}")
        return AssetCondition("all", ())

    def entries(self, kind: Literal["any", "all"], entries: list[Any], path: Path) -> AssetCondition:
        """Read the list of a condition."""
        if len(entries) + len(self.known) // 2 > _MOST:
            self.report(path, f"Expected at most {_MOST:,} assets, found more. Write fewer, or make several documents.")
            return AssetCondition(kind, ())
        if len(path) > 2 * _DEEPEST:
            self.report(path, f'Expected "any" and "all" at most {_DEEPEST} deep, found them deeper. Write it simpler.')
            return AssetCondition(kind, ())
        read = tuple(self._entry(entry, (*path, index)) for index, entry in enumerate(entries))
        first: dict[AssetSpec | AssetCondition, int] = {}
        for index, entry in enumerate(read):
            if isinstance(entry, AssetSpec) and first.setdefault(entry, index) != index:
                message = f'Expected each asset once in a list, found "{entry.name}" again. Remove one of them.'
                self.report((*path, index), message)
        return AssetCondition(kind, read)

    def _entry(self, entry: Any, path: Path) -> AssetSpec | AssetCondition:
        if isinstance(entry, str):
            return self._asset({"name": entry}, path, lambda _: path)
        if stated(entry, ("name", "uri")) and not stated(entry, (*CONDITIONS, *TIME_AND_ASSETS)):
            return self._asset(entry, path, lambda key: (*path, key))
        return self.condition(entry, path, 'an asset with "name" or "uri", or a condition with "any" or "all"')

    def _asset(self, entry: Mapping[str, Any], path: Path, place: Callable[[str], Path]) -> AssetSpec:
        """Read an asset.

        :param place: returns where the value of a key stands.
        """
        given = {name: entry[name] for name in stated(entry, _OF_ASSETS)}
        name: str = given["name"] if "name" in given else given["uri"]
        asset = AssetSpec(name=name, uri=given.get("uri", name), watch=given.get("watch", False))
        if asset.watch and "interval" in given:
            asset = replace(asset, interval=float(given["interval"]))
        self._check(_check_name, asset.name, place("name" if "name" in given else "uri"))
        self._check(
            _check_watched if asset.watch else _check_uri, asset.uri, place("uri" if "uri" in given else "name")
        )
        size = len(asset.name.encode()) + len(asset.uri)
        if size > _LONGEST:
            self.report(
                path,
                f"Expected an asset whose name and URI have at most {_LONGEST:,} bytes together, which is what Airflow's "
                f'database can find it by, found {size:,}. Shorten it; a long address needs a short "name" beside its "uri".',
            )
        if "interval" in given and "watch" not in given:
            message = 'Expected "watch": true beside "interval", found none: nothing would look. Add it.'
            self.report(place("interval"), message)
        self._compare(asset, path)
        return asset

    def _check(self, check: Callable[[str], None], text: str, path: Path) -> None:
        try:
            check(text)
        except ValueError as exc:
            self.report(path, str(exc))

    def _compare(self, asset: AssetSpec, path: Path) -> None:
        for key in (("name", asset.name), ("uri", asset.uri)):
            other, place = self.known.setdefault(key, (asset, path))
            if other != asset:
                self.report(
                    path,
                    f"Expected an asset that is the same wherever it stands, found {told(asset)}, and before "
                    f"({_shown(place)}) {told(other)}: Airflow knows an asset by its name and by its URI. Write the "
                    "same in both places, or choose another name.",
                )
                return


def stated(value: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the keys that an object has; what is null is not said."""
    return tuple(name for name in names if value.get(name) is not None)


def _keys(value: Mapping[str, Any]) -> str:
    names = [f'"{name}"' for name in value if value[name] is not None]
    return f"an object with {', '.join(names[:6])}" if names else "an object with nothing in it"


def _remedy(kinds: tuple[str, ...], others: tuple[str, ...], value: Mapping[str, Any]) -> str:
    if len(kinds) > 1:
        return 'Write one of them into the list of the other, such as {"all": [..., {"any": [...]}]}.'
    if kinds and "time" in others:
        return f'Write {{"time": ..., "assets": {{"{kinds[0]}": [...]}}}}.'
    if kinds:
        return f'Keep "{kinds[0]}", and write the rest elsewhere.'
    if "name" in others or "uri" in others:
        return "An asset stands in a list: put it into brackets."
    for name in (key for key in value if value[key] is not None):
        if near := did_you_mean(name, (*CONDITIONS, "name", "uri", *TIME_AND_ASSETS)):
            return near.strip()
    return 'Correct it; a time alone stands without an object, such as "@daily".'


def told(asset: AssetSpec) -> str:
    """Return an asset in words."""
    named = f'"{asset.name}"' if asset.name == asset.uri else f'"{asset.name}" with the URI "{asset.uri}"'
    return f"{named}, watched every {asset.interval:g} seconds" if asset.watch else named


def _shown(path: Path) -> str:
    return "schedule" + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)


def _check_name(name: str) -> None:
    refuse_credentials(name)
    if name in _PROHIBITED:
        raise ValueError(
            f'Expected the name of an asset, found "{name}", which Airflow keeps for itself. Choose another name.'
        )


def _check_uri(uri: str) -> None:
    refuse_credentials(uri)
    if not uri.isascii():
        raise ValueError(
            f'Expected the name or URI of an asset, found "{uri}", which is not all ASCII, as Airflow wants its URI. Write '
            'a "uri" percent-encoded; its "name" may be any text.'
        )
    try:
        if urlsplit(uri).scheme != "airflow":
            return
        reason = "whose scheme Airflow keeps for itself"
    except ValueError as exc:
        reason = f"which is no URI ({exc})"
    raise ValueError(f'Expected the name or URI of an asset, found "{uri}", {reason}. Correct it.')


def _check_watched(uri: str) -> None:
    refuse_credentials(uri)
    try:
        parts = urlsplit(uri)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or _NOT_IN_ADDRESS.search(uri):
        raise ValueError(
            "Expected an http or https address that can be asked for changes, such as "
            f'"https://example.com/digits.zip", found "{uri}". Correct it, escaping what no URI can carry, or remove '
            '"watch" and let the task that changes the asset say so.'
        )
