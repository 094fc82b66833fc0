"""`Batcher` on virtual time: what is fetched when, who gets what, and who harms nobody by leaving."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from ccm import CRITICAL, LOW, NORMAL, Batcher, ConfigError
from ccm.testing import CancelAt, simulate

# Each example is as many runs as the program has steps.
FEW = settings(max_examples=settings().max_examples // 5)


class Store:
    """Fetches take a second; notes when it was asked for what."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.fetches: list[tuple[float, list[str]]] = []
        self.cancelled = 0

    async def __call__(self, keys: list[str]) -> dict[str, str]:
        self.fetches.append((trio.current_time(), keys))
        try:
            await trio.sleep(self.seconds)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return {key: key.upper() for key in keys}


def simulated(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        simulate(test)

    run.__name__ = test.__name__
    return run


async def ask(batch: Batcher[str, Any], key: str, got: list[Any], priority: Any = NORMAL) -> None:
    try:
        got.append((key, await batch(key, priority=priority)))
    except Exception as error:
        got.append((key, error))


@simulated
async def test_calls_of_a_window_become_one_fetch() -> None:
    store, got = Store(), list[Any]()
    async with Batcher(store, max_delay=0.25) as batch, trio.open_nursery() as nursery:
        for key, at in (("a", 0.0), ("b", 0.125), ("a", 0.125), ("c", 0.5)):
            await trio.sleep_until(at)
            nursery.start_soon(ask, batch, key, got)
    assert store.fetches == [(0.25, ["a", "b"]), (0.75, ["c"])]
    assert sorted(got) == [("a", "A"), ("a", "A"), ("b", "B"), ("c", "C")]
    figures = batch.statistics()
    assert (figures.calls, figures.shared, figures.keys, figures.batches) == (4, 1, 3, 2)


@simulated
async def test_a_full_window_does_not_wait() -> None:
    store, got = Store(), list[Any]()
    async with Batcher(store, max_size=2, max_delay=9) as batch, trio.open_nursery() as nursery:
        for key in "abc":
            nursery.start_soon(ask, batch, key, got)
    assert [at for at, _ in store.fetches] == [0.0, 9.0]


@simulated
async def test_without_delay_the_same_step_is_still_one_fetch() -> None:
    store, got = Store(), list[Any]()
    async with Batcher(store, max_delay=0) as batch, trio.open_nursery() as nursery:
        for key in "abc":
            nursery.start_soon(ask, batch, key, got)
    assert [(at, sorted(keys)) for at, keys in store.fetches] == [(0.0, ["a", "b", "c"])]


@simulated
async def test_a_list_answers_in_order_and_an_exception_is_one_keys_own() -> None:
    async def fetch(keys: list[str]) -> list[str | Exception]:
        await trio.lowlevel.checkpoint()
        return [OSError("no disk") if key == "bad" else key * 2 for key in keys]

    async with Batcher(fetch) as batch:
        async with trio.open_nursery() as nursery:
            got: list[Any] = []
            for key in ("a", "bad", "b"):
                nursery.start_soon(ask, batch, key, got)
        answers = dict(got)
    assert (answers["a"], answers["b"]) == ("aa", "bb")
    assert isinstance(answers["bad"], OSError)


@simulated
async def test_a_key_the_mapping_leaves_out_is_a_key_error_of_that_key_alone() -> None:
    async def fetch(keys: list[str]) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        return defaultdict(str, {key: "there" for key in keys if key != "gone"})

    got: list[Any] = []
    async with Batcher(fetch) as batch, trio.open_nursery() as nursery:
        for key in ("a", "gone"):
            nursery.start_soon(ask, batch, key, got)
    answers = dict(got)
    assert answers["a"] == "there"
    assert isinstance(answers["gone"], KeyError)
    assert answers["gone"].args == ("gone",)


@pytest.mark.parametrize(
    ("result", "kind"), [(["one"], ValueError), ("ab", TypeError), (None, TypeError), ([], ValueError)]
)
def test_a_result_that_is_none_is_an_error_for_every_caller(result: Any, kind: type) -> None:
    async def fetch(keys: list[str]) -> Any:
        await trio.lowlevel.checkpoint()
        return result

    async def program() -> None:
        got: list[Any] = []
        async with Batcher[str, Any](fetch) as batch, trio.open_nursery() as nursery:
            for key in "ab":
                nursery.start_soon(ask, batch, key, got)
        assert [type(error) for _, error in got] == [kind, kind]
        assert "fetch_many" in str(got[0][1])

    simulate(program)


@simulated
async def test_a_failed_fetch_fails_its_callers_and_nothing_else() -> None:
    async def fetch(keys: list[str]) -> dict[str, str]:
        await trio.sleep(1)
        if "bad" in keys:
            raise OSError("no disk")
        return {key: "there" for key in keys}

    got: list[Any] = []
    async with Batcher(fetch, max_size=2) as batch, trio.open_nursery() as nursery:
        for key in ("bad", "a", "b", "c"):
            nursery.start_soon(ask, batch, key, got)
            await trio.testing.wait_all_tasks_blocked()
    answers = dict(got)
    assert isinstance(answers["bad"], OSError)
    assert isinstance(answers["a"], OSError)
    assert (answers["b"], answers["c"]) == ("there", "there")


@simulated
async def test_fetches_are_bounded_and_the_most_urgent_batch_is_the_next() -> None:
    store, got = Store(), list[Any]()
    async with Batcher(store, max_size=1, concurrency=1) as batch, trio.open_nursery() as nursery:
        for key, priority in (("first", NORMAL), ("late", LOW), ("normal", NORMAL), ("urgent", CRITICAL)):
            nursery.start_soon(ask, batch, key, got, priority)
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, batch, "late", got, CRITICAL)  # shares the key and lends it its urgency
    assert store.fetches == [(0.0, ["first"]), (1.0, ["late"]), (2.0, ["urgent"]), (3.0, ["normal"])]


