"""The end of a manager (law G12): no new messages, time for running turns to finish, and no more."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
import trio.testing

from ccm import Busy, Cancelled, Draining, Outcome, Reason, Replied, RetryPolicy, Turn, TurnCancelled

from .kit import Recorder, echo, opened, say, simulated, takes


@simulated
async def test_leaving_the_block_waits_for_what_was_accepted() -> None:
    async with opened(takes(1), limit=1) as manager:
        receipts = [manager.submit_nowait(say("hi", f"{n}")) for n in range(4)]
    assert trio.current_time() == 4
    for receipt in receipts:
        assert isinstance(await receipt.outcome(), Replied)


@simulated
async def test_leaving_the_block_takes_no_longer_than_drain() -> None:
    handler = Recorder(takes(3))
    async with opened(handler, limit=1, drain=5) as manager:
        receipts = [manager.submit_nowait(say(f"{n}", f"{n}")) for n in range(4)]
    assert trio.current_time() == 5
    outcomes = [await receipt.outcome() for receipt in receipts]
    assert isinstance(outcomes[0], Replied)
    assert outcomes[1:] == [Cancelled("drain")] * 3
    assert handler.ends == [(3, "0", "returned"), (5, "1", "cancelled")]


@simulated
async def test_no_time_to_drain_cancels_at_once() -> None:
    async with opened(takes(3), limit=1, drain=0) as manager:
        receipts = [await manager.submit(say("hi", f"{n}")) for n in range(3)]
        await trio.sleep(1)
    assert trio.current_time() == 1
    assert [await receipt.outcome() for receipt in receipts] == [Cancelled("drain")] * 3


@simulated
async def test_an_idle_manager_leaves_at_once() -> None:
    async with opened(echo) as manager:
        await manager.ask(say())
    assert trio.current_time() == 0


@simulated
async def test_a_cancelled_block_drains_too() -> None:
    with trio.move_on_after(1) as scope:
        async with opened(takes(3), drain=5) as manager:
            short = await manager.submit(say("hi", "a"))
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == 3
    assert isinstance(await short.outcome(), Replied)


@simulated
async def test_a_cancelled_block_takes_no_longer_than_drain() -> None:
    with trio.move_on_after(1):
        async with opened(takes(30), drain=5, timeout=100) as manager:
            receipt = await manager.submit(say())
            await trio.sleep_forever()
    assert trio.current_time() == 6
    assert await receipt.outcome() == Cancelled("drain")
    manager.statistics().check()


@simulated
async def test_cancelling_a_block_that_drains_already_changes_nothing() -> None:
    with trio.move_on_after(1) as scope:
        async with opened(takes(3), drain=5) as manager:
            receipt = await manager.submit(say())
    assert trio.current_time() == 3
    assert not scope.cancelled_caught
    assert isinstance(await receipt.outcome(), Replied)


@simulated
async def test_an_exception_in_the_block_keeps_its_type() -> None:
    class OwnError(Exception):
        pass

    with pytest.raises(OwnError, match="as it was") as caught:  # noqa: PT012 - the block is the test
        async with opened(takes(2)) as manager:
            receipt = await manager.submit(say())
            raise OwnError("as it was")
    assert type(caught.value) is OwnError
    assert caught.value.__cause__ is None
    assert isinstance(await receipt.outcome(), Replied)
    assert trio.current_time() == 2


@simulated
async def test_a_group_of_exceptions_in_the_block_stays_a_group() -> None:
    with pytest.RaisesGroup(ValueError, KeyError, match="two"):
        async with opened(echo):
            raise ExceptionGroup("two", [ValueError("one"), KeyError("two")])


@simulated
async def test_a_group_of_one_exception_in_the_block_stays_one() -> None:
    with pytest.RaisesGroup(ValueError, match="one"):
        async with opened(echo):
            raise ExceptionGroup("one", [ValueError("one")])


@simulated
async def test_drain_stops_the_intake_and_waits_until_idle() -> None:
    async with opened(takes(2)) as manager:
        receipts = [await manager.submit(say(text)) for text in "ab"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.drain)
            nursery.start_soon(manager.drain)
            await trio.testing.wait_all_tasks_blocked()
            for way in (manager.submit, manager.ask):
                with pytest.raises(Draining) as caught:
                    await way(say("too late"))
                assert caught.value.reason is Reason.DRAINING
                assert caught.value.retry_after is None
            with pytest.raises(Draining):
                manager.submit_nowait(say("too late"))
        assert trio.current_time() == 4
        for receipt in receipts:
            assert isinstance(await receipt.outcome(), Replied)
        assert manager.statistics().conservation() == "5 received = 2 replied + 3 rejected"


@simulated
async def test_a_cancelled_drain_goes_on_refusing() -> None:
    async with opened(takes(5)) as manager:
        receipt = await manager.submit(say())
        with trio.move_on_after(1) as scope:
            await manager.drain()
        assert scope.cancelled_caught
        with pytest.raises(Draining):
            await manager.submit(say())
        assert isinstance(await receipt.outcome(), Replied)


@simulated
async def test_messages_from_handlers_are_refused_while_draining() -> None:
    refused: list[str] = []

    async def handler(turn: Turn) -> str:
        await trio.sleep(1)
        try:
            await manager.submit(say("a follow-up", "d"))
        except Draining as error:
            refused.append(str(error))
        return ""

    async with opened(handler) as manager:
        await manager.submit(say())
    assert len(refused) == 1
    assert refused[0].startswith("draining: ")


@simulated
async def test_after_closing_every_way_in_says_so() -> None:
    async with opened(echo) as manager:
        pass
    before = manager.statistics()
    for way in (manager.submit, manager.ask):
        with pytest.raises(trio.ClosedResourceError, match="closed"):
            await way(say())
    with pytest.raises(trio.ClosedResourceError, match="closed"):
        manager.submit_nowait(say())
    assert manager.statistics() == before
    await manager.drain()
    await manager.wait_idle()


@simulated
async def test_retries_go_on_while_draining() -> None:
    handler = Recorder(echo)

    async def act(turn: Turn) -> str:
        if turn.attempt == 1:
            raise Busy(3)
        return await echo(turn)

    handler = Recorder(act)
    async with opened(handler, drain=5) as manager:
        receipt = await manager.submit(say())
    assert isinstance(await receipt.outcome(), Replied)
    assert trio.current_time() == 3


@simulated
async def test_a_retry_that_would_come_too_late_is_cancelled() -> None:
    async def act(turn: Turn) -> str:
        raise Busy(30)

    handler = Recorder(act)
    async with opened(handler, drain=5) as manager:
        receipt = await manager.submit(say())
    assert await receipt.outcome() == Cancelled("drain")
    assert trio.current_time() == 5
    assert len(handler.starts) == 1


@simulated
async def test_turns_time_out_while_draining() -> None:
    async with opened(takes(100), timeout=2, drain=50, retry=RetryPolicy(attempts=1)) as manager:
        receipt = await manager.submit(say())
    assert (await receipt.outcome()).name == "failed"
    assert trio.current_time() == 2


@simulated
async def test_what_waits_is_not_started_after_the_deadline() -> None:
    handler = Recorder(takes(3))
    async with opened(handler, drain=2, limit=1) as manager:
        for key in "abc":
            await manager.submit(say(key, key))
    assert handler.texts == ["a"]


@simulated
async def test_handlers_may_clean_up_when_they_are_cancelled() -> None:
    cleaned: list[float] = []

    async def handler(turn: Turn) -> str:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)
            cleaned.append(trio.current_time())
        return ""

    async with opened(handler, drain=2) as manager:
        receipt = await manager.submit(say())
    assert cleaned == [2.5]
    assert await receipt.outcome() == Cancelled("drain")


@simulated
async def test_a_handler_that_answers_when_it_is_told_to_end_has_answered() -> None:
    async def handler(turn: Turn) -> str:
        with suppress(trio.Cancelled):
            await trio.sleep_forever()
        return "as far as I got"

    async with opened(handler, drain=2) as manager:
        receipt = await manager.submit(say())
    outcome = await receipt.outcome()
    assert isinstance(outcome, Replied)
    assert outcome.reply.text == "as far as I got"


@simulated
async def test_a_handler_that_will_not_end_delays_the_close_and_still_gets_an_outcome() -> None:
    async def handler(turn: Turn) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(20)
        await trio.sleep(20)
        return ""

    async with opened(handler, drain=2) as manager:
        receipt = await manager.submit(say())
    assert trio.current_time() == 20
    assert await receipt.outcome() == Cancelled("drain")
    assert manager.statistics().stuck == 1


@simulated
async def test_a_handler_that_fails_long_after_it_was_told_to_end_gets_an_outcome() -> None:
    outcomes: list[Outcome] = []

    async def handler(turn: Turn) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(20)
        raise ValueError("much too late")

    async with trio.open_nursery() as nursery, opened(handler, drain=2) as manager:
        receipt = await manager.submit(say())

        async def wait() -> None:
            outcomes.append(await receipt.outcome())

        nursery.start_soon(wait)
    assert [outcome.name for outcome in outcomes] == ["cancelled"]


@simulated
async def test_a_timed_out_handler_that_ends_after_the_close_gets_an_outcome() -> None:
    outcomes: list[Outcome] = []

    async def handler(turn: Turn) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(20)
        await trio.sleep(1)
        return ""

    async with trio.open_nursery() as nursery, opened(handler, drain=2, timeout=1) as manager:
        receipt = await manager.submit(say())

        async def wait() -> None:
            outcomes.append(await receipt.outcome())

        nursery.start_soon(wait)
    assert [outcome.name for outcome in outcomes] == ["cancelled"]


@simulated
async def test_a_caller_outside_the_block_gets_its_answer_while_draining() -> None:
    answers: list[str] = []

    async def ask(text: str) -> None:
        try:
            answers.append(str(await manager.ask(say(text, text))))
        except TurnCancelled as error:
            answers.append(f"{text} cancelled by {error.by}")

    async with trio.open_nursery() as nursery, opened(takes(2), limit=1, drain=3) as manager:
        nursery.start_soon(ask, "a")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, "b")
        await trio.testing.wait_all_tasks_blocked()
    assert answers == ["re: a", "b cancelled by drain"]


@simulated
async def test_two_managers_drain_independently() -> None:
    async with opened(takes(2)) as one:
        async with opened(takes(1)) as two:
            await one.submit(say())
            await two.submit(say())
        assert trio.current_time() == 1
        assert str(await one.ask(say("still open", "d"))) == "re: still open"


@simulated
async def test_wait_idle_lets_messages_in_and_waits_for_all_of_them() -> None:
    async with opened(takes(2)) as manager:
        await manager.submit(say("first"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.wait_idle)
            await trio.sleep(1)
            await manager.submit(say("second"))
        assert trio.current_time() == 4


@simulated
async def test_a_drain_with_an_end_cancels_what_is_left_and_the_block_waits_no_longer() -> None:
    handler = Recorder(takes(3))
    async with opened(handler, limit=1, drain=50) as manager:
        receipts = [manager.submit_nowait(say(f"{n}", f"{n}")) for n in range(4)]
        await manager.drain(within=5)
        assert trio.current_time() == 5
        assert not manager.statistics().running
    assert trio.current_time() == 5
    outcomes = [await receipt.outcome() for receipt in receipts]
    assert isinstance(outcomes[0], Replied)
    assert outcomes[1:] == [Cancelled("drain")] * 3


@simulated
async def test_a_drain_with_an_end_ends_early_when_everything_is_answered() -> None:
    async with opened(takes(3), drain=50) as manager:
        receipt = manager.submit_nowait(say())
        await manager.drain(within=5)
        assert trio.current_time() == 3
        with pytest.raises(Draining):
            manager.submit_nowait(say())
    assert isinstance(await receipt.outcome(), Replied)


@simulated
async def test_the_block_gets_what_is_left_of_the_drains_time() -> None:
    async with opened(takes(30), drain=50) as manager:
        receipt = manager.submit_nowait(say())
        with trio.move_on_after(2):
            await manager.drain(within=5)
        assert trio.current_time() == 2
    assert trio.current_time() == 5
    assert await receipt.outcome() == Cancelled("drain")


@simulated
async def test_a_drains_end_is_checked() -> None:
    async with opened(echo) as manager:
        for wrong in (-1, float("inf"), float("nan"), True, "5"):
            with pytest.raises(ValueError, match="within must be finite seconds"):
                await manager.drain(within=wrong)  # type: ignore[arg-type]
        assert isinstance(await manager.ask(say()), object)
