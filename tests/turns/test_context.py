"""`turn.context`: fresh for a while, loaded once, never another conversation's, nobody harms others."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from math import inf, nan
from typing import Any

import pytest
import trio

import ccm
from ccm import ConversationManager, HandlerFailed, Permanent, RetryPolicy, Router, Turn
from ccm._core.cache import ContextCache
from ccm.testing import CancelAt, simulate

from ..manager.kit import Recorder, opened, say, simulated

ONCE = RetryPolicy(attempts=1)


class Loader:
    """Takes so many seconds and returns "value 1", "value 2", ...; notes its calls and how they ended."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.turns: list[Turn] = []
        self.ends: list[str] = []
        self.failing = False
        self.running = self.peak = 0

    async def __call__(self, turn: Turn) -> str:
        self.turns.append(turn)
        number = len(self.turns)
        self.running += 1
        self.peak = max(self.peak, self.running)
        how = "cancelled"
        try:
            await trio.sleep(self.seconds)
            how = "raised" if self.failing else "returned"
            if self.failing:
                raise Permanent(f"load {number} failed")
        finally:
            self.running -= 1
            self.ends.append(how)
        return f"value {number}"

    @property
    def calls(self) -> int:
        return len(self.turns)


def asks(loader: Loader, name: str = "profile", **options: Any) -> Callable[[Turn], Awaitable[str]]:
    """A handler that answers with the context."""

    async def handler(turn: Turn) -> str:
        return await turn.context(name, loader, **options)

    return handler


async def text(manager: ConversationManager, conversation: str = "c", user: str = "ada") -> str:
    return (await manager.ask(say("hello", conversation, user))).text


def cache_of(manager: ConversationManager) -> ContextCache:
    return manager._dispatcher.books.tools.contexts.cache


def check_quiet(manager: ConversationManager) -> None:
    """No load and no waiter is left."""
    cache = cache_of(manager)
    cache._check()
    assert not cache._waits
    assert all(slot in cache._lru for names in cache._conversations.values() for slot in names.values())


# -- fresh for a while ---------------------------------------------------------------------------


@simulated
async def test_a_value_is_loaded_once_and_then_there_at_once() -> None:
    load = Loader()
    async with opened(asks(load)) as manager:
        assert [await text(manager) for _ in range(3)] == ["value 1"] * 3
        assert trio.current_time() == 1.0
        cache = manager.statistics().cache
        assert (cache.misses, cache.hits, cache.size, cache.max) == (1, 2, 1, 5000)
        assert load.turns[0].text == "hello", "the loader gets the turn"


@pytest.mark.parametrize(
    ("settings", "options", "ttl"), [({}, {}, 120), ({"cache_ttl": 7}, {}, 7), ({}, {"ttl": 3.5}, 3.5)]
)
@simulated
async def test_a_value_is_fresh_for_exactly_its_ttl(
    settings: dict[str, Any], options: dict[str, Any], ttl: float
) -> None:
    load = Loader(0.0)
    async with opened(asks(load, **options), **settings) as manager:
        await text(manager)
        await trio.sleep_until(ttl - 2**-20)
        assert await text(manager) == "value 1"
        await trio.sleep_until(ttl)
        assert await text(manager) == "value 2"


@simulated
async def test_zero_always_loads_and_infinity_never_again() -> None:
    always, once = Loader(), Loader()

    async def handler(turn: Turn) -> str:
        return await turn.context("a", always, ttl=0) + await turn.context("b", once, ttl=inf)

    async with opened(handler, session_timeout=1e9) as manager:
        for _ in range(3):
            await text(manager)
            await trio.sleep(1_000)
    assert (always.calls, once.calls) == (3, 1)


@simulated
async def test_none_is_returned_and_not_kept() -> None:
    calls = []

    async def load(turn: Turn) -> None:
        calls.append(turn)
        await trio.lowlevel.checkpoint()

    async def handler(turn: Turn) -> str:
        nothing: object = await turn.context("profile", load)
        assert nothing is None
        return ""

    async with opened(handler) as manager:
        await text(manager)
        await text(manager)
        assert manager.statistics().cache.size == 0
    assert len(calls) == 2


@simulated
async def test_unused_it_costs_nothing_and_its_figures_are_zero() -> None:
    async with opened(Recorder()) as manager:
        await text(manager)
        assert manager.session("c")._entry.context is None  # type: ignore[union-attr]
        cache = manager.statistics().cache
        assert (cache.size, cache.hits, cache.misses, cache.errors, cache.hit_rate) == (0, 0, 0, 0, 0.0)


