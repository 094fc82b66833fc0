"""What a message does to its busy conversation: each policy, where the old turn may be, what it costs."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ccm import (
    LOW,
    BusyConversation,
    Cancelled,
    Config,
    Merged,
    OnBusy,
    Overflow,
    Replied,
    RetryPolicy,
    Router,
    Superseded,
    Turn,
    TurnCancelled,
)
from ccm import events as ccm_events
from tests.manager.kit import Recorder, echo, opened, say, simulated, takes

PATIENT: dict[str, Any] = {"drain": 1000, "timeout": 500}
REPLACING = pytest.mark.parametrize("policy", [OnBusy.INTERRUPT, OnBusy.ROLLBACK])


async def stubborn(turn: Turn) -> str:
    """Swallows the first cancellation and goes on for five seconds."""
    if turn.text == "new":
        return "new"
    try:
        await trio.sleep(100)
    except trio.Cancelled:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        return "late"
    return "done"


# -- interrupt and rollback ------------------------------------------------------------------------------


@REPLACING
@simulated
async def test_a_newer_message_takes_the_place_of_all_that_runs_and_waits(policy: OnBusy) -> None:
    handler = Recorder(takes(10))
    async with opened(handler, **PATIENT) as manager:
        old = [manager.submit_nowait(say(text)) for text in "abc"]
        other = manager.submit_nowait(say("other", "d"))
        await trio.sleep(1)
        new = manager.submit_nowait(say("new", on_busy=policy, id="n"))
        assert [await receipt.outcome() for receipt in old] == [Superseded("n")] * 3
        assert trio.current_time() == 1
        assert isinstance(await new.outcome(), Replied)
        assert isinstance(await other.outcome(), Replied)
    assert sorted(handler.starts) == [(0, "a"), (0, "other"), (1, "new")]
    assert manager.statistics().conservation() == "5 received = 2 replied + 3 superseded"


@REPLACING
@simulated
async def test_the_newer_turn_starts_when_the_old_one_has_cleaned_up(policy: OnBusy) -> None:
    """Trap 6: the two never overlap."""

    async def cleans_up(turn: Turn) -> str:
        try:
            await trio.sleep(10 if turn.text == "old" else 1)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.75)
        return turn.text

    handler = Recorder(cleans_up)
    async with opened(handler, on_busy=policy, **PATIENT) as manager:
        old = manager.submit_nowait(say("old"))
        await trio.sleep(1)
        assert (await manager.ask(say("new"))).text == "new"
        assert (await old.outcome()).name == "superseded"
    assert handler.starts == [(0, "old"), (1.75, "new")]
    assert handler.peak == 1


@REPLACING
@simulated
async def test_a_stuck_turn_blocks_its_conversation_and_is_never_doubled(policy: OnBusy) -> None:
    handler = Recorder(stubborn)
    async with opened(handler, on_busy=policy, **PATIENT) as manager, manager.events() as stream:
        old = manager.submit_nowait(say("old"))
        await trio.sleep(1)
        new = manager.submit_nowait(say("new"))
        await trio.sleep(3)
        statistics = manager.statistics()
        assert (statistics.running, statistics.slots_in_use, statistics.waiting) == (1, 1, 1)
        assert statistics.stuck == 1
        assert isinstance(await new.outcome(), Replied)
        # What it returned although it had been told to end is not an answer.
        assert (await old.outcome()).name == "superseded"
        told = [event async for event in _drained(stream)]
    assert [event.at for event in told if isinstance(event, ccm_events.Stuck)] == [2]
    assert handler.starts == [(0, "old"), (6, "new")]
    assert handler.peak == 1


async def _drained(stream: Any) -> Any:
    with trio.move_on_after(0.5):
        async for event in stream:
            yield event


@REPLACING
@simulated
async def test_a_turn_that_waits_for_its_next_attempt_is_superseded_at_once(policy: OnBusy) -> None:
    async def fails(turn: Turn) -> str:
        if turn.text == "old":
            raise ConnectionError
        return turn.text

    handler = Recorder(fails)
    retry = RetryPolicy(attempts=3, base=100, cap=100)
    async with opened(handler, on_busy=policy, retry=retry, **PATIENT) as manager:
        old = manager.submit_nowait(say("old"))
        await trio.sleep(1 / 1024)
        assert manager.statistics().retrying == 1
        assert (await manager.ask(say("new", id="n"))).text == "new"
        assert await old.outcome() == Superseded("n")
        assert trio.current_time() == 1 / 1024
    assert handler.texts == ["old", "new"]


@REPLACING
@simulated
async def test_a_turn_that_settles_is_superseded_too(policy: OnBusy) -> None:
    handler = Recorder()
    async with opened(handler, on_busy="merge", settle=5, **PATIENT) as manager:
        old = [manager.submit_nowait(say(text)) for text in "ab"]
        await trio.sleep(1)
        await manager.ask(say("new", on_busy=policy, id="n"))
        assert [await receipt.outcome() for receipt in old] == [Superseded("n")] * 2
    assert handler.starts == [(1, "new")]


@REPLACING
@simulated
async def test_a_shielded_side_effect_is_finished_first(policy: OnBusy) -> None:
    done: list[object] = []

    async def handler(turn: Turn) -> str:
        if turn.text == "old":
            async with turn.uninterruptible():
                await trio.sleep(3)
                done.append(trio.current_time())
            done.append("never")
        return turn.text

    async with opened(handler, on_busy=policy, **PATIENT) as manager:
        old = manager.submit_nowait(say("old"))
        await trio.sleep(1)
        assert (await manager.ask(say("new", id="n"))).text == "new"
        assert trio.current_time() == 3
        assert await old.outcome() == Superseded("n")
    assert done == [3]


@simulated
async def test_a_shield_ends_with_its_attempt_and_a_time_out_goes_through_it() -> None:
    async def handler(turn: Turn) -> str:
        if turn.text == "old":
            async with turn.uninterruptible():
                await trio.sleep(100)
        return turn.text

    async with opened(handler, on_busy="interrupt", drain=1000, timeout=2) as manager:
        old = manager.submit_nowait(say("old"))
        await trio.sleep(1)
        assert (await manager.ask(say("new", id="n"))).text == "new"
        assert trio.current_time() == 2
        # It is not tried again: a newer message has taken its place.
        assert await old.outcome() == Superseded("n")


@pytest.mark.parametrize("how", ["stop", "retract", "caller", "drain"])
@simulated
async def test_nothing_but_interruptions_is_held_back(how: str) -> None:
    ended = []

    async def handler(turn: Turn) -> None:
        try:
            async with turn.uninterruptible():
                await trio.sleep(100)
        finally:
            ended.append(trio.current_time())

    scope = trio.CancelScope()

    async def ask(manager: Any) -> None:
        with scope, pytest.raises(TurnCancelled):
            await manager.ask(say("old", id="o"))

    async with trio.open_nursery() as nursery, opened(handler, drain=0, timeout=500) as manager:
        nursery.start_soon(ask, manager)
        await trio.sleep(1)
        if how == "stop":
            await manager.stop("c")
        elif how == "retract":
            await manager.retract("o")
        elif how == "caller":
            scope.cancel()
    assert ended == [1]


@simulated
async def test_a_newer_message_is_superseded_by_one_that_is_newer_still() -> None:
    async def slow_cleanup(turn: Turn) -> str:
        try:
            await trio.sleep(10)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)
        return turn.text

    handler = Recorder(slow_cleanup)
    async with opened(handler, on_busy="interrupt", conversation_limit=1, **PATIENT) as manager:
        receipts = []
        for at in (0, 1, 1.25):
            await trio.sleep_until(at)
            receipts.append(manager.submit_nowait(say(f"{at}", id=f"m{at}")))
        outcomes = [await receipt.outcome() for receipt in receipts]
        assert outcomes[:2] == [Superseded("m1"), Superseded("m1.25")]
        assert isinstance(outcomes[2], Replied)
    assert handler.starts == [(0, "0"), (1.5, "1.25")]


@REPLACING
@pytest.mark.parametrize("overflow", list(Overflow))
@simulated
async def test_a_message_that_replaces_what_waits_needs_no_room(policy: OnBusy, overflow: Overflow) -> None:
    handler = Recorder(takes(2))
    async with opened(handler, queue_limit=1, limit=1, overflow=overflow, **PATIENT) as manager:
        manager.submit_nowait(say("a", id="a"))
        waits = manager.submit_nowait(say("b", priority=LOW))
        new = manager.submit_nowait(say("new", on_busy=policy, id="n"))
        assert await waits.outcome() == Superseded("n")
        assert isinstance(await new.outcome(), Replied)


@simulated
async def test_a_sender_that_is_let_in_may_interrupt_the_turn_that_lets_it_in() -> None:
    """Its conversation's turn takes the last place in the queue, and a slot, in the same instant."""
    handler = Recorder(takes(2))
    async with opened(handler, queue_limit=1, limit=1, overflow="wait", **PATIENT) as manager:
        manager.submit_nowait(say("a", "x"))
        old = manager.submit_nowait(say("old"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.ask, say("at the door", "y"))
            await trio.sleep(0.5)
            nursery.start_soon(manager.ask, say("new", on_busy=OnBusy.INTERRUPT, id="n"))
        assert await old.outcome() == Superseded("n")
    assert manager.statistics().outcomes["replied"] == 3
    assert handler.peak == 1


# -- steer -----------------------------------------------------------------------------------------------


async def reads_for_three_seconds(turn: Turn) -> str:
    seen = [turn.text]
    with trio.move_on_after(3):
        async for message in turn.steered:
            seen.append(message.text)
    return " ".join(seen)


@simulated
async def test_steer_hands_messages_to_the_running_turn() -> None:
    handler = Recorder(reads_for_three_seconds)
    async with opened(handler, on_busy="steer", **PATIENT) as manager:
        receipts = []
        for second in range(3):
            await trio.sleep_until(second)
            receipts.append(manager.submit_nowait(say(f"{second}")))
        replied = await receipts[0].outcome()
        assert isinstance(replied, Replied)
        assert replied.reply.text == "0 1 2"
        assert [await r.outcome() for r in receipts[1:]] == [Merged(1, replied.reply)] * 2
    assert handler.starts == [(0, "0")]


@simulated
async def test_what_is_not_read_becomes_the_next_turn_at_its_own_place() -> None:
    handler = Recorder(takes(3))
    async with opened(handler, on_busy="steer", **PATIENT) as manager:
        manager.submit_nowait(say("runs"))
        handed = manager.submit_nowait(say("handed"))
        waits = manager.submit_nowait(say("waits", on_busy=OnBusy.ENQUEUE))
        behind = manager.submit_nowait(say("behind"))
        assert manager.statistics().waiting == 3
        assert [(await r.outcome()).name for r in (handed, waits, behind)] == ["replied"] * 3
    assert handler.starts == [(0, "runs"), (3, "handed"), (6, "waits"), (9, "behind")]


@simulated
async def test_what_a_superseded_turn_was_handed_is_superseded_with_it() -> None:
    handler = Recorder(takes(3))
    async with opened(handler, on_busy="steer", **PATIENT) as manager:
        old = [manager.submit_nowait(say("runs")), manager.submit_nowait(say("handed"))]
        await trio.sleep(1)
        await manager.ask(say("new", on_busy=OnBusy.INTERRUPT, id="n"))
        assert [await receipt.outcome() for receipt in old] == [Superseded("n")] * 2
    assert handler.texts == ["runs", "new"]


@simulated
async def test_who_reads_is_not_disturbed_by_cancelling_the_reading() -> None:
    async def impatient(turn: Turn) -> str:
        seen: list[str] = []
        while len(seen) < 2:
            with trio.move_on_after(0.25):
                seen.append((await turn.steered.receive()).text)
        with pytest.raises(trio.WouldBlock):
            turn.steered.receive_nowait()
        return " ".join(seen)

    async with opened(impatient, on_busy="steer", **PATIENT) as manager:
        first = manager.submit_nowait(say("first"))
        for text in ("a", "b"):
            await trio.sleep(1)
            manager.submit_nowait(say(text))
        replied = await first.outcome()
        assert isinstance(replied, Replied)
        assert replied.reply.text == "a b"


@simulated
async def test_a_message_that_was_handed_over_may_be_taken_back_unread() -> None:
    handler = Recorder(reads_for_three_seconds)

    async def late(turn: Turn) -> str | None:
        await trio.sleep(1)
        return await handler(turn)

    async with opened(late, on_busy="steer", **PATIENT) as manager:
        first = manager.submit_nowait(say("first"))
        gone = manager.submit_nowait(say("gone", id="g"))
        manager.submit_nowait(say("stays"))
        assert await manager.retract("g") == "withdrawn"
        assert await gone.outcome() == Cancelled("retract")
        replied = await first.outcome()
        assert isinstance(replied, Replied)
        assert replied.reply.text == "first stays"


@simulated
async def test_a_turn_of_another_route_is_handed_nothing() -> None:
    router = Router()
    router.route("first", when=lambda message: message.text == "first", busy=OnBusy.STEER)(
        reads_for_three_seconds
    )
    router.route("second", busy=OnBusy.STEER)(echo)
    async with opened(router, **PATIENT) as manager:
        first = manager.submit_nowait(say("first"))
        assert (await manager.ask(say("second"))).text == "re: second"
        replied = await first.outcome()
        assert isinstance(replied, Replied)
        assert replied.reply.text == "first"


# -- reject, and the rest --------------------------------------------------------------------------------


@simulated
async def test_reject_refuses_while_the_conversation_is_busy() -> None:
    handler = Recorder(takes(2))
    async with opened(handler, on_busy="reject", **PATIENT) as manager:
        manager.submit_nowait(say("first"))
        with pytest.raises(BusyConversation) as refused:
            manager.submit_nowait(say("second"))
        assert refused.value.retry_after is not None
        manager.submit_nowait(say("elsewhere", "d"))
        await trio.sleep(2)
        await manager.ask(say("third"))
        assert manager.statistics().rejected == {"busy": 1}
    assert sorted(handler.texts) == ["elsewhere", "first", "third"]


@pytest.mark.parametrize("policy", list(OnBusy))
@simulated
async def test_a_message_may_ask_for_another_policy_than_its_route(policy: OnBusy) -> None:
    """Each message is handled as if the route had that policy, whatever the route's own is."""
    results = set()
    for route in OnBusy:
        handler = Recorder(takes(2))
        async with opened(handler, on_busy=route, **PATIENT) as manager:
            manager.submit_nowait(say("first"))
            await trio.sleep(1)
            try:
                name = (await manager.submit_nowait(say("second", on_busy=policy)).outcome()).name
            except BusyConversation:
                name = "rejected"
            await manager.wait_idle()
        results.add((name, *handler.texts))
    assert len(results) == 1


@pytest.mark.parametrize("policy", list(OnBusy))
@simulated
async def test_an_idle_conversation_is_not_busy(policy: OnBusy) -> None:
    handler = Recorder()
    async with opened(handler, on_busy=policy, **PATIENT) as manager:
        for text in "ab":
            assert (await manager.ask(say(text))).text == f"re: {text}"
    assert handler.starts == [(0, "a"), (0, "b")]


def test_a_policy_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"on_busy must be one of .*shout"):
        say(on_busy="shout")
    with pytest.raises(ValueError, match="on_busy"):
        Config(on_busy="shout")  # type: ignore[arg-type]
