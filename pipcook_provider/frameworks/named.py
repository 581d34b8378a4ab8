"""Frameworks by name.

A version, or the beginning of one, is looked up in the cache first: what is there is used, and nobody is asked. What is
not there, a name without a version, and a refresh go to the :mod:`.sources`.
"""

from __future__ import annotations

import difflib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from pipcook_provider.errors import CacheError, FetchError, FrameworkError, FrameworkNotFound, PipcookError
from pipcook_provider.frameworks.framework import Framework
from pipcook_provider.frameworks.pin import FrameworkPin
from pipcook_provider.frameworks.platform import Platform
from pipcook_provider.frameworks.recipes import known_names, names_with_package
from pipcook_provider.frameworks.reference import NameReference, is_early, version_key
from pipcook_provider.frameworks.sources import LOCKED as _LOCKED
from pipcook_provider.frameworks.sources import Search, Source, Sources, Trail
from pipcook_provider.store.cache import Built, Damage, Entry

T = TypeVar("T")


def ensure_named(search: Search) -> Framework:
    """Return the framework that a search is for, after fetching or building it where it is not there.

    :raises FrameworkNotFound: no source has it; the message lists what was tried.
    :raises FetchError: no source delivered, and a mirror failed.
    :raises FrameworkBuildError: its packages cannot be installed.
    :raises IntegrityError: it is not what the lock names.
    """
    sources = Sources(search)
    found = _settled(sources)
    if found is None:
        with _alone(search):
            found = _settled(sources) or _from_sources(sources, _newest_cached(sources))
    return _verified(sources, found) if search.verify else found


def _settled(sources: Sources) -> Framework | None:
    """Return the cached framework that answers, where none of the sources is to be asked."""
    search = sources.search
    return None if search.asked.version is None or search.refresh else _newest_cached(sources)


def _alone(search: Search) -> AbstractContextManager[None]:
    """Let one process ask the sources for the same version; the others wait, and find it in the cache."""
    if search.asked.version is None or search.refresh:
        return nullcontext()
    pin = search.pin.describe() if search.pin else ""
    return search.cache.alone(
        f"search for {search.asked} {search.wanted} {search.platform.key} {pin}", lambda: _tell_waiting(search)
    )


def _from_sources(sources: Sources, known: Framework | None) -> Framework:
    search = sources.search
    try:
        found = _first(sources, lambda source: _take(sources, source))
    except PipcookError as exc:
        if known is None or search.refresh or not (exc.retryable or isinstance(exc, FrameworkNotFound)):
            raise
        search.report.warning(f"{exc} The newest {known.name} of the cache, {known.version}, is used instead.")
        return known
    if search.pin:
        search.pin.check(found)
    return found


def _take(sources: Sources, source: Source) -> Framework:
    search = sources.search

    def ensure(*, refresh: bool, verify: bool = False) -> Entry:
        return search.cache.ensure(
            source.key, source.obtain, refresh=refresh, verify=verify, on_wait=lambda: _tell_waiting(search)
        )

    present = None if search.use_mirrors else search.cache.find(source.key)
    entry = ensure(refresh=search.refresh or (present is not None and present.archive is not None))
    try:
        found = _load(sources, entry)
    except FrameworkError:
        # What cannot be read may be damaged: then it is got anew; else the same error comes again.
        found = _load(sources, ensure(refresh=False, verify=True))
    if search.pin and not _holds(search.pin, found):
        # An earlier attempt may have left what the lock does not name.
        found = _load(sources, ensure(refresh=True))
    return found


def _first(sources: Sources, take: Callable[[Source], T]) -> T:
    """Return what is taken from the first source that delivers."""
    trail = Trail(sources.search.report)
    for source in sources.each(trail):
        try:
            found = take(source)
        except FetchError as exc:
            trail.note(source.name, exc, source.mirror)
        else:
            trail.warn()
            return found
    if trail.failures:
        raise trail.failure(has_recipe=False)
    raise _not_found(sources.search, trail.tried)


def _newest_cached(sources: Sources) -> Framework | None:
    asked = sources.search.asked
    for platform in sources.platforms():
        found = [(_rank(asked, framework, entry), entry.key) for framework, entry in _cached(sources, platform)]
        for _, key in sorted(found, reverse=True):
            # Found by its key, it counts as used by this process.
            if entry := sources.search.cache.find(key):
                return _load(sources, entry)
    return None


