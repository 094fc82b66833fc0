"""Handlers that break the rules: nothing they do loses a message, a slot, or another conversation's turn."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import trio

from ccm import Config, Failed, HandlerFailed, Outcome, RetryPolicy, Turn, open_manager

from .kit import Recorder, check_closed, echo, opened, say, simulated

ONCE = RetryPolicy(attempts=1)


class OwnBase(BaseException):
    """What no handler may raise."""


# -- handlers that are none ----------------------------------------------------------------------


def plain(turn: Turn) -> str:
    return "hello"


NO_HANDLERS = {
    "plain function": plain,
    "lambda": lambda turn: echo(turn),
    "async generator": inspect.unwrap(open_manager),
    "none": None,
    "text": "echo",
    "number": 42,
    "builtin": print,
    "class of handlers": Recorder,
}


@pytest.mark.parametrize("handler", NO_HANDLERS.values(), ids=NO_HANDLERS.keys())
@simulated
async def test_a_handler_that_is_not_async_is_refused(handler: Any) -> None:
    with pytest.raises(TypeError, match="handler must be an async function taking a turn, got"):
        async with open_manager(handler):
            raise AssertionError
    bad: Any = handler or plain  # None is a good fallback, it means none
    with pytest.raises(TypeError, match="fallback must be an async function"):
        async with open_manager(echo, fallback=bad):
            raise AssertionError
    with pytest.raises(TypeError, match="deliver must be an async function"):
        async with open_manager(echo, deliver=bad):
            raise AssertionError


# -- wrong answers -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [42, b"bytes", ["a"], {"text": "a"}, True, 0, ""[:0].encode()], ids=repr)
@simulated
async def test_a_handler_that_returns_no_string_fails_without_a_retry(value: Any) -> None:
    async def act(turn: Turn) -> Any:
        return value if turn.text == "bad" else "fine"

    handler = Recorder(act)
    async with opened(handler) as manager:
        with pytest.raises(HandlerFailed) as caught:
            await manager.ask(say("bad"))
        assert isinstance(caught.value.__cause__, TypeError)
        assert f"the handler of route 'chat' returned {value!r}" in str(caught.value.__cause__)
        assert len(handler.starts) == 1
        assert len(manager.dead_letters()) == 1
        assert str(await manager.ask(say("good"))) == "fine"


# -- exceptions ----------------------------------------------------------------------------------


@simulated
async def test_an_error_in_one_conversation_leaves_the_others_alone() -> None:
    async def act(turn: Turn) -> str:
        await trio.sleep(1)
        if turn.text == "bad":
            raise ValueError
        return turn.text

    async with opened(act, retry=ONCE) as manager:
        bad = [manager.submit_nowait(say("bad", f"bad {n}")) for n in range(10)]
        good = [manager.submit_nowait(say("good", f"good {n}")) for n in range(10)]
        assert {(await receipt.outcome()).name for receipt in good} == {"replied"}
        assert {(await receipt.outcome()).name for receipt in bad} == {"failed"}
        assert trio.current_time() == 1


async def ask_outside(base: BaseException, told: list[BaseException | None]) -> None:
    """Open a manager whose handler raises `base`; somebody outside its block asks."""

    async def handler(turn: Turn) -> str:
        await trio.sleep(1)
        raise base

    async def ask() -> None:
        try:
            await manager.ask(say("crashes"))
        except HandlerFailed as error:
            told.append(error.__cause__)

    async with trio.open_nursery() as nursery:
        try:
            config = Config(debug=True, rate_limit=None)
            async with open_manager(handler, config=config) as manager:
                nursery.start_soon(ask)
                await trio.sleep_forever()
        finally:
            check_closed(manager)


@pytest.mark.parametrize("kind", [OwnBase, KeyboardInterrupt, SystemExit, GeneratorExit])
@simulated
async def test_a_base_exception_ends_the_manager_loudly(kind: type[BaseException]) -> None:
    """It comes out of the block as it is, and whoever asked is told."""
    told: list[BaseException | None] = []
    base = kind("from the handler")
    caught: BaseException | None = None
    try:
        await ask_outside(base, told)
    except BaseExceptionGroup as group:  # of the nursery around it
        (caught,) = group.exceptions
    assert caught is base
    assert told == [base]
    assert trio.current_time() == 1


@simulated
async def test_a_base_exception_reaches_whoever_asks_inside_the_block() -> None:
    async def handler(turn: Turn) -> str:
        raise OwnBase("from the handler")

    async def program() -> None:
        async with open_manager(handler) as manager:
            await manager.ask(say())

    with pytest.raises(OwnBase, match="from the handler"):
        await program()


@simulated
async def test_a_crash_gives_every_other_turn_its_outcome() -> None:
    outcomes: list[Outcome] = []

    async def handler(turn: Turn) -> str:
        await trio.sleep(1)
        if turn.text == "crashes":
            raise OwnBase
        await trio.sleep(100)
        return ""

    async def program() -> None:
        try:
            config = Config(limit=2, headroom={}, debug=True)
            async with open_manager(handler, config=config) as manager:
                for key in ("runs", "crashes", "waits"):
                    receipts.append(await manager.submit(say(key, key)))
                await trio.sleep_forever()
        finally:
            check_closed(manager)

    receipts: list[Any] = []
    with pytest.raises(OwnBase):
        await program()
    outcomes = [await receipt.outcome() for receipt in receipts]
    assert [outcome.name for outcome in outcomes] == ["cancelled", "failed", "cancelled"]
    assert isinstance(outcomes[1], Failed)
    assert isinstance(outcomes[1].exception, OwnBase)
    assert trio.current_time() == 1


@simulated
async def test_a_crash_in_deliver_ends_the_manager_too() -> None:
    async def deliver(reply: object, message: object) -> None:
        raise OwnBase

    async def program() -> None:
        async with open_manager(echo, deliver=deliver) as manager:
            await manager.submit(say())
            await trio.sleep_forever()

    with pytest.raises(OwnBase):
        await program()
