"""Handing messages in: `ask`, `submit`, `submit_nowait`, the receipt, and delivery of replies."""

from __future__ import annotations

import pytest
import trio

from ccm import (
    Cancelled,
    Duplicate,
    Failed,
    HandlerFailed,
    Message,
    Outcome,
    Permanent,
    RateLimit,
    RateLimited,
    Reason,
    Replied,
    Reply,
    RetryPolicy,
    Turn,
    TurnCancelled,
)

from .kit import Gate, Recorder, echo, opened, say, simulated, takes


@simulated
async def test_ask_waits_for_the_reply() -> None:
    async with opened(takes(0.5)) as manager:
        reply = await manager.ask(say("hello"))
        assert trio.current_time() == 0.5
        assert (reply.text, str(reply), dict(reply.metadata)) == ("re: hello", "re: hello", {})
        assert isinstance(reply.turn_id, int)


@simulated
async def test_a_handler_may_return_nothing_or_a_whole_reply() -> None:
    async def handler(turn: Turn) -> str | None:
        if turn.text == "nothing":
            return None
        return Reply("with mood", metadata={"mood": "sunny"}, turn_id=-1)  # type: ignore[return-value]

    async with opened(handler) as manager:
        assert str(await manager.ask(say("nothing"))) == ""
        reply = await manager.ask(say("all"))
        assert (reply.text, dict(reply.metadata)) == ("with mood", {"mood": "sunny"})
        assert reply.turn_id != -1, "the turn's id is the manager's to give"
        assert manager.statistics().outcomes["replied"] == 2


@simulated
async def test_messages_of_a_conversation_are_answered_in_order_and_never_overlap() -> None:
    handler = Recorder(takes(0.25))
    async with opened(handler) as manager:
        receipts = [manager.submit_nowait(say(text)) for text in "abcde"]
        for receipt in receipts:
            assert isinstance(await receipt.outcome(), Replied)
    assert handler.starts == [(0.0, "a"), (0.25, "b"), (0.5, "c"), (0.75, "d"), (1.0, "e")]
    assert handler.peak == 1


@simulated
async def test_conversations_run_beside_each_other_up_to_the_limit() -> None:
    handler = Recorder(takes(1))
    async with opened(handler, limit=3, headroom={}) as manager:
        for key in "abcd":
            manager.submit_nowait(say(key, key))
        assert manager.statistics().running == 3
        await manager.wait_idle()
        assert trio.current_time() == 2
    assert handler.peak == 3
    assert manager.statistics().peak_running == 3


@simulated
async def test_the_place_in_the_order_is_taken_before_submit_waits() -> None:
    """Trap 1: whoever called first is first, whatever Trio wakes first."""
    handler = Recorder()
    async with opened(handler, queue_limit=20) as manager, trio.open_nursery() as nursery:
        called = []

        async def sender(text: str) -> None:
            called.append(text)
            await manager.submit(say(text))

        for text in "abcdefgh":
            nursery.start_soon(sender, text)
    assert handler.texts == called


@simulated
async def test_submit_returns_once_the_message_is_accepted() -> None:
    async with opened(takes(2)) as manager:
        first = await manager.submit(say("first"))
        second = await manager.submit(say("second"))
        assert trio.current_time() == 0
        assert first.turn_id < second.turn_id
        assert isinstance(await second.outcome(), Replied)
        assert trio.current_time() == 4


@simulated
async def test_position_counts_what_is_ahead() -> None:
    gate = Gate()
    async with opened(gate, limit=2, headroom={}) as manager:
        positions = {
            text: manager.submit_nowait(say(text, conversation)).position
            for text, conversation in [("a1", "a"), ("b1", "b"), ("a2", "a"), ("c1", "c"), ("a3", "a")]
        }
        # a1 and b1 started; a2 stands behind a1, c1 behind a2, a3 behind a1 and a2, or a2 and c1.
        assert positions == {"a1": 0, "b1": 0, "a2": 1, "c1": 1, "a3": 2}
        gate.open()


@simulated
async def test_more_urgent_messages_have_less_ahead() -> None:
    gate = Gate()
    async with opened(gate, limit=1) as manager:
        manager.submit_nowait(say("runs", "r"))
        normal = [manager.submit_nowait(say(f"n{n}", f"n{n}")).position for n in range(3)]
        urgent = manager.submit_nowait(say("urgent", "u", priority=0)).position
        assert (normal, urgent) == ([0, 1, 2], 0)
        gate.open()


@simulated
async def test_the_estimated_wait_follows_the_recent_turns() -> None:
    async with opened(takes(1), limit=1) as manager:
        started = manager.submit_nowait(say("starts at once"))
        assert started.estimated_wait == 0.0
        await manager.wait_idle()
        for n in range(60):
            await manager.ask(say(f"{n}"))
        estimates = [manager.submit_nowait(say(f"{n}", f"{n}")).estimated_wait for n in range(4)]
        assert estimates == pytest.approx([0, 1, 2, 3], rel=0.1)


