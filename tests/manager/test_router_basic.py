"""Routes: which handlers a message reaches, and what its outcome is then."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import trio

from ccm import (
    CRITICAL,
    HIGH,
    LOW,
    NORMAL,
    Config,
    ConfigError,
    HandlerFailed,
    Message,
    NoRoute,
    Priority,
    RateLimit,
    RateLimited,
    Reason,
    Replied,
    RetryPolicy,
    Router,
    Turn,
    by_content,
    matches,
)
from ccm import _events as events

from .kit import Gate, Recorder, echo, opened, say, simulated, takes


def starts_with(prefix: str) -> Callable[[Message], bool]:
    return lambda message: message.text.startswith(prefix)


@simulated
async def test_the_first_answering_route_that_matches_answers() -> None:
    router = Router()
    one, two, rest = Recorder(), Recorder(), Recorder()
    router.route("one", when=starts_with("1"))(one)
    router.route("two", when=starts_with(("1", "2")))(two)  # type: ignore[arg-type]
    router.route("rest")(rest)
    async with opened(router) as manager:
        for text in ("1", "2", "3"):
            await manager.ask(say(text))
    assert (one.texts, two.texts, rest.texts) == (["1"], ["2"], ["3"])


@simulated
async def test_side_routes_run_besides_and_do_not_change_the_outcome() -> None:
    router = Router()
    analytics = Recorder(takes(5))

    @router.route("broken", answers=False, ordered=False, retry=RetryPolicy(attempts=1))
    async def broken(turn: Turn) -> str:
        raise ValueError

    router.route("analytics", answers=False, ordered=False, priority=LOW)(analytics)
    router.route("chat")(takes(1))
    async with opened(router) as manager:
        assert str(await manager.ask(say())) == "re: hello"
        assert trio.current_time() == 1
        await manager.wait_idle()
        assert trio.current_time() == 5
        statistics = manager.statistics()
        assert (statistics.received, statistics.outcomes["replied"]) == (1, 1)
        assert statistics.side_received == 2
        assert (statistics.side_outcomes["replied"], statistics.side_outcomes["failed"]) == (1, 1)
    assert analytics.texts == ["hello"]


@simulated
async def test_the_replies_of_side_routes_go_to_nobody() -> None:
    got: list[str] = []

    async def deliver(reply: object, message: object) -> None:
        got.append(str(reply))

    router = Router()
    router.route("analytics", answers=False, ordered=False)(Recorder())
    router.route("chat")(echo)
    async with opened(router, deliver=deliver) as manager:
        await manager.submit(say())
    assert got == ["re: hello"]


@simulated
async def test_no_matching_route_is_a_rejection() -> None:
    router = Router()
    router.route("sums", when=starts_with("1"))(echo)
    async with opened(router) as manager:
        with pytest.raises(NoRoute) as caught:
            await manager.ask(say("hello"))
        assert caught.value.reason is Reason.NO_ROUTE
        assert manager.statistics().rejected == {"no_route": 1}
        assert manager.session("c") is None
        assert str(await manager.ask(say("1+1"))) == "re: 1+1"


@simulated
async def test_a_message_that_only_side_routes_match_has_the_outcome_of_the_first() -> None:
    router = Router()
    router.route("audit", answers=False)(takes(2))
    router.route("sums", when=starts_with("1"))(echo)
    async with opened(router) as manager:
        receipt = await manager.submit(say("hello"))
        assert isinstance(await receipt.outcome(), Replied)
        assert trio.current_time() == 2


@simulated
async def test_a_spammer_cannot_escape_moderation_by_hitting_the_rate_limit() -> None:
    """Trap 18."""
    router = Router()
    moderation = Recorder()
    beside: dict[str, Any] = {"ordered": False, "answers": False, "rate_limited": False}
    router.route("moderation", when=matches(r"https?://"), priority=CRITICAL, **beside)(moderation)
    router.route("chat")(echo)
    async with opened(router, rate_limit=RateLimit(2, per=10)) as manager:
        for n in range(2):
            await manager.submit(say(f"https://spam.example/{n}", f"{n}"))
        for n in range(2, 10):
            with pytest.raises(RateLimited):
                await manager.submit(say(f"https://spam.example/{n}", f"{n}"))
        await manager.wait_idle()
        statistics = manager.statistics()
        statistics.check()
        assert statistics.conservation() == "10 received = 2 replied + 8 rejected"
        assert statistics.side_received == 10
    assert sorted(moderation.texts) == [f"https://spam.example/{n}" for n in range(10)]


@simulated
async def test_moderation_of_a_full_conversation_still_counts_its_refusals() -> None:
    gate = Gate()
    router = Router()
    router.route("audit", answers=False)(gate)
    router.route("chat")(gate)
    async with opened(router, conversation_limit=2, limit=1) as manager:
        await manager.submit(say("one"))  # chat runs, audit waits
        await manager.submit(say("two"))  # chat waits; its audit finds no room
        statistics = manager.statistics()
        assert (statistics.side_received, statistics.side_outcomes["rejected"]) == (2, 1)
        statistics.check()
        gate.open()


@simulated
async def test_unordered_turns_of_one_conversation_overlap() -> None:
    router = Router()
    handler = Recorder(takes(1))
    router.route("chat", ordered=False)(handler)
    async with opened(router) as manager:
        for n in range(5):
            await manager.submit(say(f"{n}"))
        await manager.wait_idle()
        assert trio.current_time() == 1
    assert handler.peak == 5


@simulated
async def test_ordered_turns_of_different_routes_share_the_conversations_order() -> None:
    router = Router()
    handler = Recorder(takes(1))
    router.route("sums", when=starts_with("1"))(handler)
    router.route("chat")(handler)
    async with opened(router) as manager:
        for text in ("a", "1+1", "b"):
            await manager.submit(say(text))
        await manager.wait_idle()
    assert handler.starts == [(0, "a"), (1, "1+1"), (2, "b")]
    assert handler.peak == 1


@simulated
async def test_a_route_knows_its_own_timeout_and_retries() -> None:
    router = Router()
    router.route("quick", when=starts_with("q"), timeout=2, retry=RetryPolicy(attempts=1))(takes(50))
    router.route("chat")(takes(5))
    async with opened(router, timeout=10) as manager:
        with pytest.raises(HandlerFailed):
            await manager.ask(say("quick"))
        assert trio.current_time() == 2
        await manager.ask(say("hello"))
        assert trio.current_time() == 7


@simulated
async def test_the_route_decides_the_class_unless_the_message_says_so() -> None:
    seen: list[tuple[str, str]] = []
    router = Router()

    def rule(message: Message, session: Any) -> Priority:
        return HIGH if message.text.endswith("!") else LOW

    router.route("chat", priority=rule)(echo)
    async with opened(router) as manager, manager.events() as stream:
        for message in (say("hey!", "a"), say("hm", "b"), say("hm", "d", priority=CRITICAL)):
            await manager.ask(message)
        async for event in stream:
            if isinstance(event, events.Accepted):
                seen.append((event.conversation, event.priority.name))
                if len(seen) == 3:
                    break
    assert seen == [("a", "HIGH"), ("b", "LOW"), ("d", "CRITICAL")]


@simulated
async def test_the_turn_knows_its_route() -> None:
    routes: list[str] = []

    async def handler(turn: Turn) -> str:
        routes.append(turn.route)
        return ""

    router = Router()
    router.route("sums", when=starts_with("1"))(handler)
    router.route("chat")(handler)
    async with opened(router) as manager:
        await manager.ask(say("1"))
        await manager.ask(say("2"))
    assert routes == ["sums", "chat"]


@simulated
async def test_a_rule_that_raises_is_told_to_the_sender_and_changes_nothing() -> None:
    router = Router()

    def rule(message: Message) -> bool:
        raise ZeroDivisionError("in the rule")

    router.route("strange", when=rule)(echo)
    async with opened(router) as manager:
        with pytest.raises(ZeroDivisionError, match="in the rule"):
            await manager.submit(say(id="m1"))
        assert manager.statistics().received == 0
        assert manager.session("c") is None


@pytest.mark.parametrize("answers", [True, False], ids=["answering route", "side route"])
@simulated
async def test_a_priority_that_is_none_is_told_to_the_sender_and_changes_nothing(answers: bool) -> None:
    router = Router()
    bad = [True]

    def rule(message: Message, session: Any) -> Priority:
        return "HIGH" if bad else HIGH  # type: ignore[return-value]

    router.route("strange", priority=rule, answers=answers, ordered=False)(echo)
    router.route("chat")(echo)
    async with opened(router) as manager:
        with pytest.raises(TypeError, match=r"priority must be .*'HIGH'"):
            await manager.submit(say(id="m1"))
        statistics = manager.statistics()
        assert (statistics.received, statistics.side_received) == (0, 0)
        assert manager.session("c") is None
        bad.clear()
        assert str(await manager.ask(say(id="m1"))) == "re: hello"


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"name": 5}, TypeError, "name must be a str, got 5"),
        ({"name": "taken"}, ValueError, "name 'taken' is taken"),
        ({"timeout": 0}, ConfigError, "timeout must be .*got 0"),
        ({"timeout": "5"}, ConfigError, "timeout must be .*got '5'"),
        ({"timeout": float("nan")}, ConfigError, "timeout must be .*got nan"),
        ({"max_wait": -1}, ConfigError, "max_wait must be .*got -1"),
        ({"priority": 7}, ValueError, "priority must be .*got 7"),
        ({"priority": "HIGH"}, TypeError, "priority must be .*got 'HIGH'"),
        ({"retry": 3}, (TypeError, ValueError), "retry must be .*got 3"),
        ({"when": "hello"}, TypeError, "when must be .*got 'hello'"),
        ({"when": echo}, TypeError, "when must be a plain function"),
        ({"fallback": print}, TypeError, "fallback must be an async function"),
    ],
)
def test_wrong_settings_of_a_route_are_refused(
    settings: dict[str, Any], error: type[Exception], text: str
) -> None:
    router = Router()
    router.route("taken")(echo)
    with pytest.raises(error, match=text):
        router.route(**{"name": "new", **settings})(echo)
    assert [route.name for route in router.routes(Config())] == ["taken"]


def test_a_handler_of_a_route_must_be_async() -> None:
    router = Router()
    with pytest.raises(TypeError, match="handler of route 'chat' must be an async function"):
        router.route("chat")(lambda turn: "hello")  # type: ignore[type-var]
    assert router.routes(Config()) == ()


@simulated
async def test_handlers_may_be_methods_objects_and_partials() -> None:
    class Bot:
        async def method(self, turn: Turn) -> str:
            return f"method {turn.text}"

        async def __call__(self, turn: Turn) -> str:
            return f"object {turn.text}"

    async def two(greeting: str, turn: Turn) -> str:
        return f"{greeting} {turn.text}"

    router = Router()
    router.route("m", when=starts_with("m"))(Bot().method)
    router.route("o", when=starts_with("o"))(Bot())
    router.route("p", when=starts_with("p"))(functools.partial(two, "partial"))
    async with opened(router) as manager:
        replies = [str(await manager.ask(say(text))) for text in "mop"]
    assert replies == ["method m", "object o", "partial p"]


def test_the_decorator_returns_the_handler_as_it_was() -> None:
    assert Router().route("chat")(echo) is echo


@pytest.mark.parametrize(
    ("text", "priority"),
    [
        ("hello there", NORMAL),
        ("what is this?", HIGH),
        ("@ada look", HIGH),
        ("mail ada@example.org", NORMAL),
        ("I have a PROBLEM", HIGH),
        ("helpless", NORMAL),
        ("join discord.gg/abc", CRITICAL),
        ("see https://example.org", CRITICAL),
        ("help, https://example.org ?", CRITICAL),
    ],
)
def test_the_default_classes_by_content(text: str, priority: Priority) -> None:
    assert by_content()(say(text), None) is priority


def test_classes_by_content_can_be_changed() -> None:
    rule = by_content(violation=None, question=None, keywords=["refund"], keyword=CRITICAL, default=LOW)
    found = [rule(say(text), None) for text in ("see https://x.org", "why?", "Refund please", "help")]
    assert found == [LOW, LOW, CRITICAL, LOW]
    assert rule(say("hi", metadata={"mention": True}), None) is HIGH


@simulated
async def test_a_side_turn_of_a_refused_message_expires_at_its_time() -> None:
    router = Router()
    router.route("audit", answers=False, ordered=False, rate_limited=False, max_wait=2)(echo)
    router.route("chat")(takes(20))
    rate = RateLimit(1, per=100)
    async with opened(router, limit=1, rate_limit=rate, drain=100) as manager:
        await manager.submit(say("runs", "a", "grace"))
        await manager.submit(say("waits", "b"))
        await trio.sleep(3)
        assert manager.statistics().side_outcomes["expired"] == 2
        with pytest.raises(RateLimited):
            await manager.submit(say("is refused", "d"))
        await trio.sleep(2.5)
        assert manager.statistics().side_outcomes["expired"] == 3
