"""Traps that other projects fell into, each shown at the level of a whole manager, with its number.

Some are shown in more detail elsewhere: trap 13 by the matrix of `test_pairwise.py`, trap 24 by
`test_context.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio

from ccm import (
    CRITICAL,
    LOW,
    Busy,
    Cancelled,
    Message,
    OnBusy,
    Permanent,
    RateLimit,
    RateLimited,
    Replied,
    RetryPolicy,
    Router,
    Superseded,
    Turn,
    matches,
)
from tests.manager.kit import Recorder, opened, say, simulated, takes

from .test_pairwise import FEATURES

PATIENT: dict[str, Any] = {"drain": 1000, "timeout": 500}


@simulated
async def test_trap_6_an_interruption_waits_for_the_old_turn_and_keeps_what_it_said() -> None:
    histories: list[list[str]] = []

    async def handler(turn: Turn) -> None:
        if turn.text == "new":
            histories.append([entry.text for entry in await turn.history()])
            return
        await turn.send("I was about to")
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)

    recorder = Recorder(handler)
    async with opened(recorder, on_busy=OnBusy.INTERRUPT, **PATIENT) as manager:
        old = manager.submit_nowait(say("old"))
        await trio.sleep(1)
        await manager.ask(say("new", id="n"))
        assert await old.outcome() == Superseded("n")
    assert recorder.starts == [(0, "old"), (1.5, "new")]
    assert recorder.peak == 1
    assert histories == [["old", "I was about to", "new"]]


@simulated
async def test_trap_8_stop_clears_all_that_waits_and_starts_none_of_it() -> None:
    handler = Recorder(takes(2))
    async with opened(handler, limit=1, headroom={}, **PATIENT) as manager:
        receipts = [manager.submit_nowait(say(str(number))) for number in range(5)]
        await trio.sleep(1)
        stopped = await manager.stop("c")
        assert (stopped.waiting, stopped.running) == (4, 1)
        await manager.wait_idle()
        assert [await receipt.outcome() for receipt in receipts] == [Cancelled("stop")] * 5
    assert handler.texts == ["0"]


@simulated
async def test_trap_9_what_fails_for_good_does_not_wedge_its_conversation() -> None:
    async def handler(turn: Turn) -> str:
        if turn.text == "poison":
            raise Permanent("never")
        if turn.text == "outage" and trio.current_time() < 60:
            raise Busy(retry_after=1)
        return turn.text

    recorder = Recorder(handler)
    retry = RetryPolicy(attempts=3, base=0, cap=1)
    async with opened(recorder, retry=retry, **PATIENT) as manager:
        texts = ("poison", "outage", "behind")
        receipts = [manager.submit_nowait(say(text)) for text in texts]
        assert [(await receipt.outcome()).name for receipt in receipts] == ["failed", "replied", "replied"]
        assert [letter.message.text for letter in manager.dead_letters() if letter.message] == ["poison"]
    assert Counter(recorder.texts)["poison"] == 1


@pytest.mark.parametrize("policy", list(OnBusy))
@simulated
async def test_trap_10_what_waits_behind_a_turn_that_times_out_is_not_forgotten(policy: OnBusy) -> None:
    async def handler(turn: Turn) -> str:
        if turn.text == "hangs":
            await trio.sleep_forever()
        return turn.text

    recorder = Recorder(handler)
    retry = RetryPolicy(attempts=2, base=0)
    async with opened(recorder, timeout=2, retry=retry, drain=100) as manager:
        hangs = manager.submit_nowait(say("hangs"))
        await trio.sleep(1)
        first = manager.submit_nowait(say("first"))
        if policy is not OnBusy.REJECT:
            await manager.ask(say("last", on_busy=policy))
        else:
            await first.outcome()
        assert (await hangs.outcome()).name in ("failed", "superseded")
        await manager.wait_idle()
    assert recorder.texts[-1] in ("first", "last", "first\nlast")


def test_trap_13_no_feature_switches_another_off() -> None:
    """See `test_pairwise.py`: every policy meets every way to retry, to read, to cancel and to overflow."""
    assert set(FEATURES) >= {"policy", "retry", "how", "cancel", "drain", "overflow", "storage", "preempt"}
    assert FEATURES["policy"] == list(OnBusy)


@simulated
async def test_trap_14_a_steady_typist_does_not_postpone_a_merged_turn_for_ever() -> None:
    handler = Recorder()
    async with opened(handler, on_busy="merge", settle=2, max_settle=10.5, **PATIENT) as manager:
        for second in range(30):
            await trio.sleep_until(second)
            manager.submit_nowait(say("."))
        await manager.wait_idle()
    assert [at for at, _ in handler.starts] == [10.5, 21.5, 31]


@simulated
async def test_trap_16_the_history_is_in_order_after_interruptions() -> None:
    last: list[tuple[str, str]] = []

    async def handler(turn: Turn) -> None:
        last[:] = [(entry.role, entry.text) for entry in await turn.history()]
        await turn.send(f"answer {turn.text}")
        await trio.sleep(1)

    async with opened(handler, **PATIENT) as manager:
        for number, policy in enumerate([OnBusy.INTERRUPT, OnBusy.ENQUEUE, OnBusy.INTERRUPT] * 2):
            manager.submit_nowait(say(str(number), on_busy=policy))
            await trio.sleep(0.5)
        await manager.wait_idle()
        await manager.ask(say("end"))
    said = [(int(text.split()[-1]), role == "assistant") for role, text in last[:-1]]
    assert said == sorted(set(said))  # of each turn the question, then the answer, as far as it came
    assert {(0, False), (0, True), (5, False), (5, True)} <= set(said)


@simulated
async def test_trap_18_a_spammer_cannot_be_limited_out_of_moderation() -> None:
    router, moderated = Router(), []

    @router.route("moderation", when=matches("spam"), ordered=False, answers=False, rate_limited=False)
    async def moderate(turn: Turn) -> None:
        moderated.append(turn.text)

    router.route("chat", busy=OnBusy.INTERRUPT)(takes(1))
    async with opened(router, rate_limit=RateLimit(2, per=10), **PATIENT) as manager:
        for number in range(10):
            try:
                manager.submit_nowait(say(f"spam {number}"))
            except RateLimited:
                assert number >= 2
        await manager.wait_idle()
        assert manager.statistics().rejected == {"rate_limited": 8}
    assert sorted(moderated) == [f"spam {number}" for number in range(10)]


@pytest.mark.parametrize("policy", list(OnBusy))
@pytest.mark.parametrize("preempt", [False, True])
@simulated
async def test_trap_23_an_urgent_message_is_handled_once(policy: OnBusy, preempt: bool) -> None:
    handled: Counter[Message] = Counter()

    async def handler(turn: Turn) -> str:
        await trio.sleep(1)
        handled.update(turn.messages)
        return turn.text

    settings: dict[str, Any] = {"limit": 1, "headroom": {}, "preempt": preempt, **PATIENT}
    async with opened(handler, on_busy=policy, **settings) as manager:
        for key in "abc":
            manager.submit_nowait(say("low", key, priority=LOW))
        await trio.sleep(0.5)
        urgent = [say("urgent", key, priority=CRITICAL) for key in "bd"]
        receipts = [manager.submit_nowait(m) for m in urgent if policy is not OnBusy.REJECT or m != urgent[0]]
        for receipt in receipts:
            assert (await receipt.outcome()).name in ("replied", "merged")
        await manager.wait_idle()
    assert set(handled.values()) == {1}


@simulated
async def test_trap_24_a_context_belongs_to_a_conversation_and_not_to_a_user() -> None:
    """See `test_context.py`."""

    async def load(turn: Turn) -> str:
        return f"secret of {turn.message.conversation}"

    async def handler(turn: Turn) -> str:
        return await turn.context("profile", load)

    async with opened(handler) as manager:
        replies = [(await manager.ask(say(conversation=key, user="ada"))).text for key in "abab"]
    assert replies == ["secret of a", "secret of b"] * 2


@pytest.mark.parametrize("why", ["retry", "time-out"])
@simulated
async def test_trap_25_a_handler_is_told_that_it_may_repeat_a_side_effect(why: str) -> None:
    charged: Counter[int] = Counter()
    attempts = []

    async def handler(turn: Turn) -> str:
        attempts.append((turn.id, turn.attempt))
        if turn.attempt == 1 or turn.id not in charged:
            charged[turn.id] += 1
        if turn.attempt == 1:
            if why == "retry":
                raise ConnectionError("the answer got lost")
            await trio.sleep_forever()
        return "done"

    async with opened(handler, timeout=2, retry=RetryPolicy(attempts=3, base=0)) as manager:
        receipt = manager.submit_nowait(say())
        assert isinstance(await receipt.outcome(), Replied)
    assert attempts == [(receipt.turn_id, 1), (receipt.turn_id, 2)]
    assert charged == {receipt.turn_id: 1}