@simulated
async def test_any_number_of_tasks_may_wait_for_an_outcome() -> None:
    found: list[tuple[float, Outcome]] = []
    async with opened(takes(1)) as manager:
        receipt = await manager.submit(say())

        async def wait() -> None:
            outcome = await receipt.outcome()
            found.append((trio.current_time(), outcome))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(wait)
    assert {at for at, _ in found} == {1.0}
    assert len(found) == 10
    assert all(outcome is found[0][1] for _, outcome in found)


@simulated
async def test_the_outcome_can_be_read_after_the_fact_even_after_closing() -> None:
    async with opened(echo) as manager:
        receipt = await manager.submit(say())
        await manager.wait_idle()
        assert isinstance(await receipt.outcome(), Replied)
    outcome = await receipt.outcome()
    assert isinstance(outcome, Replied)
    assert (outcome.reply.text, outcome.reply.turn_id) == ("re: hello", receipt.turn_id)
    assert repr(receipt) == f"<Receipt of turn {receipt.turn_id}: replied>"


@simulated
async def test_a_cancelled_waiter_leaves_the_turn_and_the_other_waiters_alone() -> None:
    async with opened(takes(1)) as manager:
        receipt = await manager.submit(say())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receipt.outcome)
            with trio.move_on_after(0.5) as scope:
                await receipt.outcome()
        assert scope.cancelled_caught
        assert trio.current_time() == 1
        assert isinstance(await receipt.outcome(), Replied)


@simulated
async def test_cancelling_ask_cancels_a_running_turn() -> None:
    handler = Recorder(takes(10))
    async with opened(handler) as manager:
        with trio.move_on_after(1):
            await manager.ask(say())
        await manager.wait_idle()
        assert trio.current_time() == 1
        assert manager.statistics().outcomes["cancelled"] == 1
    assert handler.ends == [(1.0, "hello", "cancelled")]


@simulated
async def test_cancelling_ask_cancels_a_waiting_turn_at_once() -> None:
    handler = Recorder(takes(4))
    async with opened(handler) as manager:
        await manager.submit(say("first"))
        with trio.move_on_after(1):
            await manager.ask(say("second"))
        statistics = manager.statistics()
        assert (statistics.at, statistics.running, statistics.waiting) == (1.0, 1, 0)
        assert statistics.outcomes["cancelled"] == 1
    assert handler.texts == ["first"]


@simulated
async def test_calls_in_a_cancelled_scope_start_no_handler() -> None:
    handler = Recorder()
    async with opened(handler) as manager:
        with trio.CancelScope() as scope:
            scope.cancel()
            await manager.submit(say())
        assert manager.statistics().received == 0
        with trio.CancelScope() as scope:
            scope.cancel()
            await manager.ask(say())
        await manager.wait_idle()
        assert manager.statistics().outcomes["replied"] == 0
    assert handler.starts == []


@simulated
async def test_an_asked_turn_cancelled_by_drain_tells_whoever_asked() -> None:
    told: list[str] = []

    async def asker() -> None:
        try:
            await manager.ask(say())
        except TurnCancelled as error:
            told.append(error.by)

    async with trio.open_nursery() as nursery, opened(takes(100), timeout=200, drain=2) as manager:
        nursery.start_soon(asker)
        await trio.sleep(1)
    assert told == ["drain"]
    assert trio.current_time() == 3


@simulated
async def test_the_same_id_is_accepted_once() -> None:
    async with opened(echo, dedupe_window=60) as manager:
        first = await manager.submit(say("one", id="m1"))
        with pytest.raises(Duplicate) as caught:
            await manager.submit(say("one", id="m1"))
        assert caught.value.reason is Reason.DUPLICATE
        assert caught.value.receipt.turn_id == first.turn_id
        outcome = await caught.value.receipt.outcome()
        assert isinstance(outcome, Replied)
        assert outcome.reply.text == "re: one"
        await manager.submit(say("another tenant's", id="m1", tenant="guild"))
        await trio.sleep(60)
        await manager.submit(say("forgotten", id="m1"))
        assert manager.statistics().rejected == {"duplicate": 1}


@simulated
async def test_a_refused_id_may_be_sent_again() -> None:
    """Trap 2: an id counts as seen only once its message is safely queued."""
    async with opened(echo, rate_limit=RateLimit(1, per=10)) as manager:
        await manager.submit(say("fills the rate"))
        with pytest.raises(RateLimited) as caught:
            await manager.submit(say("again", id="m1"))
        assert caught.value.retry_after == 10
        await trio.sleep(caught.value.retry_after)
        assert str(await manager.ask(say("again", id="m1"))) == "re: again"


