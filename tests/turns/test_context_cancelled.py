"""`turn.context`: callers that are cancelled harm no other, and misuse is named."""

from __future__ import annotations

import itertools
from math import nan
from typing import Any

import pytest
import trio

import ccm
from ccm import HandlerFailed, Permanent, Router, Turn
from ccm.testing import CancelAt, simulate

from ..manager.kit import opened, simulated
from .contexts import ONCE, Loader, asks, cache_of, check_quiet, text

# -- cancellation --------------------------------------------------------------------------------


@simulated
async def test_a_waiter_takes_over_when_the_loading_caller_is_cancelled() -> None:
    load = Loader()
    got: dict[str, str] = {}

    async def handler(turn: Turn) -> str:
        scope = trio.CancelScope()

        async def first() -> None:
            with scope:
                got["first"] = await turn.context("profile", load)

        async def later(name: str, after: float) -> None:
            await trio.sleep(after)
            got[name] = await turn.context("profile", load)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            nursery.start_soon(later, "second", 0.1)
            nursery.start_soon(later, "third", 0.2)
            await trio.sleep(0.5)
            scope.cancel()
        return ""

    async with opened(handler) as manager:
        await text(manager)
        assert trio.current_time() == 1.5
        assert got == {"second": "value 2", "third": "value 2"}
        assert load.ends == ["cancelled", "returned"]
        assert manager.statistics().cache.takeovers == 1
        check_quiet(manager)


@simulated
async def test_a_loader_that_makes_an_error_of_its_cancellation_harms_nobody_else() -> None:
    load = Loader()

    async def fragile(turn: Turn) -> str:
        try:
            return await load(turn)
        except trio.Cancelled:
            raise OSError("connection lost") from None  # noqa: ASYNC104 - a bad loader

    errors: list[str] = []
    got: list[str] = []

    async def first(turn: Turn) -> None:
        with trio.move_on_after(0.5):
            try:
                await turn.context("profile", fragile)
            except OSError as error:
                errors.append(str(error))

    async def second(turn: Turn) -> None:
        await trio.sleep(0.1)
        got.append(await turn.context("profile", load))

    async def handler(turn: Turn) -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first, turn)
            nursery.start_soon(second, turn)
        return ""

    async with opened(handler) as manager:
        await text(manager)
        assert trio.current_time() == 1.5
        check_quiet(manager)
    assert (errors, got) == (["connection lost"], ["value 2"])


@simulated
async def test_a_time_out_of_the_turn_ends_its_load() -> None:
    load = Loader(100)
    async with opened(asks(load), timeout=2, retry=ONCE) as manager:
        with pytest.raises(HandlerFailed):
            await text(manager)
        assert trio.current_time() == 2
        assert load.ends == ["cancelled"]
        check_quiet(manager)


@pytest.mark.parametrize("victim", range(4))
@pytest.mark.parametrize("failing", [False, True])
def test_cancelling_any_caller_at_any_step_harms_no_other(victim: int, failing: bool) -> None:
    """G10: three branches of a turn and another route want one context; one of them is cancelled."""
    for n in itertools.count(1):
        scopes = [trio.CancelScope() for _ in range(4)]
        cancel = CancelAt(n, scopes[victim])
        simulate(_four_callers, scopes, victim, failing, cancel, seed=n)
        if not cancel.fired:
            break
    assert n > 20, "or there was nothing to cancel"


