"""`turn.gather`: side by side, each failure its own, one limit, and cancellation at every step."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import Any

import pytest
import trio
import trio.testing

import ccm
from ccm.testing import CancelAt, simulate
from tests.manager.kit import opened, say, simulated

Analyzer = Callable[[ccm.Turn], Awaitable[Any]]


async def gathered(within: float | None = None, **analyzers: Any) -> ccm.Gathered:
    """What a handler gets that gathers these."""
    found: list[ccm.Gathered] = []

    async def handler(turn: ccm.Turn) -> None:
        found.append(await turn.gather(within, **analyzers))

    async with opened(handler, retry=ccm.RetryPolicy(attempts=1)) as manager:
        await manager.ask(say())
    return found[0]


def gives(value: object, after: float = 0) -> Analyzer:
    async def analyzer(turn: ccm.Turn) -> object:
        await trio.sleep(after)
        return value

    return analyzer


def fails(error: BaseException, after: float = 0) -> Analyzer:
    async def analyzer(turn: ccm.Turn) -> None:
        await trio.sleep(after)
        raise error

    return analyzer


# -- results and errors --------------------------------------------------------------------------


@simulated
async def test_results_have_the_names_and_the_order_of_the_analyzers() -> None:
    found = await gathered(slow=gives(1, after=0.3), quick=gives(2), middle=gives(3, after=0.2))
    assert list(found.items()) == [("slow", 1), ("quick", 2), ("middle", 3)]
    assert (len(found), "quick" in found, "nothing" in found) == (3, True, False)
    assert found.errors == {}


@simulated
async def test_analyzers_run_side_by_side_and_get_the_turn() -> None:
    async def text(turn: ccm.Turn) -> str:
        await trio.sleep(0.5)
        return turn.text

    begun = trio.current_time()
    found = await gathered(a=text, b=text, c=text)
    assert dict(found) == {"a": "hello", "b": "hello", "c": "hello"}
    assert trio.current_time() - begun == 0.5


@simulated
async def test_a_failure_is_an_error_of_its_name_only() -> None:
    error = ValueError("no mood today")
    found = await gathered(mood=fails(error, after=0.1), memory=gives("m", after=0.2))
    assert dict(found) == {"memory": "m"}
    assert found.errors == {"mood": error}
    assert found.get("mood") is None
    assert found.get("mood", "neutral") == "neutral"
    assert found.get("memory", "none") == "m"
    assert "mood" not in found
    with pytest.raises(ValueError, match="no mood today") as raised:
        found["mood"]
    assert raised.value is error


@simulated
async def test_a_none_is_a_result() -> None:
    found = await gathered(mood=gives(None))
    assert "mood" in found
    assert found.get("mood", "default") is None


@simulated
async def test_an_error_that_is_raised_again_and_again_keeps_its_traceback_short() -> None:
    found = await gathered(mood=fails(ValueError("no")))

    def depth() -> int:
        with pytest.raises(ValueError, match="no") as raised:
            found["mood"]
        return len(list(raised.traceback))

    first = depth()
    assert [depth() for _ in range(5)] == [first] * 5


@simulated
async def test_an_unknown_name_is_a_key_error_that_get_replaces() -> None:
    found = await gathered(mood=gives(1))
    with pytest.raises(KeyError, match="moood"):
        found["moood"]
    assert found.get("moood", 7) == 7


@simulated
async def test_errors_cannot_be_changed() -> None:
    found = await gathered(mood=fails(ValueError("no")))
    with pytest.raises(TypeError):
        found.errors["mood"] = None  # type: ignore[index]


@simulated
async def test_an_exception_group_stays_an_error_of_its_branch() -> None:
    both = fails(ExceptionGroup("two", [ValueError("a"), KeyError("b")]))
    found = await gathered(both=both, other=gives(1, after=1))
    assert dict(found) == {"other": 1}
    with pytest.RaisesGroup(ValueError, KeyError):
        found["both"]


@simulated
async def test_no_analyzers_give_nothing_but_a_checkpoint() -> None:
    async def handler(turn: ccm.Turn) -> None:
        with trio.testing.assert_checkpoints():
            found = await turn.gather()
        assert (len(found), found.errors) == (0, {})

    async with opened(handler) as manager:
        await manager.ask(say())


# -- the limit -----------------------------------------------------------------------------------


@simulated
async def test_what_is_not_ready_in_time_is_an_error_of_its_name() -> None:
    begun = trio.current_time()
    found = await gathered(0.25, slow=gives(1, after=9), quick=gives(2, after=0.125))
    assert trio.current_time() - begun == 0.25
    assert dict(found) == {"quick": 2}
    with pytest.raises(trio.TooSlowError, match=r"'slow' was not ready within 0\.25 s"):
        found["slow"]


@simulated
async def test_a_failure_before_the_limit_stays_what_it_was() -> None:
    error = ValueError("early")
    found = await gathered(1, early=fails(error, after=0.5), slow=gives(1, after=9))
    assert found.errors["early"] is error
    assert isinstance(found.errors["slow"], trio.TooSlowError)


@simulated
async def test_the_late_are_awaited_until_they_have_cleaned_up() -> None:
    log: list[str] = []

    async def stubborn(turn: ccm.Turn) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)
            log.append("clean")

    begun = trio.current_time()
    found = await gathered(0.25, stubborn=stubborn)
    assert log == ["clean"]
    assert trio.current_time() - begun == 0.75
    assert isinstance(found.errors["stubborn"], trio.TooSlowError)


@simulated
async def test_an_error_during_the_clean_up_is_the_cause_of_the_time_out() -> None:
    async def clumsy(turn: ccm.Turn) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("could not close")

    found = await gathered(0.25, clumsy=clumsy)
    assert isinstance(found.errors["clumsy"], trio.TooSlowError)
    assert isinstance(found.errors["clumsy"].__cause__, OSError)


@simulated
async def test_an_error_beside_the_cancellation_is_the_cause_of_the_time_out() -> None:
    async def clumsy(turn: ccm.Turn) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("could not close")

    async def both(turn: ccm.Turn) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clumsy, turn)
            nursery.start_soon(trio.sleep_forever)

    found = await gathered(0.25, both=both, quick=gives(1))
    assert dict(found) == {"quick": 1}
    assert isinstance(found.errors["both"], trio.TooSlowError)
    assert isinstance(found.errors["both"].__cause__, ExceptionGroup)


@simulated
async def test_a_result_that_comes_in_spite_of_the_limit_is_a_result() -> None:
    async def shielded(turn: ccm.Turn) -> int:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.5)
        return 1

    found = await gathered(0.25, shielded=shielded)
    assert dict(found) == {"shielded": 1}
    assert found.errors == {}


@simulated
async def test_a_limit_of_zero_leaves_those_that_need_not_wait() -> None:
    async def at_once(turn: ccm.Turn) -> int:
        return 1

    found = await gathered(0, at_once=at_once, slow=gives(2, after=1))
    assert isinstance(found.errors["slow"], trio.TooSlowError)
    assert found.get("at_once") == 1


@simulated
async def test_an_infinite_limit_is_none() -> None:
    assert dict(await gathered(math.inf, slow=gives(1, after=20))) == {"slow": 1}


# -- what no branch keeps to itself --------------------------------------------------------------


class Bug(BaseException):
    """What no handler may raise."""


@simulated
async def test_a_base_exception_cancels_the_others_and_comes_out_alone() -> None:
    ended: list[str] = []

    async def other(turn: ccm.Turn) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("other")

    async def handler(turn: ccm.Turn) -> None:
        with pytest.raises(Bug):
            await turn.gather(bug=fails(Bug(), after=1), other=other)
        assert ended == ["other"]

    async with opened(handler) as manager:
        await manager.ask(say())


@simulated
async def test_a_base_exception_in_a_group_comes_out() -> None:
    async def handler(turn: ccm.Turn) -> None:
        with pytest.RaisesGroup(Bug, ValueError):
            await turn.gather(bug=fails(BaseExceptionGroup("", [Bug(), ValueError()])), other=gives(1))

    async with opened(handler) as manager:
        await manager.ask(say())


@simulated
async def test_a_cancellation_that_came_from_nowhere_is_an_error_of_its_branch() -> None:
    stolen: list[BaseException] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep(1)
        except trio.Cancelled as error:
            stolen.append(error)
            raise
    found = await gathered(stray=fails(stolen[0]), other=gives(1, after=1))
    assert dict(found) == {"other": 1}
    assert isinstance(found.errors["stray"], RuntimeError)


@simulated
async def test_cancelling_the_turn_cancels_all_and_leaves_nothing() -> None:
    ended: list[str] = []

    async def forever(turn: ccm.Turn) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append("x")

    async def handler(turn: ccm.Turn) -> None:
        await turn.gather(a=forever, b=forever, within=100)
        raise AssertionError("gather returned although it was cancelled")

    async with opened(handler) as manager:
        with trio.move_on_after(1) as scope:
            await manager.ask(say())
        assert scope.cancelled_caught
        await manager.wait_idle()
        assert ended == ["x", "x"]


def program(scope: trio.CancelScope, running: list[int], results: list[ccm.Gathered]) -> Any:
    async def analyzer(turn: ccm.Turn, seconds: float, error: Exception | None) -> float:
        running.append(1)
        try:
            await trio.sleep(seconds)
            if error is not None:
                raise error
            return seconds
        finally:
            running.pop()

    async def main() -> None:
        turn: Any = None
        with scope:
            results.append(
                await ccm.Turn.gather(
                    turn,
                    within=2,
                    quick=partial(analyzer, seconds=1, error=None),
                    broken=partial(analyzer, seconds=1, error=ValueError("broken")),
                    slow=partial(analyzer, seconds=9, error=None),
                )
            )
        assert running == [], "an analyzer outlived gather"

    return main


@pytest.mark.parametrize("seed", range(3))
def test_cancelled_before_any_step_it_either_returns_everything_or_nothing(seed: int) -> None:
    for n in count(1):
        scope, running, results = trio.CancelScope(), [], []  # type: ignore[var-annotated]
        cancel = CancelAt(n, scope)
        simulate(program(scope, running, results), seed=seed, instruments=[cancel])
        assert running == []
        assert scope.cancelled_caught == (not results)
        for found in results:
            assert set(found) | set(found.errors) == {"quick", "broken", "slow"}
            if not cancel.fired:
                assert dict(found) == {"quick": 1}
                assert {name: type(error) for name, error in found.errors.items()} == {
                    "broken": ValueError,
                    "slow": trio.TooSlowError,
                }
        if not cancel.fired:
            assert results
            break
    assert n > 10


# -- misuse --------------------------------------------------------------------------------------


def synchronous(turn: ccm.Turn) -> int:
    return 1


@pytest.mark.parametrize(
    "bad", [synchronous, 7, None, "analyse", str], ids=["sync", "number", "none", "text", "class"]
)
def test_what_is_no_analyzer_is_refused_before_anything_starts(bad: Any) -> None:
    started: list[ccm.Turn] = []

    async def good(turn: ccm.Turn) -> None:
        started.append(turn)

    async def main() -> None:
        with pytest.raises(TypeError, match="analyzer 'bad' must be an async function"):
            await ccm.Turn.gather(None, good=good, bad=bad)  # type: ignore[arg-type]
        assert started == []

    simulate(main, seed=0)


@pytest.mark.parametrize(
    ("within", "error"), [(-1, ValueError), (math.nan, ValueError), ("1", TypeError), (True, TypeError)]
)
def test_a_limit_that_is_no_time_is_refused(within: Any, error: type[Exception]) -> None:
    async def main() -> None:
        with pytest.raises(error, match="within must be"):
            await ccm.Turn.gather(None, within, mood=gives(1))  # type: ignore[arg-type]

    simulate(main, seed=0)


def test_objects_with_an_async_call_and_partials_are_analyzers() -> None:
    class Analyzer:
        async def __call__(self, turn: ccm.Turn) -> int:
            return 1

    async def scaled(factor: int, turn: ccm.Turn) -> int:
        return factor

    async def main() -> None:
        found = await gathered(a=Analyzer(), b=partial(scaled, 2))
        assert dict(found) == {"a": 1, "b": 2}

    simulate(main, seed=0)


def test_gathered_shows_what_it_has() -> None:
    found = ccm.Gathered({"a": 1}, {"b": ValueError("no")})
    assert repr(found) == "<Gathered {'a': 1}, errors {'b': ValueError('no')}>"
