"""What the dashboard shows of a manager, and what an operator does with it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio

import ccm

from .conftest import Site, shoot

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


async def ask(manager: ccm.ConversationManager, text: str, conversation: str, user: str = "ada") -> None:
    with trio.move_on_after(5):
        try:
            await manager.ask(ccm.Message(conversation, user, text, channel="test"))
        except ccm.CcmError:
            return


def tell(site: Site, text: str, conversation: str, user: str = "ada") -> None:
    """Hand a message in, not through the page, and wait for what becomes of it."""
    site.live.call(ask, site.live.manager, text, conversation, user)


def open_tab(page: Any, name: str) -> Any:
    page.get_by_role("tab", name=name).click()
    return page.get_by_role("tabpanel", name=name)


def test_the_plots_move_and_can_be_read(page: Any, site: Site) -> None:
    throughput = page.get_by_role("img", name=re.compile("^Throughput"))
    expect(throughput.locator("canvas")).to_be_visible()
    ink = "canvas => canvas.toDataURL()"
    before = throughput.locator("canvas").evaluate(ink)
    for number in range(5):
        tell(site, "hello", f"plot-{number}", f"user-{number}")
    page.wait_for_function(f"([canvas, before]) => ({ink})(canvas) !== before", arg=[
        throughput.locator("canvas").element_handle(), before])  # fmt: skip
    tile = page.get_by_role("group", name="Throughput", exact=True)
    expect(tile).to_contain_text(re.compile(r"[1-9]\d* answered"))
    page.get_by_role("button", name="Throughput: show as a table").click()
    table = page.get_by_role("region", name="Throughput, as a table")
    expect(table.get_by_role("columnheader", name="replied")).to_be_visible()
    expect(table.get_by_role("cell", name=re.compile(r"^[1-9]")).first).to_be_visible()
    expect(page.get_by_role("group", name="Waiting before the start")).to_contain_text("NORMAL")
    page.get_by_role("button", name="24 h").click()
    expect(page.get_by_role("button", name="24 h")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="p50").click()
    page.get_by_title("Show or hide merged").click()
    expect(page.get_by_title("Show or hide merged")).to_have_attribute("aria-pressed", "false")


def test_conversations_are_found_and_read(page: Any, site: Site) -> None:
    for number in range(45):
        tell(site, f"page {number}", "long", f"reader-{number % 5}")
    tell(site, "where is the zanzibar parcel?", "parcel", "zoe")
    panel = open_tab(page, "Conversations")
    panel.get_by_label("Search in what was said").fill("zanzibar")
    panel.get_by_role("button", name="Search").click()
    hit = panel.locator(".pick")
    expect(hit.locator("mark").first).to_have_text("zanzibar")
    hit.first.click()
    expect(panel.get_by_role("heading", name="parcel")).to_be_focused()
    expect(panel.locator(".entry.bot").first).to_contain_text("you said: where is the zanzibar parcel?")
    panel.get_by_label("Search in what was said").fill("")
    panel.get_by_label("user").fill("reader-3")
    panel.get_by_role("button", name="Search").click()
    expect(hit).to_have_count(1)
    hit.click()
    expect(panel.locator(".entry")).to_have_count(40)
    expect(panel.locator(".entry").last).to_contain_text("you said: page 44")
    panel.get_by_role("button", name="Older messages").click()
    expect(panel.locator(".entry")).to_have_count(80)
    panel.get_by_role("button", name="Older messages").click()
    expect(panel.locator(".entry")).to_have_count(90)
    expect(panel.locator(".entry").first).to_contain_text("page 0")
    expect(panel.get_by_role("button", name="Older messages")).to_be_hidden()


def test_a_conversation_is_moved_handed_off_and_paused(page: Any, site: Site) -> None:
    tell(site, "I want to talk to a human", "handled")
    page.goto(f"{site.url}/#conversations/handled")
    panel = page.get_by_role("tabpanel", name="Conversations")
    panel.get_by_label("stage").fill("lead")
    panel.get_by_role("button", name="Set").click()
    expect(panel.locator(".detail-title .tag")).to_have_text(["lead"])
    panel.get_by_label("in charge").fill("grace")
    panel.get_by_role("button", name="Hand off").click()
    expect(panel.locator(".entry.event").last).to_contain_text("handed off to grace")
    panel.get_by_role("button", name="Pause the bot").click()
    expect(panel.locator(".detail-title")).to_contain_text("paused")
    tell(site, "anybody there?", "handled")
    expect(panel.locator(".entry.user").last).to_contain_text("anybody there?")
    panel.get_by_role("button", name="Let the bot answer").click()
    expect(panel.locator(".entry.event").last).to_contain_text("let the bot answer again")
    panel.get_by_role("button", name="Stop").click()
    expect(page.locator(".toast").last).to_have_text("There was nothing to stop.")
    panel.get_by_role("button", name="Chat", exact=True).click()
    expect(page.locator(".chat-name")).to_have_text("handled")
    panel.get_by_role("button", name="Forget").click()
    page.get_by_role("button", name="Cancel").click()
    panel.get_by_role("button", name="Forget").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    expect(page.locator(".toast").last).to_have_text("Forgotten.")


def test_dead_letters_raise_an_alert_and_are_replayed_or_thrown_away(page: Any, site: Site) -> None:
    site.bot.broken = True
    tell(site, "please fail <b>once</b>", "letters", "lena")
    tell(site, "please fail twice", "letters", "lena")
    tab = page.get_by_role("tab", name="Dead letters")
    expect(tab).to_contain_text("2")
    panel = open_tab(page, "Dead letters")
    letters = panel.locator(".letter")
    expect(letters).to_have_count(2)
    expect(letters.last).to_contain_text("please fail <b>once</b>")
    expect(letters.first).to_contain_text("the model is gone")
    shoot(page, "dead-letters")
    chip = page.get_by_role("button", name="1 alert")
    expect(chip).to_be_visible()
    site.bot.broken = False
    letters.last.get_by_role("button", name=re.compile("Replay letter")).click()
    expect(letters).to_have_count(1)
    letters.get_by_role("button", name=re.compile("Read the conversation")).click()
    conversations = page.get_by_role("tabpanel", name="Conversations")
    expect(conversations.locator(".entry.bot")).to_contain_text("you said: please fail <b>once</b>")
    chip.click()
    alerts = page.get_by_role("tabpanel", name="Alerts")
    expect(alerts.locator(".alert")).to_contain_text("Dead letters")
    open_tab(page, "Dead letters")
    letters.get_by_role("button", name=re.compile("Discard letter")).click()
    page.get_by_role("dialog").get_by_role("button", name="Discard").click()
    expect(panel.locator(".empty")).to_contain_text("There are none.")
    expect(chip).to_be_hidden()
    expect(page.locator("#announcer")).to_have_text("Alert ended: Dead letters.")


def test_events_services_and_settings(page: Any, site: Site) -> None:
    panel = open_tab(page, "Alerts")
    expect(panel.locator(".event-log .hint")).to_have_text("")
    tell(site, "hello", "events", "eve")
    expect(panel.locator(".event-line").first).to_contain_text("Ended")
    expect(panel.locator(".event-line").first).to_contain_text("outcome replied")
    panel = open_tab(page, "Services")
    expect(panel.locator(".service")).to_contain_text("memory")
    expect(panel.get_by_role("img", name="queue 0 % full")).to_be_visible()
    panel = open_tab(page, "Settings")
    expect(panel.get_by_text("queue_limit")).to_be_visible()
    panel.get_by_label("find").fill("resume_window")
    expect(panel.locator(".fact:visible")).to_have_text([re.compile("resume_window")])
