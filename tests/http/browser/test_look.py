"""How the dashboard looks and can be used: themes, small screens, keyboard, screen readers, keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ccm.http import Keys, Settings

from ..live import in_thread
from .conftest import Complaints, Site, new_context, shoot

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

TABS = ["Live", "Chat", "Conversations", "Dead letters", "Alerts", "Services", "Settings"]
NAMELESS = """
() => [...document.querySelectorAll("button, input, select, textarea, [role=img], [role=region], dialog")]
  .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length
    || document.getElementById(one.getAttribute("aria-labelledby"))))
  .map((one) => one.outerHTML)
"""
# Text that is hard to read: its colour, and the first opaque colour behind it, by the formula of WCAG 2.
FAINT = """
() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => {
    const line = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = rgb.map((v) => line(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(at).backgroundColor);
      if (a === 1 && !getComputedStyle(at).backgroundColor.startsWith("color")) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
    const shown = node.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    if (!own || !shown || node.closest(".sr-only, :disabled, .bar, .idle, .tab-text")) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color).slice(0, 3)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${node.className} ${node.textContent.slice(0, 30)}`);
  }
  return found;
}
"""


def background(page: Any) -> int:
    """How light the page is, 0 to 765."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_small_screen_has_room_for_all(
    browser: Any, site: Site, complaints: Complaints, scheme: str
) -> None:
    """At 360 pixels nothing scrolls sideways, everything has a name, and text can be read."""
    context = new_context(
        browser, viewport={"width": 360, "height": 740}, color_scheme=scheme, reduced_motion="reduce",
        has_touch=True,
    )  # fmt: skip
    page = context.new_page()
    complaints.watch(page)
    page.goto(site.url)
    assert (background(page) < 200) == (scheme == "dark")
    for name in TABS:
        tab = page.get_by_role("tab", name=re.compile(f"^{name}"))
        tab.tap()
        expect(tab).to_have_attribute("aria-selected", "true")
        panel = page.get_by_role("tabpanel", name=re.compile(f"^{name}"))
        expect(panel).to_be_visible()
        expect(page.get_by_role("tabpanel")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") == 360, name
        assert page.evaluate(NAMELESS) == [], name
        assert page.evaluate(FAINT) == [], name
        shoot(page, f"small-{scheme}-{name.lower().replace(' ', '-')}")
    page.get_by_role("tab", name="Chat").tap()
    page.get_by_label("Message", exact=True).fill("hello from a phone")
    page.get_by_role("button", name="Send").tap()
    expect(page.get_by_role("log")).to_contain_text("you said: hello from a phone")
    page.get_by_role("tab", name="Conversations").tap()
    page.locator(".pick").first.tap()
    expect(page.locator(".split-list")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.get_by_role("button", name="Back to the list").tap()
    expect(page.locator(".split-list")).to_be_visible()
    assert page.evaluate("window.violations") == []
    context.close()
    assert complaints.found == []


def test_the_theme_is_chosen_and_remembered(page: Any, site: Site) -> None:
    button = page.get_by_role("button", name=re.compile("^Theme"))
    assert background(page) > 600  # as the system has it
    shoot(page, "live-light")
    button.click()
    expect(button).to_have_accessible_name("Theme: light. Change")
    button.click()
    expect(button).to_have_accessible_name("Theme: dark. Change")
    assert background(page) < 200
    page.reload()
    assert background(page) < 200
    assert page.evaluate(FAINT) == []
    shoot(page, "live-dark")
    button.click()
    assert background(page) > 600


def test_sections_are_reached_by_keyboard(page: Any) -> None:
    keyboard = page.keyboard
    keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.get_by_role("tab", name="Live").focus()
    keyboard.press("ArrowDown")
    expect(page.get_by_role("tab", name="Conversations")).to_be_focused()
    expect(page.get_by_role("tabpanel", name="Conversations")).to_be_visible()
    keyboard.press("End")
    expect(page.get_by_role("tab", name="Settings")).to_be_focused()
    keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Live")).to_be_focused()
    keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('[role=tabpanel]') !== null")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    for role in ("banner", "main", "navigation", "complementary"):
        expect(page.get_by_role(role)).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)


def test_without_a_key_one_is_asked_for(browser: Any, complaints: Complaints) -> None:
    complaints.allowed += ["401", "WebSocket connection"]
    secret, key = Keys.make("operator", ["admin"])
    context = new_context(browser)
    with in_thread(settings=Settings(rate=None, keys=Keys([key]))) as live:
        page = context.new_page()
        complaints.watch(page)
        page.goto(live.url)
        dialog = page.get_by_role("dialog", name="This service needs a key")
        expect(dialog.get_by_label("Key")).to_be_focused()
        dialog.get_by_label("Key").fill("wrong")
        page.keyboard.press("Enter")
        expect(dialog.get_by_role("alert")).to_have_text("That key was not accepted.")
        dialog.get_by_label("Key").fill(secret)
        dialog.get_by_role("button", name="Continue").click()
        expect(dialog).to_have_count(0)
        expect(page.locator("#health")).to_have_text("ready")
        expect(page.locator(".chat-link")).to_have_text("connected")
        page.get_by_label("Message", exact=True).fill("hello")
        page.keyboard.press("Enter")
        expect(page.get_by_role("log")).to_contain_text("you said: hello")
        page.get_by_role("tab", name="Settings").click()
        page.get_by_role("button", name="Forget the key").click()
        expect(dialog).to_be_visible()
        assert secret not in page.content()
    context.close()
    assert complaints.found == []


def test_a_key_of_one_tenant_chats_and_reads_but_sees_no_figures(
    browser: Any, complaints: Complaints, tmp_path: Path
) -> None:
    complaints.allowed += ["403"]
    secret, key = Keys.make("shop", ["chat", "read"], "shop")
    context = new_context(browser)
    context.add_init_script(f"sessionStorage.setItem('ccm.key', {secret!r})")
    settings = Settings(rate=None, keys=Keys([key]))
    with in_thread(settings=settings, storage=tmp_path / "bot.db") as live:
        page = context.new_page()
        complaints.watch(page)
        page.goto(live.url)
        expect(page.locator("#health")).to_have_text("figures are not for this key")
        page.get_by_label("Message", exact=True).fill("hello")
        page.keyboard.press("Enter")
        expect(page.get_by_role("log")).to_contain_text("you said: hello")
        page.get_by_role("tab", name="Conversations").click()
        page.locator(".pick").click()
        expect(page.locator(".entry.bot")).to_contain_text("you said: hello")
    context.close()
    assert complaints.found == []


def test_a_server_that_goes_away_is_told(browser: Any, complaints: Complaints) -> None:
    complaints.allowed += ["ERR_CONNECTION", "Failed to fetch", "WebSocket"]
    context = new_context(browser)
    with in_thread(settings=Settings(rate=None)) as live:
        page = context.new_page()
        complaints.watch(page)
        page.goto(live.url)
        expect(page.locator("#health")).to_have_text("ready")
        panel = page.get_by_role("tab", name="Conversations")
        panel.click()
        expect(page.get_by_role("tabpanel")).to_contain_text("Conversations are not kept")
    expect(page.locator("#health")).to_have_text("no connection; trying again")
    expect(page.locator(".chat-link")).to_have_text(re.compile("trying again|connecting"))
    context.close()
    assert complaints.found == []
