"""`OnBusy.MERGE`: messages that share a turn, and what becomes of each when somebody leaves or it fails."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ccm import (
    CRITICAL,
    LOW,
    ConversationFull,
    Expired,
    Failed,
    HandlerFailed,
    Merged,
    OnBusy,
    Overflow,
    Permanent,
    Replied,
    RetryPolicy,
    Router,
    Shed,
    Turn,
    TurnCancelled,
)
from tests.manager.kit import Recorder, opened, say, simulated, takes

PATIENT: dict[str, Any] = {"drain": 1000, "timeout": 500}


# -- merge -----------------------------------------------------------------------------------------------


@simulated
async def test_merge_joins_the_turn_that_waits() -> None:
    handler = Recorder(takes(4))
    async with opened(handler, on_busy="merge", **PATIENT) as manager:
        first = manager.submit_nowait(say("1"))
        second, third = manager.submit_nowait(say("2")), manager.submit_nowait(say("3"))
        assert (await manager.ask(say("4"))).text == "re: 2\n3\n4"
        assert (await first.outcome()).name == "replied"
        replied = await second.outcome()
        assert isinstance(replied, Replied)
        assert replied.reply.text == "re: 2\n3\n4"
        assert await third.outcome() == Merged(2, replied.reply)
    assert handler.starts == [(0, "1"), (4, "2\n3\n4")]
    assert manager.statistics().conservation() == "4 received = 2 replied + 2 merged"


@simulated
async def test_settle_waits_for_quiet_and_max_settle_bounds_the_waiting() -> None:
    """Trap 14: someone who types every second cannot postpone the turn for ever."""
    # What is typed in the instant in which it starts may come before or after that: 3.75, not 4.
    handler = Recorder()
    async with opened(handler, on_busy="merge", settle=1.5, max_settle=3.75, **PATIENT) as manager:
        for second in range(10):
            await trio.sleep_until(second)
            manager.submit_nowait(say(f"{second}"))
        await manager.wait_idle()
    assert handler.starts == [(3.75, "0\n1\n2\n3"), (7.75, "4\n5\n6\n7"), (10.5, "8\n9")]


@simulated
async def test_a_turn_starts_when_it_has_been_quiet() -> None:
    handler = Recorder()
    async with opened(handler, on_busy="merge", settle=1.5, max_settle=9.0, **PATIENT) as manager:
        for at in (0, 1, 2):
            await trio.sleep_until(at)
            manager.submit_nowait(say(f"{at}"))
        await trio.sleep_until(8)
        await manager.ask(say("later"))
    assert handler.starts == [(3.5, "0\n1\n2"), (9.5, "later")]


@simulated
async def test_a_merged_turn_is_as_urgent_as_its_most_urgent_message() -> None:
    handler = Recorder(takes(4))
    async with opened(handler, on_busy="merge", limit=1, headroom={}, **PATIENT) as manager:
        manager.submit_nowait(say("runs", "x"))
        manager.submit_nowait(say("low", "a", priority=LOW))
        manager.submit_nowait(say("normal", "b"))
        manager.submit_nowait(say("help!", "a", priority=CRITICAL))
        assert manager.statistics().queues[CRITICAL].waiting == 1
        await manager.wait_idle()
    assert handler.texts == ["runs", "low\nhelp!", "normal"]


@simulated
async def test_an_urgent_message_that_joins_starts_the_turn_in_the_headroom() -> None:
    handler = Recorder(takes(4))
    async with opened(handler, on_busy="merge", limit=2, headroom={CRITICAL: 1}, **PATIENT) as manager:
        manager.submit_nowait(say("runs", "x"))
        manager.submit_nowait(say("low", "a", priority=LOW))
        await trio.sleep(1)
        manager.submit_nowait(say("help!", "a", priority=CRITICAL))
        await manager.wait_idle()
    assert handler.starts == [(0, "runs"), (1, "low\nhelp!")]


@simulated
async def test_messages_that_joined_count_in_the_bound_of_the_conversation() -> None:
    handler = Recorder(takes(4))
    async with opened(handler, on_busy="merge", conversation_limit=3, **PATIENT) as manager:
        manager.submit_nowait(say("runs"))
        for text in "abc":
            manager.submit_nowait(say(text))
        with pytest.raises(ConversationFull):
            manager.submit_nowait(say("one too many"))
        manager.submit_nowait(say("elsewhere", "d"))
        await trio.sleep(4)
        manager.submit_nowait(say("room again"))
        await manager.wait_idle()
    assert set(handler.texts) == {"runs", "elsewhere", "a\nb\nc", "room again"}


@simulated
async def test_messages_handed_to_a_turn_count_in_the_bound_of_the_conversation() -> None:
    async with opened(takes(4), on_busy="steer", conversation_limit=3, **PATIENT) as manager:
        manager.submit_nowait(say("runs"))
        for text in "abc":
            manager.submit_nowait(say(text))
        with pytest.raises(ConversationFull):
            manager.submit_nowait(say("one too many"))


@simulated
async def test_the_turn_of_another_route_is_not_joined() -> None:
    router, texts = Router(), []

    @router.route("first", when=lambda message: message.text.startswith("!"), busy=OnBusy.MERGE)
    async def first(turn: Turn) -> None:
        await trio.sleep(1)
        texts.append(("first", turn.text))

    @router.route("second", busy=OnBusy.MERGE)
    async def second(turn: Turn) -> None:
        texts.append(("second", turn.text))

    async with opened(router, **PATIENT) as manager:
        for text in ("!1", "!2", "3", "!4", "!5"):
            manager.submit_nowait(say(text))
        await manager.wait_idle()
    assert texts == [("first", "!1"), ("first", "!2"), ("second", "3"), ("first", "!4\n!5")]


@simulated
async def test_a_side_turn_neither_keeps_messages_from_merging_nor_is_interrupted() -> None:
    router, texts, noted = Router(), [], []

    @router.route("chat", busy=OnBusy.MERGE)
    async def chat(turn: Turn) -> None:
        texts.append(turn.text)
        await trio.sleep(2)

    @router.route("notes", answers=False)
    async def notes(turn: Turn) -> None:
        await trio.sleep(1)
        noted.append(turn.text)

    async with opened(router, **PATIENT) as manager:
        for text in "123":
            manager.submit_nowait(say(text))
        await trio.sleep(2.5)
        manager.submit_nowait(say("4", on_busy=OnBusy.INTERRUPT))
        await manager.wait_idle()
        assert manager.statistics().side_outcomes["replied"] == 4
    assert texts == ["1", "4"]
    assert sorted(noted) == ["1", "2", "3", "4"]


# -- merged turns and the people in them -----------------------------------------------------------------


class Ask:
    """Someone who asks, and may leave."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.got: object = None

    async def __call__(self, manager: Any, text: str) -> None:
        with self.scope:
            try:
                self.got = (await manager.ask(say(text))).text
            except (TurnCancelled, HandlerFailed, Expired, Shed) as error:
                self.got = error


