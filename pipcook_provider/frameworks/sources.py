"""Where a framework that is asked for by its name may come from.

The mirrors, in their order, each by its index or, without one, by the names of its files; then the package registries, by
a recipe. Each source is asked only when those before it do not have the framework.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

from pipcook_provider.errors import FetchError, FetchNotFound, FrameworkError, IntegrityError, OriginError
from pipcook_provider.frameworks.build import Resolution, build_from_recipe, resolve
from pipcook_provider.frameworks.framework import Manifest
from pipcook_provider.frameworks.mirror import INDEX, IndexEntry, Mirror, Offer
from pipcook_provider.frameworks.pin import FrameworkPin
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.frameworks.recipes import Recipe, find_recipe
from pipcook_provider.frameworks.reference import NameReference, is_early, parse_reference, version_key
from pipcook_provider.frameworks.report import Report
from pipcook_provider.settings import Settings
from pipcook_provider.store.cache import Built, Cache
from pipcook_provider.store.fetch import check_origin, shown

#: Pipcook's own mirror, for frameworks of JavaScript packages where no mirror is configured. It may be gone.
JAVASCRIPT_MIRROR = "https://pipcook-cloud.oss-cn-hangzhou.aliyuncs.com/framework/"


#: Stands in the cache's key of a framework that was got because a lock names it.
LOCKED = "-locked-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for, and how.

    :param asked: the reference as written.
    :param wanted: ``cpu`` or ``gpu``.
    :param platform: what it is for; its Node.js is found out where the framework has JavaScript packages.
    :param pin: what it must be, where a lock says so.
    :param refresh: whether it is got again although it is cached.
    :param verify: whether a cached one is compared with its record, and repaired.
    :param repair: whether the installer's own cache is distrusted.
    :param use_mirrors: whether mirrors are asked.
    """

    asked: NameReference
    wanted: str
    cache: Cache
    settings: Settings
    report: Report
    platform: Platform = field(default_factory=Platform.current)
    pin: FrameworkPin | None = None
    refresh: bool = False
    verify: bool = False
    repair: bool = False
    use_mirrors: bool = True


@dataclass(frozen=True, slots=True)
class Source:
    """A place that may have the framework.

    :param name: what a person knows it by.
    :param key: of the cache's entry that it makes.
    :param obtain: puts the framework into an empty directory.
    :param mirror: where it is, unless it is built here.
    """

    name: str
    key: str
    obtain: Callable[[Path], Built]
    mirror: Mirror | None = None


class OtherFrameworkFound(FetchNotFound):
    """What lies at an address is another framework than its name says."""


@dataclass(slots=True)
class Trail:
    """What was asked in vain so far, what failed, and the addresses of the mirrors that are not asked again."""

    report: Report
    tried: list[str] = field(default_factory=list)
    failures: list[FetchError] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)

    def note(self, name: str, exc: FetchError, mirror: Mirror | None) -> None:
        """Note that a source did not deliver, and why."""
        if isinstance(exc, FetchNotFound):
            other = isinstance(exc, OtherFrameworkFound)
            self.tried.append(f"{name} (another framework is in it)" if other else name)
            return
        self.tried.append(f"{name} (failed)")
        if mirror and exc.retryable:
            self.silent.add(mirror.address)
        if mirror and mirror.optional:
            self.report.warning(str(exc))
        else:
            self.failures.append(exc)

    def warn(self) -> None:
        """Tell what failed, though another source delivered."""
        for failure in self.failures:
            self.report.warning(str(failure))

    def failure(self, *, has_recipe: bool) -> FetchError:
        """Return the first failure as the error of the whole search."""
        first = self.failures[0]
        rest = " The package registries were not asked in its place: leave the mirror out to build from them."
        return type(first)(f"{first}{rest if has_recipe else ''}", retryable=first.retryable)