# -- whose it is ---------------------------------------------------------------------------------


@simulated
async def test_trap_24_a_context_is_never_served_for_another_conversation() -> None:
    """The same person in two conversations, with one name, one after the other and at the same time."""

    async def load(turn: Turn) -> str:
        await trio.sleep(1)
        return f"what {turn.message.conversation} knows of {turn.message.user}"

    async def handler(turn: Turn) -> str:
        return await turn.context("profile", load)

    async with opened(handler) as manager:
        answers: dict[str, set[str]] = {key: set() for key in "abc"}

        async def ask(key: str) -> None:
            answers[key].add(await text(manager, key, "ada"))

        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for key in "abcabc":
                    nursery.start_soon(ask, key)
        assert answers == {key: {f"what {key} knows of ada"} for key in "abc"}
        assert manager.statistics().cache.misses == 3


@pytest.mark.parametrize("how", ["expired", "evicted"])
@simulated
async def test_the_values_of_a_session_go_with_it(how: str) -> None:
    load = Loader(0.0)
    async with opened(asks(load, ttl=inf), session_timeout=10, max_sessions=1) as manager:
        await text(manager)
        assert manager.statistics().cache.size == 1
        if how == "expired":
            await trio.sleep(11)
        else:
            other = await manager.submit(say("hello", "other"))
            assert cache_of(manager)._conversations.keys() == set(), "at once, before the other's load"
            await other.outcome()
        cache = manager.statistics().cache
        assert (cache.size, cache.forgotten) == (how == "evicted", 1)
        if how == "expired":
            assert await text(manager) == "value 2", "the next session begins with nothing"
        check_quiet(manager)


@simulated
async def test_the_bound_is_of_all_conversations_together() -> None:
    load = Loader(0.0)
    async with opened(asks(load), cache_size=3) as manager:
        for key in "abcd":
            await text(manager, key)
        cache = manager.statistics().cache
        assert (cache.size, cache.max, cache.evictions) == (3, 3, 1)
        await text(manager, "d")
        assert load.calls == 4
        await text(manager, "a")
        assert load.calls == 5
        check_quiet(manager)


@simulated
async def test_a_turn_that_has_ended_gets_nothing() -> None:
    recorder = Recorder()
    load = Loader()
    async with opened(recorder) as manager:
        await text(manager)
        with pytest.raises(RuntimeError, match="has ended; call context"):
            await recorder.turns[0].context("profile", load)
    assert load.calls == 0


# -- loaded once ---------------------------------------------------------------------------------


def branches(
    count: int, name: str, loader: Loader, results: dict[int, str]
) -> Callable[[Turn], Awaitable[str]]:
    """A handler whose branches all want the context at the same time."""

    async def handler(turn: Turn) -> str:
        async def branch(number: int) -> None:
            results[number] = await turn.context(name, loader)

        async with trio.open_nursery() as nursery:
            for number in range(count):
                nursery.start_soon(branch, number)
        return ""

    return handler


@simulated
async def test_branches_of_a_turn_share_one_load() -> None:
    load = Loader()
    results: dict[int, str] = {}
    async with opened(branches(10, "profile", load, results)) as manager:
        await text(manager)
        assert trio.current_time() == 1.0
        cache = manager.statistics().cache
        assert (cache.misses, cache.coalesced, cache.hits, load.calls) == (1, 9, 0, 1)
        check_quiet(manager)
    assert results == dict.fromkeys(range(10), "value 1")


@simulated
async def test_routes_of_a_conversation_share_one_load() -> None:
    load = Loader()
    router = Router()
    router.route("watch", answers=False, ordered=False)(asks(load))
    router.route("chat")(asks(load))
    async with opened(router) as manager:
        assert await text(manager) == "value 1"
        await manager.wait_idle()
        assert load.calls == 1


@simulated
async def test_an_error_reaches_all_who_wait_and_is_not_kept() -> None:
    load = Loader()
    load.failing = True
    errors: list[str] = []

    async def handler(turn: Turn) -> str:
        async def branch() -> None:
            try:
                await turn.context("profile", load)
            except Permanent as error:
                errors.append(str(error))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(branch)
        load.failing = False
        return await turn.context("profile", load)

    async with opened(handler) as manager:
        assert await text(manager) == "value 2"
        assert errors == ["load 1 failed"] * 5
        assert manager.statistics().cache.errors == 1
        check_quiet(manager)


