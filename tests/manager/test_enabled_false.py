"""`Config.enabled=False`: every message goes straight to its handler, through the same API."""

from __future__ import annotations

import pytest
import trio

from ccm import (
    Config,
    Draining,
    HandlerFailed,
    RateLimit,
    Replied,
    RetryPolicy,
    Router,
    Turn,
    open_manager,
)

from .kit import Recorder, check_closed, echo, opened, say, simulated, takes


@simulated
async def test_nothing_queues_not_even_in_one_conversation() -> None:
    handler = Recorder(takes(1))
    async with opened(handler, enabled=False, limit=1, conversation_limit=1, queue_limit=1) as manager:
        receipts = [manager.submit_nowait(say(f"{n}")) for n in range(100)]
        assert {receipt.position for receipt in receipts} == {0}
        assert manager.statistics().running == 100
        for receipt in receipts:
            assert isinstance(await receipt.outcome(), Replied)
        assert trio.current_time() == 1
    assert handler.peak == 100


@simulated
async def test_nothing_is_limited() -> None:
    settings = Config(enabled=False, rate_limit=RateLimit(1, per=1000), max_sessions=1, debug=True)
    async with open_manager(takes(1), config=settings) as manager:
        for n in range(50):
            await manager.submit(say("hi", f"{n}"))
        assert manager.statistics().rejected == {}
    check_closed(manager)


@simulated
async def test_the_api_is_the_same() -> None:
    async with opened(echo, enabled=False) as manager, manager.events() as stream:
        assert str(await manager.ask(say())) == "re: hello"
        receipt = await manager.submit(say("hi"))
        assert isinstance(await receipt.outcome(), Replied)
        session = manager.session("c")
        assert session is not None
        assert session.messages == 2
        statistics = manager.statistics()
        statistics.check()
        assert statistics.outcomes["replied"] == 2
        await manager.drain()
        with pytest.raises(Draining):
            await manager.submit(say("too late"))
        assert type(await anext(stream)).__name__ == "SessionStarted"


@simulated
async def test_errors_reach_whoever_asked_at_once() -> None:
    async def handler(turn: Turn) -> str:
        raise ValueError("as it was")

    recorder = Recorder(handler)
    async with opened(recorder, enabled=False, retry=RetryPolicy(attempts=5)) as manager:
        with pytest.raises(HandlerFailed) as caught:
            await manager.ask(say())
        assert isinstance(caught.value.__cause__, ValueError)
        assert len(recorder.starts) == 1
        assert trio.current_time() == 0


@simulated
async def test_routes_still_choose_the_handler() -> None:
    router = Router()
    router.route("sums", when=lambda message: "+" in message.text)(Recorder(takes(1)))
    router.route("chat")(echo)
    async with opened(router, enabled=False) as manager:
        assert str(await manager.ask(say("1+1"))) == "re: 1+1"
        assert set(manager.statistics().routes) == {"sums", "chat"}


@simulated
async def test_bad_input_is_still_refused() -> None:
    async with opened(echo, enabled=False, max_text=4) as manager:
        with pytest.raises(ValueError, match="text must be at most 4 bytes"):
            await manager.submit(say("hello"))
        assert manager.statistics().received == 0
