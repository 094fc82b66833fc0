"""`turn.context`: fresh for a while, loaded once, never another conversation's."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
import trio

from ccm import HandlerFailed, Permanent, Router, Turn

from ..manager.kit import Recorder, opened, say, simulated
from .contexts import ONCE, Loader, asks, branches, cache_of, check_quiet, text

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
        for pause in (0, 1_000, 0):
            await text(manager)
            await trio.sleep(pause)
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
async def test_the_values_of_other_sessions_stay() -> None:
    load = Loader(0.0)
    async with opened(asks(load, ttl=inf), max_sessions=2) as manager:
        for key in "abc":  # the third evicts the first
            await text(manager, key)
        assert cache_of(manager)._conversations.keys() == {"b", "c"}
        assert await text(manager, "b") == "value 2"


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
            ({"prefix": "ada"}, 0), ({"conversation": "a"}, 3), ({"conversation": "a", "name": "mood"}, 1),
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