class Mailbox:
    """A `deliver` that notes what it gets, after failing `failures` times."""

    def __init__(self, failures: int = 0, seconds: float = 0) -> None:
        self.got: list[tuple[float, str, str]] = []
        self.calls = 0
        self._failures = failures
        self._seconds = seconds

    async def __call__(self, reply: Reply, message: Message) -> None:
        self.calls += 1
        await trio.sleep(self._seconds)
        if self.calls <= self._failures:
            raise ConnectionError(f"call {self.calls}")
        self.got.append((trio.current_time(), message.text, reply.text))


@simulated
async def test_replies_to_submitted_messages_are_delivered_in_order() -> None:
    mailbox = Mailbox(seconds=0.5)
    async with opened(echo, deliver=mailbox) as manager:
        for text in "abc":
            await manager.submit(say(text))
        assert str(await manager.ask(say("asked", "elsewhere"))) == "re: asked"
    assert mailbox.got == [(0.5, "a", "re: a"), (1.0, "b", "re: b"), (1.5, "c", "re: c")]


@simulated
async def test_a_failed_delivery_is_tried_again_without_handling_again() -> None:
    mailbox, handler = Mailbox(failures=2), Recorder()
    policy = RetryPolicy(attempts=3, base=0)
    async with opened(handler, deliver=mailbox, retry=policy) as manager:
        await manager.submit(say("a"))
        receipt = await manager.submit(say("b"))
        assert isinstance(await receipt.outcome(), Replied)
    assert handler.texts == ["a", "b"]
    assert [text for _, text, _ in mailbox.got] == ["a", "b"]
    assert mailbox.calls == 4


@simulated
async def test_a_delivery_that_fails_for_good_is_a_dead_letter() -> None:
    mailbox = Mailbox(failures=3)
    async with opened(echo, deliver=mailbox, retry=RetryPolicy(attempts=3, base=0)) as manager:
        receipt = await manager.submit(say("lost"))
        outcome = await receipt.outcome()
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.exception, ConnectionError)
        (letter,) = manager.dead_letters()
        assert (letter.id, letter.text, letter.attempts) == (outcome.dead_letter, "lost", 3)
        assert "call 3" in letter.error
        assert isinstance(await (await manager.submit(say("next"))).outcome(), Replied)
    assert [text for _, text, _ in mailbox.got] == ["next"]


@simulated
async def test_a_delivery_that_hangs_times_out_as_part_of_its_turn() -> None:
    mailbox = Mailbox(seconds=100)
    async with opened(echo, deliver=mailbox, timeout=2, retry=RetryPolicy(attempts=1)) as manager:
        outcome = await (await manager.submit(say())).outcome()
        assert trio.current_time() == 2
        assert isinstance(outcome, Failed)
        assert isinstance(outcome.exception, trio.TooSlowError)


@simulated
async def test_each_asker_gets_an_error_of_their_own() -> None:
    async def handler(turn: Turn) -> str:
        raise Permanent("no")

    async with opened(handler) as manager:
        errors = []
        for _ in range(2):
            with pytest.raises(HandlerFailed) as caught:
                await manager.ask(say())
            errors.append(caught.value)
        assert errors[0] is not errors[1]
        assert errors[0].dead_letter != errors[1].dead_letter
        assert isinstance(errors[0].__cause__, Permanent)


@simulated
async def test_the_outcome_of_a_drained_turn_is_returned_not_raised() -> None:
    async with opened(takes(100), drain=0) as manager:
        receipt = await manager.submit(say())
    assert await receipt.outcome() == Cancelled("drain")


@simulated
async def test_a_turn_that_waited_before_it_started_may_run_past_its_ageing() -> None:
    async with opened(takes(40), limit=1, timeout=60, ageing=30, drain=100) as manager:
        manager.submit_nowait(say("first", "a"))
        receipt = manager.submit_nowait(say("second", "b"))
        assert isinstance(await receipt.outcome(), Replied)
        assert trio.current_time() == 80


@simulated
async def test_a_turn_cancelled_before_its_first_step_never_runs() -> None:
    handler = Recorder(takes(10))
    async with opened(handler, drain=0) as manager:
        receipt = manager.submit_nowait(say("a worker has just been started for it"))
    assert await receipt.outcome() == Cancelled("drain")
    assert handler.starts == []
    assert trio.current_time() == 0


@simulated
async def test_who_stops_asking_while_the_turn_is_timing_out_wants_no_retry() -> None:
    async def act(turn: Turn) -> str:
        try:
            await trio.sleep(10)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)
        return ""

    handler = Recorder(act)
    async with opened(handler, timeout=2) as manager:
        with trio.move_on_after(2.25):
            await manager.ask(say())
        await manager.wait_idle()
        assert manager.statistics().conservation() == "1 received = 1 cancelled"
    assert len(handler.starts) == 1