@pytest.mark.parametrize("when", ["waiting", "running"])
@pytest.mark.parametrize("who", [0, 1, 2])
@simulated
async def test_one_who_leaves_does_not_take_the_others_answer_away(when: str, who: int) -> None:
    handler = Recorder(takes(2))
    people = [Ask() for _ in range(3)]
    async with opened(handler, on_busy="merge", **PATIENT) as manager, trio.open_nursery() as nursery:
        manager.submit_nowait(say("first"))
        for number, person in enumerate(people):
            await trio.sleep(0.125)
            nursery.start_soon(person, manager, str(number))
        await trio.sleep_until(1 if when == "waiting" else 3)
        people[who].scope.cancel()
    left = [str(number) for number in range(3) if when == "running" or number != who]
    assert handler.starts == [(0, "first"), (2, "\n".join(left))]
    reply = f"re: {chr(10).join(str(n) for n in range(3) if n != who)}"
    assert [person.got for person in people] == [None if n == who else reply for n in range(3)]
    counted = manager.statistics().outcomes
    assert (counted["replied"] + counted["merged"], counted["cancelled"]) == (3, 1)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("at", [1, 3])
@simulated
async def test_when_the_last_one_leaves_the_turn_ends(order: tuple[int, int], at: float) -> None:
    handler = Recorder(takes(2))
    people = [Ask(), Ask()]
    async with opened(handler, on_busy="merge", **PATIENT) as manager, trio.open_nursery() as nursery:
        manager.submit_nowait(say("first"))
        for number, person in enumerate(people):
            await trio.sleep(0.125)
            nursery.start_soon(person, manager, str(number))
        await trio.sleep_until(at)
        for number in order:
            people[number].scope.cancel()
    ends = [(when, how) for when, _, how in handler.ends]
    assert ends == [(2, "returned"), *([] if at == 1 else [(3, "cancelled")])]
    assert manager.statistics().conservation() == "3 received = 1 replied + 2 cancelled"


@simulated
async def test_the_heir_of_a_turn_keeps_its_place_and_the_urgency_of_those_who_stay() -> None:
    handler = Recorder(takes(2))
    person = Ask()
    async with opened(handler, on_busy="merge", limit=1, headroom={}, **PATIENT) as manager:
        async with trio.open_nursery() as nursery:
            manager.submit_nowait(say("first", "z"))
            nursery.start_soon(person, manager, "leaves")
            await trio.sleep(0.5)
            manager.submit_nowait(say("a"))
            manager.submit_nowait(say("b", priority=CRITICAL))
            manager.submit_nowait(say("own turn", on_busy=OnBusy.ENQUEUE))
            manager.submit_nowait(say("other", "y"))
            person.scope.cancel()
        assert manager.statistics().queues[CRITICAL].waiting == 1
        await manager.wait_idle()
    assert handler.texts == ["first", "a\nb", "other", "own turn"]


