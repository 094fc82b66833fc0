"""`turn.limit` in other blocks, in branches, and where it does not belong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from ccm import AdaptiveLimit, HandlerFailed, ProviderLimit, Turn

from ..manager.kit import opened, say, simulated
from .test_limits import ONCE, ONE, figures

TWO = {"a": ProviderLimit(2), "b": ProviderLimit(2)}


async def outcome_of(use: Callable[[Turn], Awaitable[Any]]) -> str:
    """What a handler gets that uses its turn like this."""

    async def handler(turn: Turn) -> str:
        try:
            await use(turn)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "ok"

    async with opened(handler, provider_limits=TWO) as manager:
        reply = str(await manager.ask(say()))
        assert [provider.used for provider in manager.statistics().providers.values()] == [0, 0]
        return reply


async def nest(turn: Turn, *keys: str) -> None:
    if keys:
        async with turn.limit(keys[0]):
            await trio.sleep(0.5)
            await nest(turn, *keys[1:])


async def takes_a(turn: Turn) -> None:
    await nest(turn, "a")


async def takes_b(turn: Turn) -> None:
    await nest(turn, "b")


async def takes_both(turn: Turn) -> None:
    await nest(turn, "a", "b")


async def takes_both_wrongly(turn: Turn) -> None:
    await nest(turn, "b", "a")


async def takes_one_twice(turn: Turn) -> None:
    await nest(turn, "a", "a")


@simulated
async def test_blocks_are_nested_in_the_order_of_the_names() -> None:
    assert await outcome_of(takes_both) == "ok"
    assert await outcome_of(takes_both_wrongly) == (
        "RuntimeError: limit 'a' was asked for inside the block of 'b'; ask in the order of the names, 'a' "
        "first: else turns could wait for each other for ever"
    )
    reply = await outcome_of(takes_one_twice)
    assert reply.startswith("RuntimeError: limit 'a' was asked for inside its own block")


@simulated
async def test_tasks_inherit_what_their_turn_is_in_and_siblings_do_not() -> None:
    async def inherits(turn: Turn) -> None:
        async with turn.limit("b"):
            found = await turn.gather(a=takes_a)
            assert "inside the block of 'b'" in str(found.errors["a"])

    async def siblings(turn: Turn) -> None:
        found = await turn.gather(x=takes_both, y=takes_b, z=takes_b)
        assert not found.errors

    async def outlives(turn: Turn) -> None:
        """A block that has been left does not count, also not for a task that was started in it."""
        async with trio.open_nursery() as nursery:
            async with turn.limit("b"):
                nursery.start_soon(late, turn)
            await nest(turn, "a")

    async def late(turn: Turn) -> None:
        await trio.sleep(0.25)
        await nest(turn, "a", "b")

    for use in (inherits, siblings, outlives):
        assert await outcome_of(use) == "ok"


@simulated
async def test_a_worker_that_was_started_in_a_block_is_not_in_it() -> None:
    """Tasks inherit the context of whoever starts them: here of another turn."""

    async def handler(turn: Turn) -> str:
        if turn.text == "outer":
            async with turn.limit("b"):
                return str(await manager.ask(say("inner", "other")))
        await nest(turn, "a", "b")
        return "ok"

    async with opened(handler, provider_limits=TWO) as manager:
        assert str(await manager.ask(say("outer"))) == "ok"
        assert str(await manager.ask(say("again", "third"))) == "ok"


@simulated
async def test_misuse_is_named() -> None:
    async def unknown(turn: Turn) -> None:
        turn.limit("c")

    async def twice(turn: Turn) -> None:
        block = turn.limit("a")
        for _ in range(2):
            async with block:
                await trio.lowlevel.checkpoint()

    assert await outcome_of(unknown) == (
        """KeyError: "no limit 'c'; known: 'a', 'b'; Config.provider_limits names them\""""
    )
    assert await outcome_of(twice) == (
        "RuntimeError: this block of limit 'a' was used before; call turn.limit() each time"
    )


@simulated
async def test_a_turn_that_has_ended_gets_no_permit() -> None:
    turns: list[Turn] = []
    blocks: list[Any] = []

    async def handler(turn: Turn) -> str:
        turns.append(turn)
        blocks.append(turn.limit("a"))
        await trio.lowlevel.checkpoint()
        return "ok"

    async with opened(handler, provider_limits=TWO) as manager:
        await manager.ask(say())
        with pytest.raises(RuntimeError, match="this attempt of turn 1 is over"):
            turns[0].limit("a")
        with pytest.raises(RuntimeError, match="this attempt of turn 1 is over"):
            async with blocks[0]:
                pass


@simulated
async def test_without_limits_there_are_none() -> None:
    async def handler(turn: Turn) -> str:
        with pytest.raises(KeyError, match="no limit 'p'; known: none"):
            turn.limit("p")
        await trio.lowlevel.checkpoint()
        return "ok"

    async with opened(handler) as manager:
        await manager.ask(say())
        assert dict(manager.statistics().providers) == {}


@simulated
async def test_a_time_out_while_waiting_inside_another_block_is_nobodys_fault() -> None:
    async def handler(turn: Turn) -> str:
        if turn.text == "inner":
            async with turn.limit("p"):
                await trio.sleep(9.0)
        else:
            async with turn.limit("a"), turn.limit("p"):
                pass
        return ""

    limits = ONE | {"a": ProviderLimit(9, adaptive=AdaptiveLimit())}
    async with opened(handler, provider_limits=limits, timeout=10.0, retry=ONCE) as manager:
        await manager.submit(say("inner", "1", "1"))
        await manager.submit(say("inner", "2", "2"))
        await trio.sleep(0.5)
        with pytest.raises(HandlerFailed):
            await manager.ask(say("outer", "3", "3"))
        assert trio.current_time() == 10.5
        assert (figures(manager, "a").timeouts, figures(manager, "a").limit) == (0, 9)


@simulated
async def test_a_turn_that_holds_a_permit_times_out_although_a_task_of_it_waits() -> None:
    """Else it could wait for itself for ever."""

    async def holds(turn: Turn) -> None:
        async with turn.limit("p"):
            await trio.sleep_forever()

    async def waits(turn: Turn) -> None:
        await trio.sleep(0.5)
        async with turn.limit("p"):
            pass

    async def handler(turn: Turn) -> str:
        await turn.gather(holds=holds, waits=waits)
        return ""

    async with opened(handler, provider_limits=ONE, timeout=2.0, retry=ONCE) as manager:
        with pytest.raises(HandlerFailed):
            await manager.ask(say())
        assert trio.current_time() == 2.0
        assert (figures(manager).used, figures(manager).waiting, figures(manager).timeouts) == (0, 0, 1)
