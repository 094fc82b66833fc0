"""A manager that gives up messages while too much waits: whose, how they end, and what it tells."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import trio

import ccm
from ccm import CRITICAL, HIGH, LOW, NORMAL, Message, Priority, Reason, Router, Shed, Shedding, Turn, events
from tests.manager.kit import opened, say, simulated, takes

LOAD: dict[str, Any] = {
    "limit": 4, "headroom": {CRITICAL: 1}, "drain": 1000, "timeout": 500, "max_sessions": 100_000,
    "queue_limit": 10_000, "shedding": Shedding(), "ageing": float("inf"),
}  # fmt: skip


def strangers(priority: Priority | None = NORMAL, name: str = "s") -> Iterator[Message]:
    """Endless messages, each of a user and a conversation of its own."""
    number = 0
    while True:
        number += 1
        yield say(f"{number}", f"{name}{number}", f"{name}{number}", priority=priority)


async def press(
    manager: ccm.ConversationManager, until: float, every: float = 0.125, priority: Priority | None = NORMAL
) -> list[ccm.Receipt]:
    """A message every eighth of a second."""
    receipts: list[ccm.Receipt] = []
    for message in strangers(priority, f"{priority}"):
        if trio.current_time() >= until:
            return receipts
        receipts.append(manager.submit_nowait(message))
        await trio.sleep(every)
    return receipts


@simulated
async def test_what_is_offered_too_much_is_given_up_and_the_rest_answered_in_time() -> None:
    """Eight messages a second, three slots of a second each: five in eight cannot be answered."""
    async with opened(takes(1), **LOAD) as manager:
        receipts = await press(manager, 60)
        statistics = manager.statistics()
        assert statistics.shedding[LOW] == 1.0
        assert 0.5 < statistics.shedding[NORMAL] <= 0.8
        assert statistics.queues[NORMAL].oldest < 4  # without it: 37 s by now
        outcomes = [await receipt.outcome() for receipt in receipts]
        late = outcomes[-80:]
    shed = [outcome for outcome in outcomes if isinstance(outcome, Shed)]
    assert {outcome.reason for outcome in shed} == {Reason.OVERLOADED}
    assert all(outcome.retry_after is not None and outcome.retry_after > 0 for outcome in shed)
    # Ten seconds of three slots are 30 answers, less what passes until the next message finds the free slot.
    assert 24 <= len(late) - sum(isinstance(outcome, Shed) for outcome in late) <= 31


@simulated
async def test_it_ends_when_the_load_ends() -> None:
    async with opened(takes(1), **LOAD) as manager, manager.events(100_000) as stream:
        await press(manager, 30)
        await trio.sleep(10)
        assert manager.statistics().shedding[LOW] == 0.0
        assert manager.statistics().waiting == 0
        assert (await manager.ask(say("alone", "alone", priority=LOW))).text == "re: alone"
        changes = []
        with trio.move_on_after(1):
            async for event in stream:
                if isinstance(event, events.SheddingChanged):
                    changes.append((event.low, event.normal))
    assert changes[-1] == (0.0, 0.0)
    assert all(low == 1.0 or normal == 0.0 for low, normal in changes)  # LOW first
    assert max(normal for _, normal in changes) > 0.5


@simulated
async def test_the_urgent_are_never_given_up() -> None:
    async with opened(takes(1), **LOAD) as manager, trio.open_nursery() as nursery:
        nursery.start_soon(press, manager, 30)
        urgent: list[ccm.Receipt] = []

        async def rarely(priority: Priority) -> None:
            urgent.extend(await press(manager, 30, 2.0, priority))

        nursery.start_soon(rarely, CRITICAL)
        nursery.start_soon(rarely, HIGH)
    assert {(await receipt.outcome()).name for receipt in urgent} == {"replied"}
    assert manager.statistics().outcomes["shed"] > 50


@simulated
async def test_what_finds_a_slot_comes_in_whoever_says_it() -> None:
    async with opened(takes(1), **LOAD) as manager:
        await press(manager, 30)
        await manager.wait_idle()
        assert manager.statistics().shedding[NORMAL] > 0.5  # not yet looked at again
        replies = [
            manager.submit_nowait(message) for _, message in zip(range(3), strangers(LOW), strict=False)
        ]
        assert {(await receipt.outcome()).name for receipt in replies} == {"replied"}


@simulated
async def test_the_fallback_answers_for_what_is_given_up() -> None:
    degraded: list[str | None] = []

    async def excuse(turn: Turn) -> str:
        degraded.append(turn.degraded)
        return "too busy"

    async with opened(takes(1), fallback=excuse, **LOAD) as manager:
        receipts = await press(manager, 20)
        outcomes = [await receipt.outcome() for receipt in receipts]
    texts = [outcome.reply.text for outcome in outcomes if isinstance(outcome, ccm.Replied)]
    assert texts.count("too busy") == len(degraded) > 50
    assert set(degraded) == {"shed"}
    # Only what is given up in one go gets no excuse: at most `limit` fallbacks run at a time.
    assert sum(isinstance(outcome, Shed) for outcome in outcomes) < 10


@simulated
async def test_handlers_are_told_to_leave_out_what_they_can() -> None:
    seen: list[tuple[float, str | None]] = []

    async def handler(turn: Turn) -> None:
        seen.append((trio.current_time(), turn.degraded))
        await trio.sleep(1)

    async with opened(handler, **LOAD) as manager:
        await press(manager, 20)
        await trio.sleep(20)
        await manager.ask(say("calm"))
    assert seen[0][1] is None
    assert {degraded for at, degraded in seen if 10 < at < 20} == {"overload"}
    assert seen[-1][1] is None


@simulated
async def test_side_turns_are_given_up_on_their_own() -> None:
    """Analytics are LOW: they go first, and what finds no slot of them does not count against the answers."""
    router = Router()
    router.route("analytics", priority=LOW, ordered=False, answers=False)(takes(0.5))
    router.route("chat", priority=NORMAL)(takes(1))
    async with opened(router, **LOAD) as manager:
        receipts = await press(manager, 40, 0.25, None)  # four slots for chat alone, of three
        assert manager.statistics().shedding[LOW] == 1
        names = [(await receipt.outcome()).name for receipt in receipts]
    assert names.count("replied") > 0.6 * len(names)
    assert manager.statistics().side_outcomes["shed"] > 0.8 * len(names)


@simulated
async def test_messages_of_one_conversation_that_wait_for_each_other_are_no_overload() -> None:
    """Ten messages of two people wait for up to 50 s, and a slot is free all the time."""
    async with opened(takes(10), **LOAD) as manager:
        receipts = [manager.submit_nowait(say(f"{n}", f"c{n % 2}")) for n in range(10)]
        await trio.sleep(45)
        assert manager.statistics().shedding[LOW] == 0.0
        assert {(await receipt.outcome()).name for receipt in receipts} == {"replied"}


@simulated
async def test_a_tenant_at_its_limit_is_no_overload() -> None:
    limits = LOAD | {"tenants": {"x": ccm.TenantPolicy(limit=1)}}
    async with opened(takes(5), **limits) as manager:
        receipts = [manager.submit_nowait(say(f"{n}", f"{n}", tenant="x")) for n in range(9)]
        await trio.sleep(30)
        assert manager.statistics().shedding[LOW] == 0.0
        assert {(await receipt.outcome()).name for receipt in receipts} == {"replied"}


@simulated
async def test_turns_lifted_by_an_urgent_message_are_not_swept_away() -> None:
    """Twelve people wait with a NORMAL message; those who say something urgent as well are answered both."""
    people = [f"person {n}" for n in range(12)]
    async with opened(takes(1), **LOAD | {"limit": 1, "headroom": {}}) as manager:
        manager.submit_nowait(say("runs", "r"))
        first = [manager.submit_nowait(say("first", name, name)) for name in people]
        urgent = [manager.submit_nowait(say("help!", name, name, priority=HIGH)) for name in people]
        others = [manager.submit_nowait(message) for message in islice(strangers(), 100)]
        assert {(await receipt.outcome()).name for receipt in [*first, *urgent]} == {"replied"}
        assert "shed" in {(await receipt.outcome()).name for receipt in others}


@simulated
async def test_without_it_nothing_is_given_up() -> None:
    async with opened(takes(1), **LOAD | {"shedding": None}) as manager:
        receipts = await press(manager, 20)
        assert {(await receipt.outcome()).name for receipt in receipts} == {"replied"}
