"""The chat box, as a person uses it."""

from __future__ import annotations

import re
from typing import Any

import attrs
import pytest

import ccm
from ccm.http import Settings

from ..live import in_thread
from . import bot
from .conftest import Complaints, Site
from .proxy import proxy

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


@attrs.frozen
class Box:
    """The chat box of a page."""

    page: Any

    @property
    def field(self) -> Any:
        return self.page.get_by_label("Message", exact=True)

    @property
    def log(self) -> Any:
        return self.page.get_by_role("log")

    @property
    def answers(self) -> Any:
        return self.log.locator(".said.bot .bubble-text")

    @property
    def own(self) -> Any:
        return self.log.locator(".said.own")

    @property
    def stop(self) -> Any:
        return self.page.get_by_role("button", name="Stop", exact=True)

    def ready(self) -> Box:
        expect(self.page.locator(".chat-link")).to_have_text("connected")
        return self

    def say(self, text: str) -> None:
        self.field.fill(text)
        self.field.press("Enter")


@pytest.fixture
def box(page: Any) -> Box:
    return Box(page).ready()


def test_a_message_is_answered(box: Box) -> None:
    box.say("hello")
    expect(box.answers).to_have_text(["you said: hello"])
    expect(box.log).to_contain_text("waiting")  # of its timings
    expect(box.stop).to_be_hidden()
    expect(box.page.locator("#announcer")).to_have_text("The bot says: you said: hello")


def test_a_reply_is_shown_while_it_is_written(box: Box, site: Site) -> None:
    box.say("a story please")
    expect(box.answers).to_have_text(["Once upon "])
    expect(box.log.locator(".bubble[aria-busy]")).to_have_count(1)
    expect(box.own).to_contain_text("being answered")
    site.live.do(site.bot.open)
    expect(box.answers).to_have_text(["Once upon a time."])
    expect(box.log.locator(".bubble[aria-busy]")).to_have_count(0)


def test_dots_until_something_is_written(box: Box, site: Site) -> None:
    """The second message of a conversation waits for the first."""
    box.say("a story please")
    expect(box.answers).to_have_text(["Once upon "])
    box.say("and then?")
    expect(box.log.locator(".dots")).to_have_count(1)
    expect(box.own.last).to_contain_text("waiting, 1 before it")
    site.live.do(site.bot.open)
    expect(box.answers).to_have_text(["Once upon a time.", "you said: and then?"])
    expect(box.log.locator(".dots")).to_have_count(0)


def test_a_sent_message_is_edited_while_it_is_answered(box: Box) -> None:
    box.say("please hang")
    expect(box.answers).to_have_text(["thinking about it… "])
    box.own.get_by_role("button", name="Edit this message").click()
    field = box.page.get_by_label("Edit the message")
    expect(field).to_be_focused()
    field.fill("no, just say hello")
    field.press("Enter")
    expect(box.answers).to_have_text(["you said: no, just say hello"])
    expect(box.own.locator(".bubble-text")).to_have_text("no, just say hello")
    expect(box.own).to_have_class(re.compile("edited"))


def test_a_reply_is_stopped(box: Box) -> None:
    box.say("please hang")
    expect(box.answers).to_have_text(["thinking about it… "])
    box.stop.click()
    expect(box.own).to_contain_text("Stopped.")
    expect(box.log.locator(".said.bot")).to_contain_text("stopped here")
    expect(box.stop).to_be_hidden()
    box.say("still there?")
    expect(box.answers.last).to_have_text("you said: still there?")


def test_all_of_it_by_keyboard(box: Box) -> None:
    keyboard = box.page.keyboard
    box.field.focus()
    keyboard.type("first line")
    keyboard.press("Shift+Enter")
    keyboard.type("please hang")
    keyboard.press("Enter")
    expect(box.answers).to_have_text(["thinking about it… "])
    keyboard.press("ArrowUp")
    expect(box.page.get_by_label("Edit the message")).to_have_value("first line\nplease hang")
    keyboard.press("Escape")
    expect(box.page.get_by_label("Edit the message")).to_have_count(0)
    box.field.focus()
    keyboard.press("Escape")
    expect(box.own).to_contain_text("Stopped.")


def test_what_people_write_stays_text(box: Box) -> None:
    evil = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
    box.page.get_by_label("as", exact=True).fill("<i>mallory</i>")
    box.say(evil)
    expect(box.answers).to_have_text([f"you said: {evil}"])
    box.page.get_by_role("tab", name="Conversations").click()
    box.page.locator(".pick").first.click()
    expect(box.page.locator(".entry .bubble-text").first).to_have_text(evil)
    box.page.get_by_label("Search in what was said").fill("onerror")
    box.page.keyboard.press("Enter")
    expect(box.page.locator(".snippet").first).to_contain_text("onerror")
    assert box.page.evaluate("window.hit") is None
    assert box.page.locator("main img, main i:not([aria-hidden]), .dock i:not([aria-hidden])").count() == 0
    expect(box.page.locator("h1")).to_have_text("The <b>bot</b>")


