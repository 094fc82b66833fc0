"""A browser, a bot behind a front end, and a page that must not complain."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from ccm.http import Settings

from ..live import Live, in_thread
from . import bot

sync_api = pytest.importorskip("playwright.sync_api")

SHOTS = Path(__file__).parents[3] / "build" / "screenshots"
PATIENCE = 8000  # milliseconds for what a page must show
VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(event.violatedDirective);
});
"""


@attrs.define
class Site:
    """A front end with its bot."""

    live: Live
    bot: bot.Bot

    @property
    def url(self) -> str:
        return self.live.url.rstrip("/")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for a module."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no chromium here")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A front end whose conversations are kept, with a service and alerts."""
    handler = bot.Bot()
    path = tmp_path_factory.mktemp("site") / "bot.db"
    with in_thread(
        handler, Settings(rate=None, title="The <b>bot</b>"), config=bot.config(), storage=path,
        alerts=bot.alerts(),
    ) as live:  # fmt: skip
        live.do(lambda: live.manager.service("memory", bot.remember))
        yield Site(live, handler)


@attrs.define
class Complaints:
    """What a page has complained about; `allowed` are texts that a test expects."""

    found: list[str] = attrs.field(factory=list)
    allowed: list[str] = attrs.field(factory=list)

    def watch(self, page: Any) -> None:
        page.on("console", lambda m: self._note(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self._note(str(error)))

    def _note(self, text: str) -> None:
        if not any(part in text for part in self.allowed):
            self.found.append(text)


@pytest.fixture
def complaints() -> Complaints:
    """Of the page of this test."""
    return Complaints()


def new_context(browser: Any, **options: Any) -> Any:
    """A fresh profile, which notes what its pages' policy forbids."""
    found = browser.new_context(**{"viewport": {"width": 1500, "height": 950}} | options)
    found.set_default_timeout(PATIENCE)
    found.add_init_script(VIOLATIONS)
    return found


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[Any]:
    """One profile for a module; what it remembers is wiped after each test that has a `page`."""
    found = new_context(browser)
    yield found
    found.close()


@pytest.fixture
def page(context: Any, site: Site, complaints: Complaints) -> Iterator[Any]:
    """The dashboard, open; at the end of the test it must have had nothing to complain about."""
    page = context.new_page()
    complaints.watch(page)
    page.goto(site.url)
    yield page
    assert page.evaluate("window.violations") == []
    page.evaluate("localStorage.clear()")
    page.close()
    assert complaints.found == []


def shoot(page: Any, name: str) -> None:
    """Keep a picture of the page for whoever looks at the results."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png")
