"""A headless Chromium for tests of web pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from tools.programs import CHROMIUM

needs_browser = pytest.mark.skipif(
    CHROMIUM.find() is None,
    reason=CHROMIUM.remedy,
)


class Browser:
    """A running browser.

    :param pictures: the folder for pictures of pages with which a test failed.
    """

    def __init__(self, context: BrowserContext, pictures: Path) -> None:
        self._context = context
        self._pictures = pictures

    def log_in(self, url: str) -> None:
        """Open a page that leaves a cookie, which all later pages have."""
        assert self._context.request.get(url).ok

    @contextmanager
    def page(self, url: str) -> Iterator[Page]:
        """Open a page; if what is done with it fails, the error tells where a picture of it is."""
        page = self._context.new_page()
        try:
            page.goto(url)
            yield page
        except BaseException as exc:
            picture = self._pictures / f"{len(list(self._pictures.iterdir()))}.png"
            page.screenshot(path=picture)
            exc.add_note(f"What {page.url} looked like: {picture}")
            raise
        finally:
            page.close()


@contextmanager
def running_browser(pictures: Path) -> Iterator[Browser]:
    """Run a browser."""
    # A machine with two busy cores takes longer than the five seconds that playwright gives an expectation.
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        # No proxy stands between this machine and itself.
        browser = playwright.chromium.launch(executable_path=CHROMIUM.find(), args=["--no-proxy-server"])
        try:
            context = browser.new_context(viewport={"width": 1300, "height": 1200}, locale="en-US")
            yield Browser(context, pictures)
        finally:
            browser.close()