@simulated
async def test_an_error_is_the_handlers_own_with_its_type() -> None:
    load = Loader()
    load.failing = True
    async with opened(asks(load)) as manager:
        with pytest.raises(HandlerFailed) as caught:
            await text(manager)
        assert isinstance(caught.value.__cause__, Permanent)
        check_quiet(manager)


@simulated
async def test_an_expired_value_is_served_while_the_loader_fails() -> None:
    load = Loader(0.0)
    async with opened(asks(load), session_timeout=1e9, retry=ONCE) as manager:
        assert await text(manager) == "value 1"
        load.failing = True
        await trio.sleep_until(120 + 600 - 2**-10)
        assert await text(manager) == "value 1"
        cache = manager.statistics().cache
        assert (cache.errors, cache.stale) == (1, 1)
        await trio.sleep_until(120 + 600)
        with pytest.raises(HandlerFailed):
            await text(manager)
        load.failing = False
        assert await text(manager) == "value 4"


@simulated
async def test_stale_values_are_for_all_who_wait() -> None:
    load = Loader()
    results: dict[int, str] = {}
    async with opened(branches(3, "profile", load, results), cache_ttl=5) as manager:
        await text(manager)
        await trio.sleep(10)
        load.failing = True
        results.clear()
        await text(manager)
        assert results == dict.fromkeys(range(3), "value 1")
        assert manager.statistics().cache.stale == 3
        check_quiet(manager)


# -- invalidation --------------------------------------------------------------------------------


@simulated
async def test_a_handler_invalidates_its_own_conversation_by_name() -> None:
    load = Loader(0.0)
    forgotten: list[int] = []

    async def handler(turn: Turn) -> str:
        if turn.text == "changed":
            forgotten.append(turn.invalidate("profile"))
            forgotten.append(turn.invalidate("profile"))
        return await turn.context("profile", load)

    async with opened(handler) as manager:
        assert [await text(manager, key) for key in "ab"] == ["value 1", "value 2"]
        assert str(await manager.ask(say("changed", "a"))) == "value 3"
        assert await text(manager, "b") == "value 2"
    assert forgotten == [1, 0]


@simulated
async def test_the_manager_invalidates_by_conversation_name_and_prefix() -> None:
    load = Loader(0.0)

    async def handler(turn: Turn) -> str:
        for name in ("profile:ada", "profile:grace", "mood"):
            await turn.context(name, load)
        return ""

    async with opened(handler) as manager:

        async def filled() -> None:
            for key in "ab":
                await text(manager, key)
            assert manager.statistics().cache.size == 6

        for options, count in (
            ({"name": "mood"}, 2), ({"prefix": "profile:"}, 4), ({"prefix": ""}, 6), ({"name": "prof"}, 0),
            ({"conversation": "a"}, 3), ({"conversation": "a", "name": "mood"}, 1),
            ({"conversation": "b", "prefix": "profile"}, 2), ({"conversation": "z"}, 0),
        ):  # fmt: skip
            await filled()
            assert manager.invalidate(**options) == count
            check_quiet(manager)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, "say what"),
        ({"name": "a", "prefix": "a"}, "not both"),
        ({"conversation": 1}, "conversation must be"),
    ],
)
@simulated
async def test_an_invalidation_of_nothing_in_particular_is_refused(
    options: dict[str, Any], what: str
) -> None:
    async with opened(Recorder()) as manager:
        with pytest.raises(TypeError, match=what):
            manager.invalidate(**options)


@simulated
async def test_a_load_is_not_kept_when_it_is_invalidated_on_its_way() -> None:
    load = Loader(2.0)
    answers: list[tuple[float, str]] = []

    async def handler(turn: Turn) -> str:
        async def branch(at: float) -> None:
            await trio.sleep(at)
            answers.append((at, await turn.context("profile", load)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(branch, 0)
            nursery.start_soon(branch, 0.5)
            await trio.sleep(1)
            assert turn.invalidate("profile") == 0
            nursery.start_soon(branch, 0.5)
        return await turn.context("profile", load)

    async with opened(handler) as manager:
        assert await text(manager) == "value 2", "what was asked for after the change is what is kept"
        check_quiet(manager)
    assert sorted(answers) == [(0, "value 1"), (0.5, "value 1"), (0.5, "value 2")]
    assert load.calls == 2


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
            raise OSError("connection lost") from None

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