@dataclass(frozen=True)
class Sources:
    """The sources of one search."""

    search: Search

    def each(self, trail: Trail) -> Iterator[Source]:
        """Yield the sources, one after the other; what is found out meanwhile goes into the trail.

        :raises FetchError: no mirror delivered, and one of them failed: whether it has the framework is not known then,
            and the registries must not silently take its place.
        :raises FrameworkError: the registries cannot be asked, or do not have it.
        """
        asked = self.search.asked.version
        unlisted = []
        for place in self._places():
            if place.mirror.address in trail.silent:
                continue
            try:
                index = place.index()
            except FetchError as exc:
                trail.note(f"{place.shown}/{INDEX}", exc, place.mirror)
                trail.silent.add(place.mirror.address)
                continue
            if index is None:
                unlisted.append(place)
                yield from self._guesses(place, [asked, _without_patch(asked)] if asked else [], trail)
            elif listed := self._newest(index, place.platform):
                yield self._from_mirror(place, listed.offer)
            else:
                trail.tried.append(f"{place.shown}/{INDEX} (lists {self._versions(index)})")
        if self.recipe is None or (self.search.pin and self.search.pin.archive):
            return
        unlisted = [place for place in unlisted if place.mirror.address not in trail.silent]
        try:
            if not trail.failures or unlisted:
                version = self.recipe.version or self._resolution.version
                for place in unlisted if version != asked else []:
                    yield from self._guesses(place, [version], trail)
        except FrameworkError:
            if not trail.failures:
                raise
        if trail.failures:
            raise trail.failure(has_recipe=True)
        yield Source(f"recipe {self.recipe.directory.name}", self._key(version, next(self.platforms())), self._build)

    @cached_property
    def recipe(self) -> Recipe | None:
        """The recipe that answers to the name; with the lock's record in it, where there is a lock."""
        recipe = find_recipe(self.search.asked, self.search.settings.framework_recipes)
        pin = self.search.pin
        if recipe and pin and pin.manifest:
            try:
                return replace(recipe, manifest=Manifest.parse(pin.manifest))
            except ValueError as exc:
                raise FrameworkError(
                    f"The lock's record of {self.search.asked} cannot be used: {exc}. Write the lock again."
                ) from exc
        return recipe

    def platforms(self) -> Iterator[Platform]:
        """Yield the platforms that the framework may be for: where no recipe tells, Node's is tried last, if there is Node."""
        platform = self.search.platform
        if self.recipe is not None:
            yield platform.with_node() if self.recipe.manifest.has_javascript else platform
            return
        yield platform
        try:
            yield platform.with_node()
        except FrameworkError:
            return

    @property
    def variants(self) -> tuple[str | None, ...]:
        """The variants to look for, the best first; None stands for a framework that does not tell them apart."""
        if self.recipe is not None:
            return (self.recipe.variant(self.search.wanted),)
        return ("gpu", None) if self.search.wanted == "gpu" else (None,)

    def _places(self) -> list[_Place]:
        """The folders of the mirrors to look into, in their order."""
        search = self.search
        if not search.use_mirrors or (search.pin and search.pin.contents):
            return []
        platforms = list(self.platforms())
        mirrors = [Mirror(address, search.settings) for address in search.settings.framework_mirror]
        places = [
            _Place(mirror, platform, folder)
            for mirror in mirrors
            for platform in platforms
            for folder in platform.folders
        ]
        is_javascript = self.recipe is not None and self.recipe.manifest.has_javascript
        if not mirrors and is_javascript and _is_allowed(JAVASCRIPT_MIRROR, search.settings):
            default = Mirror(JAVASCRIPT_MIRROR, search.settings, optional=True)
            places = [_Place(default, platform, folder) for platform in platforms for folder in platform.folders]
        return places

    @property
    def cached_variants(self) -> set[str | None]:
        """The variants of cached frameworks that answer; one that does not tell may not stand for a GPU's."""
        if self.variants[0] == "gpu":
            return {"gpu"}
        return {None, self.search.wanted}

    def _newest(self, index: list[IndexEntry], platform: Platform) -> IndexEntry | None:
        asked = self.search.asked
        variants = {"gpu" if variant == "gpu" else None for variant in self.variants}
        found = [
            entry
            for entry in index
            if (entry.name, entry.platform) == (asked.name, platform.binaries)
            and entry.variant in variants
            and asked.accepts(entry.version)
        ]

        def rank(entry: IndexEntry) -> tuple[object, ...]:
            version = entry.version
            return entry.variant == "gpu", version == asked.version, not is_early(version), version_key(version)

        return max(found, key=rank, default=None)

    def _versions(self, index: list[IndexEntry]) -> str:
        versions = {entry.version for entry in index if entry.name == self.search.asked.name}
        return f"only {', '.join(sorted(versions, key=version_key))}" if versions else "none of that name"

    def _guesses(self, place: _Place, versions: list[str], trail: Trail) -> Iterator[Source]:
        for variant in self.variants:
            for version in dict.fromkeys(versions):
                for path in place.platform.mirror_paths(self.search.asked.name, version, variant):
                    if path.startswith(f"{place.folder}/") and place.mirror.address not in trail.silent:
                        yield self._from_mirror(place, place.mirror.offer(path, versions[0]))

    def _from_mirror(self, place: _Place, offer: Offer) -> Source:
        key = self._key(offer.version, place.platform)
        return Source(shown(offer.uri), key, partial(self._fetch, place.mirror, offer, key), place.mirror)

    def _fetch(self, mirror: Mirror, offer: Offer, key: str, directory: Path) -> Built:
        search = self.search
        if search.pin:
            offer = replace(offer, sha256=search.pin.archive)
        built = mirror.fetch(offer, directory, search.cache.download(key), search.report)
        try:
            found = Manifest.read(directory)
            exact = parse_reference(f"{found.name}@{found.version}")
        except FrameworkError as exc:
            raise IntegrityError(
                f"{shown(offer.uri)} was expected to be a framework, but cannot be used as one: {exc}", retryable=False
            ) from exc
        if not (
            isinstance(exact, NameReference)
            and exact.name == search.asked.name
            and search.asked.accepts(found.version)
            and found.variant in (None, search.wanted)
            and found.platform in (None, *(platform.key for platform in self.platforms()))
        ):
            raise OtherFrameworkFound(f"{shown(offer.uri)} holds another framework: {found.name}@{found.version}.")
        return built

    @cached_property
    def _resolution(self) -> Resolution:
        assert self.recipe is not None
        search = self.search
        return resolve(self.recipe, search.asked.version, search.wanted, search.report, search.platform)

    def _build(self, directory: Path) -> Built:
        return build_from_recipe(self._resolution, directory, self.search.report, repair=self.search.repair)

    def _key(self, version: str, platform: Platform) -> str:
        """Return the key of the cache's entry. What a lock names stands beside others of the same version."""
        suffix = "-gpu" if self.variants[0] == "gpu" else ""
        pin = self.search.pin
        locked = f"{LOCKED}{(pin.archive or pin.contents or '')[:12]}" if pin else ""
        return f"{NameReference(self.search.asked.name, version)}-{platform.key}{suffix}{locked}"


def _is_allowed(uri: str, settings: Settings) -> bool:
    """Return whether the allowed origins cover a URI."""
    try:
        check_origin(uri, settings)
    except OriginError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder of a mirror, and the platform that it is for."""

    mirror: Mirror
    platform: Platform
    folder: str

    @property
    def shown(self) -> str:
        return f"{shown(self.mirror.base)}/{self.folder}"

    def index(self) -> list[IndexEntry] | None:
        """Return what the index of the folder lists; Pipcook's own mirror has none."""
        return None if self.mirror.optional else self.mirror.index(self.folder)


def _without_patch(version: str) -> str:
    """Return ``2.21`` for ``2.21.0``: as the files of Pipcook's mirrors are named."""
    return ".".join(version.split(".")[:2])