def _rank(asked: NameReference, framework: Framework, entry: Entry) -> tuple[bool, bool, object, bool]:
    version = framework.version
    return version == asked.version, not is_early(version), version_key(version), _LOCKED not in entry.name


def _cached(sources: Sources, platform: Platform) -> Iterator[tuple[Framework, Entry]]:
    search = sources.search
    ending = re.compile(rf"-{re.escape(platform.key)}(-gpu)?({_LOCKED}[0-9a-f]+)?$")
    for entry in search.cache.entries():
        name, _, rest = entry.name.partition("@")
        if name != search.asked.name or not ending.search(rest) or (entry.archive and not search.use_mirrors):
            continue
        try:
            framework = _load(sources, entry)
        except FrameworkError as exc:
            search.report.warning(f"{entry.path} is left aside: {exc}")
            continue
        if (
            framework.variant in sources.cached_variants
            and search.asked.accepts(framework.version)
            and (search.pin is None or _holds(search.pin, framework))
        ):
            yield framework, entry


def _holds(pin: FrameworkPin, framework: Framework) -> bool:
    try:
        return pin.holds(framework)
    except CacheError:  # its record is damaged
        return False


def _verified(sources: Sources, cached: Framework) -> Framework:
    """Return a cached framework after comparing its files; a damaged one is got anew, from its record if it has one."""
    search = sources.search
    entry = Entry.around(cached.path)
    assert entry is not None
    exact = replace(
        search,
        asked=NameReference(cached.name, cached.version),
        repair=True,
        pin=search.pin or FrameworkPin.of_build(cached),
    )

    def obtain(directory: Path) -> Built:
        def take(source: Source) -> Built:
            try:
                return source.obtain(directory)
            except FetchError:
                shutil.rmtree(directory)
                directory.mkdir()
                raise

        return _first(Sources(exact), take)

    def tell(damage: list[Damage]) -> None:
        some = ", ".join(f"{one.path} ({one.problem})" for one in damage[:3])
        search.report.warning(f"{cached.reference} is damaged: {len(damage)} file(s), such as {some}. It is got anew.")

    return _load(
        sources,
        search.cache.ensure(entry.key, obtain, verify=True, on_damage=tell, on_wait=lambda: _tell_waiting(search)),
    )


def _load(sources: Sources, entry: Entry) -> Framework:
    """Describe a cached framework; the variant of one that does not say it itself is told by the mirror's file name."""
    recipe = sources.recipe
    default = "cpu" if recipe is not None and recipe.manifest.has_variants else None
    is_gpu = entry.name.partition(_LOCKED)[0].endswith("-gpu")
    return Framework.load(entry.path, variant="gpu" if is_gpu else default, platform=sources.search.platform)


def _tell_waiting(search: Search) -> None:
    search.report.info(f"Another process is getting the framework {search.asked}; waiting for it.")


def _not_found(search: Search, tried: list[str]) -> FrameworkNotFound:
    asked, recipes = search.asked, search.settings.framework_recipes
    known = sorted({*known_names(recipes)})
    near = [*names_with_package(asked.name, recipes), *difflib.get_close_matches(asked.name, known, n=1, cutoff=0.5)]
    missing = [str(folder) for folder in recipes if not folder.is_dir()]
    where = "in the cache, on a mirror or " if search.use_mirrors else ""
    lines = "".join(f"\n    {line}" for line in tried)
    return FrameworkNotFound(
        f"The framework {asked} was expected {where}among the recipes ({', '.join(known)}), but none has it for "
        f"{search.platform.key}. "
        + (f"The lock wants exactly the one that is {search.pin.describe()}. " if search.pin else "")
        + (f"Did you mean {near[0]}? " if near and near[0] != asked.name else "")
        + "Correct the name or version, or name a mirror ([pipcook] framework_mirror) or a folder with a recipe of it "
        "([pipcook] framework_recipes)."
        + (f" There is no folder {', '.join(missing)}." if missing else "")
        + (f" Tried:{lines}" if lines else "")
    )
