"""`ccm.analyzers.adapt`: objects that know nothing of ccm as analyzers."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio

import ccm
from ccm.analyzers import adapt
from tests.manager.kit import opened, say, simulated

MAIN = threading.main_thread()


class Emotions:
    """As bots have them: synchronous, with a message and a user."""

    def analyze_emotion(self, message: str, user_id: str) -> dict[str, str]:
        return {"text": message, "user": user_id}

    def thread(self, message: str) -> bool:
        return threading.current_thread() is not MAIN

    def broken(self, message: str) -> None:
        raise ValueError("no emotion")


class AsyncEmotions:
    async def analyze_emotion(self, message: str, user_id: str) -> str:
        await trio.sleep(0.5)
        return f"{user_id}: {message}"


async def result(analyzer: Callable[[ccm.Turn], Awaitable[Any]]) -> Any:
    """What a handler gets that gathers this one for "hello" by "ada"."""
    found: list[ccm.Gathered] = []

    async def handler(turn: ccm.Turn) -> None:
        found.append(await turn.gather(it=analyzer))

    async with opened(handler, retry=ccm.RetryPolicy(attempts=1)) as manager:
        await manager.ask(say())
    return found[0]["it"]


def on_the_real_clock(analyzer: Callable[[ccm.Turn], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        with trio.fail_after(20):
            return await result(analyzer)

    return trio.run(main)


# -- where it runs -------------------------------------------------------------------------------


@simulated
async def test_an_async_method_is_awaited() -> None:
    begun = trio.current_time()
    assert await result(adapt(AsyncEmotions(), method="analyze_emotion")) == "ada: hello"
    assert trio.current_time() - begun == 0.5


@simulated
async def test_without_a_pool_a_method_runs_in_the_event_loop() -> None:
    assert await result(adapt(Emotions(), method="thread", pool=None)) is False
    expected = {"text": "hello", "user": "ada"}
    assert await result(adapt(Emotions(), method="analyze_emotion", pool=None)) == expected


def test_a_method_runs_in_a_thread() -> None:
    assert on_the_real_clock(adapt(Emotions(), method="thread")) is True


def test_a_method_runs_in_a_process() -> None:
    analyzer = adapt(Emotions(), method="analyze_emotion", pool="process")
    assert on_the_real_clock(analyzer) == {"text": "hello", "user": "ada"}


@simulated
async def test_an_awaitable_that_a_synchronous_function_returns_is_awaited() -> None:
    inner = AsyncEmotions()
    assert await result(adapt(lambda text: inner.analyze_emotion(text, "bob"), pool=None)) == "bob: hello"


@simulated
async def test_an_object_that_is_called_itself() -> None:
    class Callable_:
        async def __call__(self, text: str) -> str:
            return text.upper()

    assert await result(adapt(Callable_())) == "HELLO"
    assert await result(adapt(str.upper, pool=None)) == "HELLO"
    assert await result(adapt(len, pool=None)) == 5


# -- what it is given ----------------------------------------------------------------------------


def two(text: str, user: str) -> tuple[str, ...]:
    return (text, user)


def named_user(message: str, user_id: str | None = None) -> tuple[str | None, ...]:
    return (message, user_id)


def language(text: str, language: str = "en") -> tuple[str, ...]:
    return (text, language)


def anything(*args: str) -> tuple[str, ...]:
    return args


def more(text: str, *rest: str) -> tuple[str, ...]:
    return (text, *rest)


def options(text: str, *, mode: str = "fast") -> tuple[str, ...]:
    return (text, mode)


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (two, ("hello", "ada")),
        (named_user, ("hello", "ada")),
        (language, ("hello", "en")),
        (anything, ("hello", "ada")),
        (more, ("hello", "ada")),
        (options, ("hello", "fast")),
        (partial(two, user="bob"), ("hello", "bob")),
    ],
)
def test_it_is_given_the_user_if_it_takes_one(fn: Any, expected: tuple[str, ...]) -> None:
    @simulated
    async def check() -> None:
        assert await result(adapt(fn, pool=None)) == expected

    check()


# -- what is missing, and what fails -------------------------------------------------------------


@simulated
async def test_a_missing_analyzer_is_its_default() -> None:
    assert await result(adapt(None, method="analyze_emotion", default="neutral")) == "neutral"
    assert await result(adapt(None, default=None)) is None


@simulated
async def test_a_missing_method_is_its_default() -> None:
    assert await result(adapt(Emotions(), method="analyze_mood", default="neutral")) == "neutral"


@simulated
async def test_a_default_that_can_be_called_is_called_for_every_turn() -> None:
    analyzer = adapt(None, default=dict)
    first, second = await result(analyzer), await result(analyzer)
    assert first == second == {}
    assert first is not second


@simulated
async def test_a_failure_is_not_replaced_by_the_default() -> None:
    with pytest.raises(ValueError, match="no emotion"):
        await result(adapt(Emotions(), method="broken", pool=None, default="neutral"))


def test_missing_without_a_default_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="the analyzer is None and there is no default"):
        adapt(None, method="analyze_emotion")
    with pytest.raises(
        TypeError, match=r"has no method 'analyze_mood' and there is no default; pass default="
    ):
        adapt(Emotions(), method="analyze_mood")


def three(text: str, user: str, room: str) -> None: ...
def nothing() -> None: ...
def keyword(text: str, *, key: str) -> None: ...


@pytest.mark.parametrize("fn", [three, nothing, keyword])
def test_what_cannot_be_called_in_this_way_is_refused_at_once(fn: Any) -> None:
    with pytest.raises(TypeError, match="a text, or a text and a user"):
        adapt(fn)


@pytest.mark.parametrize(("obj", "method"), [(7, None), (Emotions(), None), (Emotions(), "__doc__")])
def test_what_cannot_be_called_at_all_is_refused_at_once(obj: Any, method: Any) -> None:
    with pytest.raises(TypeError, match="must be callable"):
        adapt(obj, method=method)


def test_an_unknown_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="pool must be 'thread', 'process' or None, got 'fibre'"):
        adapt(two, pool="fibre")  # type: ignore[arg-type]


def test_an_async_method_needs_no_process() -> None:
    with pytest.raises(ValueError, match="pool must not be 'process' for the async"):
        adapt(AsyncEmotions(), method="analyze_emotion", pool="process")
