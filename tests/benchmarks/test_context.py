"""What caching contexts saves, on virtual time: the figures that the documentation states."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

import ccm
from benchmarks import context
from ccm.testing import simulate


def test_generated_traffic_saves_seven_of_ten_loader_calls() -> None:
    arrivals = context.generated(3000)
    calls = context.count(arrivals)
    assert sum(calls.values()) <= 0.3 * 3 * len(arrivals)
    assert calls == context.count(arrivals), "counts do not depend on the machine"


def test_without_a_cache_every_context_is_loaded() -> None:
    arrivals = context.generated(200)
    assert context.count(arrivals, ttl=0.0) == pytest.approx({"person": 200, "conversation": 400}, rel=0.02)


def test_chat_logs_are_read_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "day.log").write_text("[10:00] <ada> hello\nnonsense\n[10:01] <grace> ada: hi\n" * 3)
    monkeypatch.setenv(context.LOGS, str(tmp_path))
    assert [arrival.message.user for arrival in context.chat(3)] == ["ada", "grace", "ada"]
    assert context.wanted(100) == 18
    monkeypatch.setenv(context.LOGS, str(tmp_path / "nowhere"))
    assert len(context.chat(100)) == 100


def test_a_warm_turn_is_three_times_as_fast_even_with_an_answer_of_20_ms() -> None:
    assert simulate(_seconds, None) * 3 <= simulate(_seconds, 0.0)


async def _seconds(ttl: float | None) -> float:
    """Seconds of the second turn of one person, its answer included."""
    loaders = context.Loaders(ttl)

    async def handler(turn: ccm.Turn) -> None:
        await loaders(turn)
        await trio.sleep(0.02)

    async with ccm.open_manager(handler) as manager:
        await manager.ask(ccm.Message("c", "ada", "hello"))
        start = trio.current_time()
        await manager.ask(ccm.Message("c", "ada", "hello"))
        return trio.current_time() - start
