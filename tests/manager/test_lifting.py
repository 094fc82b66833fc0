"""An urgent message lifts its waiting conversation, and a slot that is free for it is taken at once (G7)."""

from __future__ import annotations

import trio

import ccm
from ccm.testing import simulate


def test_a_lifted_conversation_starts_at_once_in_a_reserved_slot() -> None:
    starts: list[tuple[float, str]] = []

    async def handler(turn: ccm.Turn) -> str:
        starts.append((trio.current_time(), turn.text))
        await trio.sleep(10)
        return ""

    async def main() -> None:
        config = ccm.Config(limit=2, headroom={ccm.HIGH: 1}, drain=100, debug=True)
        async with ccm.open_manager(handler, config=config) as manager:
            manager.submit_nowait(ccm.Message("a", "u", "runs"))
            manager.submit_nowait(ccm.Message("d", "v", "waits"))
            await trio.sleep(1)
            manager.submit_nowait(ccm.Message("d", "w", "urgent", priority=ccm.CRITICAL))

    simulate(main)
    assert starts[:2] == [(0.0, "runs"), (1.0, "waits")]