async def _four_callers(scopes: list[trio.CancelScope], victim: int, failing: bool, cancel: CancelAt) -> None:
    load = Loader()
    load.failing = failing
    got: dict[int, str] = {}

    async def call(turn: Turn, number: int) -> None:
        with scopes[number]:
            await trio.sleep(number // 2 * 0.25)
            try:
                got[number] = await turn.context("profile", load)
            except Permanent:
                got[number] = "error"

    async def three(turn: Turn) -> str:
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(call, turn, number)
        return ""

    async def fourth(turn: Turn) -> str:
        await call(turn, 3)
        return ""

    router = Router()
    router.route("watch", answers=False, ordered=False)(fourth)
    router.route("chat")(three)
    async with opened(router) as manager:
        with cancel:
            await text(manager)
            await manager.wait_idle()
        check_quiet(manager)
        manager.invalidate(prefix="")
        assert not cache_of(manager)._conversations
    others = {number for number in range(4) if number != victim}
    assert set(got) >= others
    assert len({got[number] for number in others}) == 1
    assert load.peak <= 1, "never two loads of one value at a time"
    assert load.calls <= 2


@simulated
async def test_a_hit_is_a_checkpoint_for_cancellation() -> None:
    load = Loader()

    async def handler(turn: Turn) -> str:
        await turn.context("profile", load)
        for _ in range(3):
            await turn.context("profile", load)
            with trio.CancelScope() as scope:
                scope.cancel()
                await turn.context("profile", load)
            assert scope.cancelled_caught
        return ""

    async with opened(handler) as manager:
        await text(manager)


@simulated
async def test_a_loop_over_hits_lets_others_run() -> None:
    load = Loader(0.0)

    async def handler(turn: Turn) -> str:
        ran = trio.Event()

        async def other() -> None:
            ran.set()
            await trio.lowlevel.checkpoint()

        await turn.context("profile", load)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            hits = 0
            while not ran.is_set():
                await turn.context("profile", load)
                hits += 1
                assert hits <= 64
        return ""

    async with opened(handler) as manager:
        await text(manager)


# -- misuse --------------------------------------------------------------------------------------


@simulated
async def test_loaders_that_need_each_other_are_an_error_not_a_deadlock() -> None:
    async def a(turn: Turn) -> str:
        await trio.sleep(1)
        return await turn.context("b", b)

    async def b(turn: Turn) -> str:
        await trio.sleep(1)
        return await turn.context("a", a)

    async def handler(turn: Turn) -> str:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn.context, "a", a)
            nursery.start_soon(turn.context, "b", b)
        return ""

    async def alone(turn: Turn) -> str:
        return await turn.context("a", a)

    for fn in (handler, alone):
        async with opened(fn, retry=ONCE) as manager:
            with pytest.raises(HandlerFailed) as caught:
                await text(manager)
            assert "whose load waits for it" in _all_text(caught.value.__cause__)
            check_quiet(manager)


def _all_text(error: BaseException | None) -> str:
    if isinstance(error, BaseExceptionGroup):
        return " ".join(map(_all_text, error.exceptions))
    return str(error)


def _sync(turn: Turn) -> str:
    return "value"


@pytest.mark.parametrize(
    ("name", "loader", "ttl", "what"),
    [
        ("", Loader(), None, "name must be a non-empty string, got ''"),
        (7, Loader(), None, "name must be a non-empty string, got 7"),
        ("profile", _sync, None, "loader of context 'profile' returned 'value'"),
        ("profile", Loader(), -1, "ttl must be seconds >= 0 or None, got -1"),
        ("profile", Loader(), nan, "ttl must be seconds >= 0 or None, got nan"),
        ("profile", Loader(), "1", "ttl must be seconds >= 0 or None, got '1'"),
    ],
)
@simulated
async def test_wrong_arguments_are_named(name: Any, loader: Any, ttl: Any, what: str) -> None:
    async def handler(turn: Turn) -> str:
        with pytest.raises((TypeError, ValueError)) as caught:
            await turn.context(name, loader, ttl=ttl)
        assert what in str(caught.value)
        return ""

    async with opened(handler) as manager:
        await text(manager)
        check_quiet(manager)
        assert manager.statistics().outcomes["replied"] == 1


def test_the_types_of_loaders_pass_through() -> None:
    """Checked by mypy; never run."""

    async def load(turn: ccm.Turn) -> dict[str, int]:
        return {}

    async def handler(turn: ccm.Turn) -> str:
        number: int = (await turn.context("counts", load))["a"]
        return str(number)

    assert callable(handler)
