"""`Router.default`: moderation and analytics beside the chat, classes from the text."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ccm import (
    CRITICAL,
    HIGH,
    LOW,
    NORMAL,
    Config,
    Message,
    Priority,
    RateLimit,
    RateLimited,
    Replied,
    Router,
    events,
)
from ccm._core.classify import SUPPORT_WORDS

from ..manager.kit import Gate, Recorder, echo, opened, say, simulated, takes

LINK = "see https://example.org"


def bot(**more: Any) -> tuple[Router, Recorder, Recorder, Recorder]:
    handlers = chat, moderation, analytics = Recorder(), Recorder(), Recorder()
    return Router.default(chat, moderation=moderation, analytics=analytics, **more), *handlers


async def classes_of(router: Router, message: Message) -> dict[str, Priority]:
    """The class of each turn that a message starts, by route."""
    async with opened(router) as manager, manager.events() as stream:
        await manager.ask(message)
        await manager.wait_idle()
        classes: dict[str, Priority] = {}
        while len(classes) < 1 + manager.statistics().side_received:
            event = await anext(stream)
            if isinstance(event, events.Accepted):
                classes[event.route] = event.priority
        return classes


# -- who gets what ------------------------------------------------------------------------------------


@simulated
async def test_a_message_has_its_turns_and_one_outcome() -> None:
    router, chat, moderation, analytics = bot()
    async with opened(router) as manager:
        assert str(await manager.ask(say("hello"))) == "re: hello"
        assert str(await manager.ask(say(LINK))) == f"re: {LINK}"
        await manager.wait_idle()
        statistics = manager.statistics()
    assert chat.texts == sorted(analytics.texts) == ["hello", LINK]
    assert moderation.texts == [LINK]
    assert statistics.conservation() == "2 received = 2 replied"
    assert (statistics.side_received, statistics.side_outcomes["replied"]) == (3, 3)
    assert {name: route.outcomes["replied"] for name, route in statistics.routes.items()} == {
        "moderation": 1,
        "chat": 2,
        "analytics": 2,
    }


@pytest.mark.parametrize(
    ("text", "priority"),
    [
        ("nice weather", NORMAL),
        ("@ada look", HIGH),
        ("what is this?", HIGH),
        *((f"this is an {word.upper()}!", HIGH) for word in SUPPORT_WORDS),
        ("helpless", NORMAL),
        (LINK, NORMAL),
        ("discord.gg/abc", NORMAL),
        ("help, https://example.org", HIGH),
    ],
)
@simulated
async def test_the_classes_of_the_turns(text: str, priority: Priority) -> None:
    classes = await classes_of(bot()[0], say(text))
    moderated = {"moderation": CRITICAL} if "http" in text or "discord.gg" in text else {}
    assert classes == {"chat": priority, "analytics": LOW} | moderated


@simulated
async def test_what_a_message_says_of_itself_changes_its_answer_only() -> None:
    for own in (CRITICAL, LOW):
        classes = await classes_of(bot()[0], say(LINK, priority=own))
        assert classes == {"moderation": CRITICAL, "chat": own, "analytics": LOW}


# -- beside everything else --------------------------------------------------------------------------


@simulated
async def test_moderation_does_not_wait_for_slow_answers() -> None:
    gate, moderation = Gate(), Recorder()
    router = Router.default(gate, moderation=moderation)
    async with opened(router) as manager:
        for number in range(100):
            await manager.submit(say("a long story", f"c{number}", f"user {number}"))
        assert manager.statistics().waiting
        await trio.sleep(1)
        await manager.submit(say(LINK, "c7", "spammer"))  # its conversation is busy
        await trio.testing.wait_all_tasks_blocked()
        assert moderation.starts == [(1, LINK)]
        gate.open()


@simulated
async def test_a_flood_does_not_pass_by_moderation() -> None:
    """Trap 18."""
    router, chat, moderation, analytics = bot()
    async with opened(router, rate_limit=RateLimit(3, per=10)) as manager:
        for number in range(10):
            if number < 3:
                await manager.submit(say(f"{LINK}/{number}"))
            else:
                with pytest.raises(RateLimited):
                    await manager.submit(say(f"{LINK}/{number}"))
        await manager.wait_idle()
    assert sorted(moderation.texts) == [f"{LINK}/{number}" for number in range(10)]
    assert chat.texts == sorted(analytics.texts) == [f"{LINK}/{number}" for number in range(3)]


@simulated
async def test_analytics_gives_way() -> None:
    analytics = Recorder(takes(1))
    router = Router.default(takes(1), analytics=analytics)
    async with opened(router, limit=1) as manager:
        receipts = [await manager.submit(say(f"{number}", f"c{number}")) for number in range(3)]
        for receipt in receipts:
            assert isinstance(await receipt.outcome(), Replied)
        assert trio.current_time() == 3
        await manager.wait_idle()
    assert [begun for begun, _ in analytics.starts] == [3, 4, 5]


@simulated
async def test_a_side_handler_that_fails_harms_no_answer() -> None:
    async def broken(turn: Any) -> str:
        raise ZeroDivisionError

    async with opened(Router.default(echo, moderation=broken, analytics=broken)) as manager:
        assert str(await manager.ask(say(LINK))) == f"re: {LINK}"
        await manager.wait_idle()
        assert manager.statistics().side_outcomes["failed"] == 2


# -- settings ----------------------------------------------------------------------------------------


def names(router: Router) -> list[str]:
    return [route.name for route in router.routes(Config())]


def test_routes_without_a_handler_are_left_out_and_others_may_be_added() -> None:
    router = Router.default(echo)
    assert names(router) == ["chat"]
    router.route("audit", answers=False)(echo)
    assert names(router) == ["chat", "audit"]
    assert names(Router.default(echo, analytics=echo)) == ["chat", "analytics"]
    assert names(Router.default(echo, moderation=echo)) == ["moderation", "chat"]


@given(st.text(max_size=30))
def test_only_moderation_is_critical(text: str) -> None:
    router = Router.default(echo, moderation=echo, analytics=echo)
    for route in router.routes(Config()):
        priority = route.priority_of(say(text + LINK + text), lambda conversation: None)
        assert (priority is CRITICAL) == (route.name == "moderation")


@simulated
async def test_own_violations_and_words() -> None:
    router, _, moderation, _ = bot(violations=["spam$", "^ham"], keywords=["refund"])
    async with opened(router) as manager:
        for text in ("this is SPAM", "ham and eggs", "a spammer", LINK):
            await manager.ask(say(text))
    assert moderation.texts == ["this is SPAM", "ham and eggs"]
    chat_route = next(route for route in router.routes(Config()) if route.name == "chat")
    urgency = {text: chat_route.priority_of(say(text), lambda _: None) for text in ("Refund!", "help")}
    assert urgency == {"Refund!": HIGH, "help": NORMAL}


@simulated
async def test_the_fallback_answers_for_chat() -> None:
    async def broken(turn: Any) -> str:
        raise ZeroDivisionError

    async with opened(Router.default(broken, fallback=echo)) as manager:
        assert str(await manager.ask(say("hello"))) == "re: hello"


@pytest.mark.parametrize("place", ["chat", "moderation", "analytics", "fallback"])
def test_handlers_must_be_async(place: str) -> None:
    with pytest.raises(TypeError, match="async function"):
        Router.default(**({"chat": echo} | {place: print}))  # type: ignore[arg-type]


def test_violations_that_find_nothing_or_cannot_be_read() -> None:
    with pytest.raises(ValueError, match="violations must not be empty"):
        Router.default(echo, moderation=echo, violations=[])
    with pytest.raises(re.error):
        Router.default(echo, moderation=echo, violations=["("])