@simulated
async def test_a_caller_that_leaves_harms_nobody() -> None:
    store, got = Store(), list[Any]()
    async with Batcher(store, max_delay=0.5) as batch, trio.open_nursery() as nursery:
        nursery.start_soon(ask, batch, "a", got)
        with trio.move_on_after(0.25):
            await batch("b")  # leaves before the fetch: its key is not fetched
        with trio.move_on_after(0.5):
            await batch("a")  # leaves during the fetch
    assert store.fetches == [(0.5, ["a"])]
    assert got == [("a", "A")]
    assert store.cancelled == 0


@simulated
async def test_whoever_is_cancelled_asks_for_nothing() -> None:
    store = Store()
    async with Batcher(store, max_size=1) as batch:
        with trio.CancelScope() as scope:
            scope.cancel()
            await batch("a")
        assert scope.cancelled_caught
    assert (store.fetches, batch.statistics().calls) == ([], 0)


@simulated
async def test_a_fetch_nobody_waits_for_is_cancelled_and_its_place_free() -> None:
    store, got = Store(), list[Any]()
    async with Batcher(store, max_delay=0, concurrency=1) as batch:
        with trio.move_on_after(0.5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, batch, "a", got)
                nursery.start_soon(ask, batch, "a", got)
        assert await batch("b") == "B"
    assert store.cancelled == 1
    assert store.fetches == [(0.0, ["a"]), (0.5, ["b"])]
    assert got == []


@simulated
async def test_leaving_the_block_brings_what_is_waited_for() -> None:
    store, got = Store(), list[Any]()
    async with trio.open_nursery() as nursery:
        batch = Batcher(store, max_size=1, max_delay=60, concurrency=1)
        async with batch:
            for key in "abc":
                nursery.start_soon(ask, batch, key, got)
            await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == 3
        with pytest.raises(trio.ClosedResourceError):
            await batch("d")
    assert sorted(got) == [("a", "A"), ("b", "B"), ("c", "C")]


@simulated
async def test_leaving_the_block_does_not_wait_for_company() -> None:
    store, got = Store(), list[Any]()
    async with trio.open_nursery() as nursery:
        batch = Batcher(store, max_delay=60)
        async with batch:
            nursery.start_soon(ask, batch, "a", got)
            await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == 1
    assert got == [("a", "A")]


@simulated
async def test_while_the_block_is_left_no_call_is_taken() -> None:
    store, got = Store(), list[Any]()

    async def late() -> None:
        await trio.sleep(0.5)
        await ask(batch, "late", got)

    async with trio.open_nursery() as nursery:
        batch = Batcher(store, max_delay=0)
        async with batch:
            nursery.start_soon(ask, batch, "a", got)
            nursery.start_soon(late)
            await trio.testing.wait_all_tasks_blocked()
    assert store.fetches == [(0.0, ["a"])]
    (late_key, error), answer = got
    assert (late_key, answer) == ("late", ("a", "A"))
    assert isinstance(error, trio.ClosedResourceError)