@pytest.mark.parametrize("name", ["critical", "low"])
def test_the_priority_is_a_choice(box: Box, name: str) -> None:
    box.page.get_by_label("priority", exact=True).select_option(name)
    box.say("which class?")
    expect(box.answers).to_have_text([f"handled as {name.upper()}"])


def test_a_failure_is_told_in_plain_words(box: Box) -> None:
    box.say("please fail")
    expect(box.own).to_contain_text("The bot failed to answer this.")
    expect(box.own.get_by_role("button", name="Send again")).to_be_enabled()


def test_after_a_reload_the_conversation_is_there(box: Box) -> None:
    box.say("remember me")
    expect(box.answers).to_have_text(["you said: remember me"])
    box.page.reload()
    expect(box.answers).to_have_text(["you said: remember me"])
    expect(box.own.locator(".bubble-text")).to_have_text(["remember me"])
    box.ready().say("still?")
    expect(box.answers).to_have_text(["you said: remember me", "you said: still?"])
    box.page.get_by_role("button", name="New conversation").click()
    expect(box.answers).to_have_count(0)


def test_somebody_else_is_seen_writing(box: Box, context: Any, site: Site) -> None:
    box.page.get_by_label("as", exact=True).fill("ada")
    box.say("hello")
    expect(box.answers).to_have_count(1)
    other = Box(context.new_page())
    other.page.add_init_script(
        f"sessionStorage.setItem('ccm.conversation', '{box.page.locator('.chat-name').text_content()}')"
    )
    other.page.goto(site.url)
    expect(other.answers).to_have_count(1)
    other.ready().page.get_by_label("as", exact=True).fill("bob")
    other.say("hi ada")
    expect(other.answers).to_have_count(2)
    box.field.press_sequentially("hi b")
    expect(other.page.locator(".chat-others")).to_have_text("ada is writing…")


def test_a_lost_connection_is_taken_up_where_it_was(
    browser: Any, site: Site, complaints: Complaints, context: Any
) -> None:
    complaints.allowed += ["ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "ERR_SOCKET"]
    page = context.new_page()
    complaints.watch(page)
    with proxy(site.live.port) as wire:
        page.goto(wire.url)
        box = Box(page).ready()
        box.say("a story please")
        expect(box.answers).to_have_text(["Once upon "])
        wire.cut()
        expect(page.locator(".chat-link")).not_to_have_text("connected")
        box.say("said without a connection")
        box.ready()
        expect(box.own.last).to_contain_text("waiting, 1 before it")
        expect(box.answers.first).to_have_text("Once upon ")
        site.live.do(site.bot.open)
        expect(box.answers).to_have_text(["Once upon a time.", "you said: said without a connection"])
    page.close()
    assert site.bot.seen.count("said without a connection") == 1
    assert complaints.found == []


def test_what_the_server_has_forgotten_is_sent_again(context: Any, complaints: Complaints) -> None:
    """Nothing resumes with this server: what ran is cancelled, and the page asks again with the same id."""
    complaints.allowed += ["ERR_CONNECTION", "ERR_EMPTY_RESPONSE", "ERR_SOCKET"]
    handler = bot.Bot()
    settings = Settings(rate=None, resume_window=0)
    with in_thread(handler, settings, config=ccm.Config(dedupe_window=0)) as live, proxy(live.port) as wire:
        page = context.new_page()
        complaints.watch(page)
        page.goto(wire.url)
        box = Box(page).ready()
        box.say("a story please")
        expect(box.answers).to_have_text(["Once upon "])
        wire.cut()
        box.ready()
        expect(box.answers).to_have_text(["Once upon "])  # as before the cut; so ask the bot, too
        live.call(handler.waits, 2)
        live.do(handler.open)
        expect(box.answers).to_have_text(["Once upon a time."])
    assert complaints.found == []


def test_a_refusal_names_the_time_to_wait(context: Any, complaints: Complaints) -> None:
    config = ccm.Config(rate_limit=ccm.RateLimit(1, per=30))
    with in_thread(config=config) as live:
        page = context.new_page()
        complaints.watch(page)
        page.goto(live.url)
        box = Box(page).ready()
        box.say("one")
        expect(box.answers).to_have_text(["you said: one"])
        box.say("two")
        expect(box.own.last).to_contain_text(re.compile(r"faster than is allowed.*Try again in \d+ seconds"))
        again = box.own.last.get_by_role("button", name=re.compile(r"Send again in \d+ s"))
        expect(again).to_be_disabled()
        expect(page.locator("#announcer-urgent")).to_contain_text("faster than is allowed")
    assert complaints.found == []
