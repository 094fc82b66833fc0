"""Typed uses of the public API: checked by `mypy --strict`, never run.

Each `assert_type` states what a user's type checker must see; a line with `type: ignore[code]` states
what it must refuse, since an ignore that is not needed is an error too.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, assert_type

import trio

import ccm
from ccm import Message, Priority, Reply, Turn
from ccm.testing import FakeModel, lognormal, simulate, traffic


async def reply(turn: Turn) -> str:
    assert_type(turn.text, str)
    assert_type(turn.message, Message)
    assert_type(turn.messages, tuple[Message, ...])
    assert_type(turn.attempt, int)
    assert_type(turn.id, int)
    assert_type(turn.deadline, float)
    assert_type(turn.degraded, str | None)
    assert_type(turn.route, str)
    assert_type(turn.session, ccm.Session)
    async with turn.limit("model") as nothing:
        assert_type(nothing, None)
    return f"re: {turn.text}"


async def silent(turn: Turn) -> None:
    raise ccm.Busy(2.5)


async def maybe(turn: Turn) -> str | None:
    raise ccm.Permanent("no")


def plain(turn: Turn) -> str:
    return "hello"


async def number(turn: Turn) -> int:
    return 42


class Bot:
    async def __call__(self, turn: Turn) -> str:
        return turn.text

    async def method(self, turn: Turn) -> str:
        return turn.text


async def deliver(reply: Reply, message: Message) -> None:
    assert_type(reply.text, str)
    assert_type(str(reply), str)
    assert_type(reply.turn_id, int)
    assert_type(reply.metadata, Mapping[str, Any])


async def every_kind_of_handler() -> None:
    ccm.open_manager(reply)
    ccm.open_manager(silent)
    ccm.open_manager(maybe)
    ccm.open_manager(Bot())
    ccm.open_manager(Bot().method)
    ccm.open_manager(FakeModel(latency=lognormal(0.8, 0.6)))
    ccm.open_manager(ccm.Router())
    ccm.open_manager(reply, deliver=deliver, fallback=maybe, config=ccm.Config(limit=5), storage=None)
    ccm.open_manager(plain)  # type: ignore[arg-type]
    ccm.open_manager(number)  # type: ignore[arg-type]
    ccm.open_manager(reply, config={"limit": 5})  # type: ignore[arg-type]
    ccm.open_manager(reply, storage="bot.db", stages={"": ["lead"]})
    ccm.open_manager(reply, storage=5)  # type: ignore[arg-type]
    ccm.open_manager(reply, timeout=5)  # type: ignore[call-arg]


async def the_manager() -> None:
    message = Message("channel-1", "ada", "hello", priority=ccm.HIGH, metadata={"a": 1})
    async with ccm.open_manager(reply) as manager:
        assert_type(manager, ccm.ConversationManager)
        assert_type(await manager.ask(message), Reply)
        receipt = await manager.submit(message)
        assert_type(receipt, ccm.Receipt)
        assert_type(manager.submit_nowait(message), ccm.Receipt)
        assert_type(receipt.turn_id, int)
        assert_type(receipt.position, int)
        assert_type(receipt.estimated_wait, float)
        assert_type(manager.session("channel-1"), ccm.Session | None)
        assert_type(manager.sessions(), list[ccm.Session])
        assert_type(manager.dead_letters(), list[ccm.DeadLetter])
        assert_type(manager.config, ccm.Config)
        await manager.wait_idle()
        await manager.drain()
        await manager.ask("hello")  # type: ignore[arg-type]
        manager.submit(message)  # type: ignore[unused-coroutine]


async def outcomes(receipt: ccm.Receipt) -> str:
    outcome = await receipt.outcome()
    assert_type(outcome, ccm.Outcome)
    assert_type(outcome.name, str)
    assert_type(outcome.error(), BaseException | None)
    match outcome:
        case ccm.Replied(reply, dead_letter):
            assert_type(reply, Reply)
            assert_type(dead_letter, int | None)
            return reply.text
        case ccm.Failed():
            assert_type(outcome.dead_letter, int)
        case ccm.Cancelled(by):
            assert_type(by, str)
        case ccm.Rejected() | ccm.Shed():
            assert_type(outcome.reason, ccm.Reason)
            assert_type(outcome.retry_after, float | None)
            assert_type(outcome.reason.sentence, str)
        case ccm.Superseded():
            assert_type(outcome.by, str)
    return ""


async def errors(manager: ccm.ConversationManager, message: Message) -> None:
    try:
        await manager.ask(message)
    except ccm.RateLimited as error:
        assert_type(error.retry_after, float | None)
    except ccm.HandlerFailed as error:
        assert_type(error.dead_letter, int)
    except ccm.TurnCancelled as error:
        assert_type(error.by, str)
    except ccm.CcmError:
        raise


async def figures(manager: ccm.ConversationManager) -> None:
    statistics = manager.statistics()
    assert_type(statistics, ccm.Statistics)
    assert_type(statistics.received, int)
    assert_type(statistics.outcomes, Mapping[str, int])
    assert_type(statistics.wait[Priority.HIGH], ccm.LatencySummary)
    assert_type(statistics.wait[ccm.LOW].p99, float)
    assert_type(statistics.queues[ccm.NORMAL].waiting, int)
    assert_type(statistics.channels.top, tuple[tuple[str, int], ...])
    assert_type(statistics.routes["chat"].timeouts, int)
    assert_type(statistics.rates.last_10s, float)
    assert_type(statistics.success_rate, float)
    statistics.received = 5  # type: ignore[misc]
    trends = manager.trends(step=60)
    assert_type(trends, ccm.Trends)
    assert_type(trends.received, tuple[int, ...])
    assert_type(trends.outcomes, Mapping[str, tuple[int, ...]])
    assert_type(trends.wait[ccm.HIGH].p99, tuple[float | None, ...])
    assert_type(trends.memory, tuple[int | None, ...])
    assert_type(trends.as_dict(), dict[str, Any])


async def what_happens(manager: ccm.ConversationManager) -> None:
    assert_type(manager.events(), AbstractAsyncContextManager[ccm.EventStream])
    async with manager.events(buffer=10) as stream:
        async for event in stream:
            assert_type(event, ccm.Event)
            assert_type(event.at, float)
            if isinstance(event, ccm.Lagged):
                assert_type(event.missed, int)


def routes() -> ccm.Router:
    router = ccm.Router()

    @router.route("moderation", when=ccm.matches(r"https?://"), priority=ccm.CRITICAL, answers=False)
    async def moderate(turn: Turn) -> None:
        raise NotImplementedError

    by_content = ccm.by_content(question=ccm.HIGH, keywords=("help",))

    @router.route("chat", priority=by_content, timeout=30, fallback=maybe)
    async def chat(turn: Turn) -> str:
        return turn.text

    def rule(message: Message, session: Any) -> Priority:
        return ccm.HIGH if message.text else ccm.LOW

    router.route("method", priority=rule, retry=ccm.RetryPolicy(attempts=1))(Bot().method)
    router.route("plain")(plain)  # type: ignore[type-var]
    router.route("when", when="hello")  # type: ignore[arg-type]
    return router


def settings() -> None:
    config = ccm.Config(
        limit=10,
        headroom={ccm.CRITICAL: 2},
        overflow=ccm.Overflow.WAIT,
        rate_limit=ccm.RateLimit(5, per=10),
        retry=ccm.RetryPolicy(attempts=3),
        weights={"gold": 2},
        max_wait={ccm.LOW: 5},
    )
    assert_type(config, ccm.Config)
    assert_type(config.replace(limit=5), ccm.Config)
    assert_type(ccm.Config.load("ccm.toml"), ccm.Config)
    assert_type(config.limit, int)
    assert_type(config.rate_limit, ccm.RateLimit | None)
    ccm.Config(limits=5)  # type: ignore[call-arg]
    ccm.Config(limit="5")  # type: ignore[arg-type]
    config.limit = 5  # type: ignore[misc]


def messages() -> None:
    message = Message("c", "ada", "hello")
    assert_type(message.id, str)
    assert_type(message.priority, Priority | None)
    assert_type(message.replace(text="x"), Message)
    message.text = "x"  # type: ignore[misc]
    Message("c", "ada")  # type: ignore[call-arg]
    Message("c", "ada", 5)  # type: ignore[arg-type]
    Message("c", "ada", "hello", "id")  # type: ignore[call-arg]


def simulated() -> None:
    async def program(seconds: float) -> int:
        await trio.sleep(seconds)
        return 5

    assert_type(simulate(program, 2.5, seed=1), int)
    assert_type(next(iter(traffic(rate=5, duration=10, seed=1))).message, Message)
    simulate(program, "2.5")  # type: ignore[arg-type]