@simulated
async def test_a_merged_turn_that_fails_leaves_a_dead_letter_for_each_message() -> None:
    async def fails(turn: Turn) -> str:
        await trio.sleep(1)
        raise Permanent("no")

    async with opened(fails, on_busy="merge", **PATIENT) as manager:
        receipts = [manager.submit_nowait(say(text)) for text in "123"]
        outcomes = [await receipt.outcome() for receipt in receipts]
        assert [type(outcome) for outcome in outcomes] == [Failed] * 3
        letters = {letter.id: letter.message.text for letter in manager.dead_letters() if letter.message}
        assert [letters[o.dead_letter] for o in outcomes if isinstance(o, Failed)] == ["1", "2", "3"]
        assert len(letters) == 3


@pytest.mark.parametrize("why", ["failed", "expired", "shed"])
@simulated
async def test_the_fallback_answers_all_messages_of_a_merged_turn(why: str) -> None:
    async def handler(turn: Turn) -> str:
        await trio.sleep(4)
        raise Permanent("no")

    async def fallback(turn: Turn) -> str:
        return f"{turn.degraded}: {turn.text}"

    settings: dict[str, Any] = {"on_busy": "merge", "limit": 1, "headroom": {}, **PATIENT}
    if why == "expired":
        settings["max_wait"] = {LOW: 2}
    if why == "shed":
        settings |= {"queue_limit": 1, "overflow": Overflow.SHED_LOWEST}
    async with opened(handler, fallback=fallback, **settings) as manager:
        manager.submit_nowait(say("first"))
        host = manager.submit_nowait(say("a", priority=LOW))
        member = manager.submit_nowait(say("b", priority=LOW))
        if why == "shed":
            manager.submit_nowait(say("urgent", "d", priority=CRITICAL))
        replied = await host.outcome()
        assert isinstance(replied, Replied)
        assert replied.reply.text == f"{why}: a\nb"
        assert await member.outcome() == Merged(host.turn_id, replied.reply)
        letters = [letter.message.text for letter in manager.dead_letters() if letter.message]
        assert [text for text in letters if text in "ab"] == (["a", "b"] if why == "failed" else [])


@pytest.mark.parametrize("why", ["expired", "shed"])
@simulated
async def test_messages_of_a_turn_that_expires_or_is_shed_share_its_fate(why: str) -> None:
    settings: dict[str, Any] = {"on_busy": "merge", "limit": 1, "headroom": {}, **PATIENT}
    settings |= {"max_wait": {LOW: 2}, "queue_limit": 1, "overflow": Overflow.SHED_LOWEST}
    async with opened(takes(4), **settings) as manager:
        manager.submit_nowait(say("first"))
        receipts = [manager.submit_nowait(say(text, priority=LOW)) for text in "abc"]
        if why == "shed":
            manager.submit_nowait(say("urgent", "d", priority=CRITICAL))
        outcomes = [await receipt.outcome() for receipt in receipts]
        assert [outcome.name for outcome in outcomes] == [why] * 3
        assert trio.current_time() == (2 if why == "expired" else 0)


@simulated
async def test_a_merged_turn_is_tried_again_with_all_its_messages() -> None:
    async def fails_once(turn: Turn) -> str:
        await trio.sleep(1)
        if turn.text != "first" and turn.attempt == 1:
            raise ConnectionError
        return turn.text

    handler = Recorder(fails_once)
    retry = RetryPolicy(attempts=2, base=0)
    async with opened(handler, on_busy="merge", retry=retry, **PATIENT) as manager:
        receipts = [manager.submit_nowait(say(text)) for text in ("first", "a", "b")]
        assert [(await receipt.outcome()).name for receipt in receipts] == ["replied", "replied", "merged"]
    assert handler.texts == ["first", "a\nb", "a\nb"]


@simulated
async def test_a_reply_of_a_merged_turn_is_delivered_once_to_somebody_who_does_not_wait() -> None:
    delivered = []

    async def deliver(reply: Any, message: Any) -> None:
        delivered.append((message.text, reply.text))

    async with (
        opened(takes(2), deliver=deliver, on_busy="merge", **PATIENT) as manager,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(manager.ask, say("first"))
        await trio.sleep(0.5)
        nursery.start_soon(manager.ask, say("a"))
        await trio.sleep(0.5)
        manager.submit_nowait(say("b"))
        manager.submit_nowait(say("c"))
    assert delivered == [("b", "re: a\nb\nc")]