@simulated
async def test_a_fetch_has_the_context_of_the_block_and_of_no_caller() -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen: list[str] = []

    async def fetch(keys: list[str]) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        seen.append(who.get())
        return dict.fromkeys(keys, "")

    async def caller(name: str, key: str) -> None:
        who.set(name)
        await batch(key)

    who.set("block")
    async with Batcher(fetch, max_size=1, concurrency=1) as batch, trio.open_nursery() as nursery:
        nursery.start_soon(caller, "ada", "a")
        nursery.start_soon(caller, "bob", "b")
    assert seen == ["block", "block"]


@simulated
async def test_leaving_with_an_error_cancels_and_tells() -> None:
    store, got = Store(), list[Any]()
    async with trio.open_nursery() as nursery:
        batch = Batcher(store, max_size=1, concurrency=1)

        async def fail() -> None:
            async with batch:
                nursery.start_soon(ask, batch, "running", got)
                nursery.start_soon(ask, batch, "waiting", got)
                await trio.testing.wait_all_tasks_blocked()
                raise OSError("mine")

        with pytest.raises(OSError, match="mine"):
            await fail()
    assert {key for key, _ in got} == {"running", "waiting"}
    assert all(isinstance(error, trio.ClosedResourceError) for _, error in got)
    assert store.cancelled == 1
    batch._queue._check()


@simulated
async def test_a_fetch_that_must_end_the_program_does() -> None:
    async def fetch(keys: list[str]) -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        async with Batcher(fetch) as batch:
            await batch("a")
    assert batch.statistics().waiting == 0


@simulated
async def test_a_batcher_is_opened_once() -> None:
    batch = Batcher(Store())
    with pytest.raises(trio.ClosedResourceError):
        await batch("too early")
    async with batch:
        pass
    with pytest.raises(RuntimeError, match="make another"):
        async with batch:
            pass


@pytest.mark.parametrize(
    "arguments",
    [{"max_size": 0}, {"max_size": True}, {"max_delay": -1}, {"max_delay": float("nan")}, {"concurrency": 0}],
)
def test_bad_settings_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        Batcher(Store(), **arguments)


def test_a_fetch_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="fetch_many"):
        Batcher(None)  # type: ignore[arg-type]


@FEW
@given(seed=st.integers(0, 1000))
def test_cancel_a_caller_at_every_step(seed: int) -> None:
    """Law G10: whoever stays gets the right answer, and nothing is left of who went."""

    async def program(scope: trio.CancelScope) -> None:
        store, got, unwanted = Store(), list[Any](), list[list[str]]()

        async def fetch(keys: list[str]) -> dict[str, str]:
            # Some may have left between the decision to fetch and this first step.
            if not keys or not set(keys) <= {ticket.key for ticket in batch._tasks}:
                unwanted.append(keys)
            return await store(keys)

        async with Batcher(fetch, max_size=2, max_delay=0.5, concurrency=1) as batch:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, batch, "a", got)
                nursery.start_soon(ask, batch, "b", got)
                nursery.start_soon(ask, batch, "c", got)
                with scope:
                    assert await batch("a") == "A"
                    assert await batch("d") == "D"
            batch._queue._check()
            figures = batch.statistics()
            assert (figures.waiting, figures.running, figures.queued) == (0, 0, 0)
            assert figures.calls == figures.answered + figures.cancelled
            assert not batch._tasks
            assert not batch._scopes
        assert unwanted == []
        assert sorted(got) == [("a", "A"), ("b", "B"), ("c", "C")]

    _at_every_step(program, seed)


@FEW
@given(seed=st.integers(0, 1000))
def test_cancel_the_block_at_every_step(seed: int) -> None:
    async def program(scope: trio.CancelScope) -> None:
        got: list[Any] = []
        batch = Batcher(Store(), max_size=2, max_delay=0.5, concurrency=1)
        async with trio.open_nursery() as nursery:
            with scope:
                async with batch:
                    for key in "abac":
                        nursery.start_soon(ask, batch, key, got)
                    await trio.sleep(3)
        assert len(got) == 4
        for key, value in got:
            assert value == key.upper() or isinstance(value, trio.ClosedResourceError)
        batch._queue._check()
        assert batch._queue.idle
        assert not batch._tasks

    _at_every_step(program, seed)


def _at_every_step(program: Callable[[trio.CancelScope], Awaitable[None]], seed: int) -> None:
    for n in itertools.count(1):
        cancel = CancelAt(n, scope := trio.CancelScope())
        simulate(program, scope, instruments=[cancel], seed=seed)
        if not cancel.fired:
            break
