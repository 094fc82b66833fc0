"""`stop` reaches those who wait at the door, and nothing that does not answer the conversation."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from ccm import CRITICAL, Cancelled, Message, Overflow, Router, Stopped, Turn, TurnCancelled
from tests.manager.kit import Gate, Recorder, opened, say, simulated, takes

FULL: dict[str, Any] = {"limit": 1, "queue_limit": 1, "overflow": Overflow.WAIT, "drain": 1000}


async def sent(call: Any, message: Message, told: list[str]) -> None:
    try:
        await call(message)
    except TurnCancelled as stopped:
        told.append(f"{message.text} {stopped.by} at {trio.current_time():g}")
    else:
        told.append(message.text)


@pytest.mark.parametrize("method", ["ask", "submit"])
@simulated
async def test_senders_that_wait_for_room_are_sent_away(method: str) -> None:
    """Trap 8: else the first of them would start as soon as the rest has been cleared."""
    handler = Recorder(takes(10))
    told: list[str] = []
    async with opened(handler, **FULL) as manager, trio.open_nursery() as nursery:
        running, waiting = manager.submit_nowait(say("1")), manager.submit_nowait(say("2"))
        for message in (say("3"), say("other", "d"), say("4")):
            nursery.start_soon(sent, getattr(manager, method), message, told)
            await trio.testing.wait_all_tasks_blocked()
        assert manager.statistics().senders == 3
        assert await manager.stop("c") == Stopped(waiting=3, running=1, stuck=0)
        assert [await r.outcome() for r in (running, waiting)] == [Cancelled("stop")] * 2
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(told)[:2] == ["3 stop at 0", "4 stop at 0"]
        assert manager.statistics().senders == 0
        manager.statistics().check()
    assert handler.texts == ["1", "other"]
    assert manager.statistics().conservation() == "5 received = 1 replied + 4 cancelled"


@simulated
async def test_side_turns_go_on() -> None:
    """Nobody gets out of being moderated by saying stop."""
    gate, chat = Gate(), Recorder(takes(10))
    router = Router()
    seen: list[str] = []

    @router.route("moderation", priority=CRITICAL, ordered=False, answers=False)
    async def moderate(turn: Turn) -> None:
        await gate(turn)
        seen.append(turn.text)

    router.route("log", answers=False)(Recorder(takes(1)))
    router.route("chat")(chat)
    async with opened(router, limit=3, drain=1000) as manager:
        receipts = [manager.submit_nowait(say(text)) for text in ("bad", "worse")]
        await trio.sleep(0.5)
        stopped = await manager.stop("c")
        assert [await receipt.outcome() for receipt in receipts] == [Cancelled("stop")] * 2
        gate.open()
    assert stopped.running + stopped.waiting == 2
    assert sorted(seen) == ["bad", "worse"]
    assert manager.statistics().side_outcomes["replied"] == 4
