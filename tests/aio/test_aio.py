"""A manager in an asyncio program: order, cancellation both ways, the end, and uvloop."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trio

import ccm
import ccm.aio
from ccm import Config, Message

CONFIG = Config(rate_limit=None, debug=True, retry=ccm.RetryPolicy(attempts=1))
LOOPS: list[str] = ["asyncio", "uvloop"]
LONG = 5.0
"""Seconds that nothing lasts which is cancelled as it must be."""


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    factory = None
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        factory = uvloop.new_event_loop

    def runner(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=factory) as runs:
            return runs.run(asyncio.wait_for(coroutine, 30))

    return runner


async def echo(turn: ccm.aio.Turn) -> str:
    await asyncio.sleep(0.001)
    return f"re {turn.text}"


def say(text: str, conversation: str = "c", **more: Any) -> Message:
    return Message(conversation, "ada", text, **more)


def test_asking_submitting_and_the_plain_methods(run: Any) -> None:
    async def main() -> None:
        async with ccm.aio.open_manager(echo, config=CONFIG) as manager:
            assert str(await manager.ask(say("one"))) == "re one"
            receipt = await manager.submit(say("two"))
            outcome = await receipt.outcome()
            assert isinstance(outcome, ccm.Replied)
            assert manager.submit_nowait(say("three")).turn_id == receipt.turn_id + 1
            await manager.wait_idle()
            assert manager.statistics().outcomes["replied"] == 3
            assert len(manager.sessions()) == 1
            assert manager.session("c") is not None
            with pytest.raises(ValueError, match="text"):
                await manager.ask(say("x" * 40_000))
            await manager.drain()
            with pytest.raises(ccm.Draining):
                await manager.ask(say("four"))
        with pytest.raises(trio.ClosedResourceError):
            await manager.ask(say("five"))
        with pytest.raises(trio.ClosedResourceError, match="open a new one"):
            await manager.stop("c")

    run(main())


@pytest.mark.parametrize("overflow", [ccm.Overflow.REJECT_NEW, ccm.Overflow.WAIT])
def test_messages_have_their_places_in_the_order_of_the_calls(run: Any, overflow: ccm.Overflow) -> None:
    seen: list[str] = []

    async def note(turn: ccm.aio.Turn) -> None:
        seen.append(turn.text)

    async def main() -> None:
        few = Config(rate_limit=None, limit=1, queue_limit=3 if overflow is ccm.Overflow.WAIT else 100,
                     conversation_limit=100, overflow=overflow, headroom={})  # fmt: skip
        async with ccm.aio.open_manager(note, config=few) as manager:
            await asyncio.gather(*(manager.ask(say(str(number))) for number in range(60)))

    run(main())
    assert seen == [str(number) for number in range(60)]


def test_they_also_do_with_a_storage(run: Any, tmp_path: Path) -> None:
    seen: list[str] = []

    async def note(turn: ccm.aio.Turn) -> None:
        seen.append(turn.text)

    async def main() -> None:
        wide = Config(rate_limit=None, conversation_limit=100)
        async with ccm.aio.open_manager(note, config=wide, storage=tmp_path / "bot.db") as manager:
            await asyncio.gather(*(manager.submit(say(str(number))) for number in range(60)))
            await manager.wait_idle()

    run(main())
    assert seen == [str(number) for number in range(60)]


def test_cancelling_who_asks_cancels_the_turn_and_its_asyncio_task(run: Any) -> None:
    news: list[str] = []
    started = asyncio.Event()

    async def hang(turn: ccm.aio.Turn) -> None:
        started.set()
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            news.append("cleaned up")
            raise

    async def main() -> None:
        async with ccm.aio.open_manager(hang, config=CONFIG) as manager:
            task = asyncio.create_task(manager.ask(say("one")))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await manager.wait_idle()
            assert news == ["cleaned up"]
            assert manager.statistics().outcomes["cancelled"] == 1

    run(main())


def test_cancelling_who_waits_for_a_receipt_leaves_the_turn(run: Any) -> None:
    async def slow(turn: ccm.aio.Turn) -> str:
        await asyncio.sleep(0.05)
        return "done"

    async def main() -> None:
        async with ccm.aio.open_manager(slow, config=CONFIG) as manager:
            receipt = await manager.submit(say("one"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(receipt.outcome(), 0.001)
            assert isinstance(await receipt.outcome(), ccm.Replied)

    run(main())


def test_a_turn_that_is_stopped_cancels_its_asyncio_task(run: Any) -> None:
    news: list[str] = []
    started = asyncio.Event()

    async def hang(turn: ccm.aio.Turn) -> None:
        started.set()
        try:
            await asyncio.sleep(LONG)
        finally:
            news.append("ended")

    async def main() -> None:
        async with ccm.aio.open_manager(hang, config=CONFIG) as manager:
            task = asyncio.create_task(manager.ask(say("one")))
            await started.wait()
            assert (await manager.stop("c")).running == 1
            with pytest.raises(ccm.TurnCancelled):
                await task
            assert news == ["ended"]

    run(main())


def test_failures_and_stray_cancellations_are_the_turns_own(run: Any) -> None:
    async def bad(turn: ccm.aio.Turn) -> None:
        if turn.text == "stray":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        raise ZeroDivisionError("no")

    async def main() -> None:
        async with ccm.aio.open_manager(bad, config=CONFIG) as manager:
            with pytest.raises(ccm.HandlerFailed) as caught:
                await manager.ask(say("fail"))
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
            with pytest.raises(ccm.HandlerFailed) as caught:
                await manager.ask(say("stray"))
            assert isinstance(caught.value.__cause__, RuntimeError)

    run(main())


def test_leaving_the_block_drains_also_when_it_is_cancelled(run: Any) -> None:
    answered: list[str] = []

    async def slow(turn: ccm.aio.Turn) -> str:
        await asyncio.sleep(0.05)
        answered.append(turn.text)
        return ""

    async def main() -> None:
        ready = asyncio.Event()

        async def block() -> None:
            async with ccm.aio.open_manager(slow, config=CONFIG) as manager:
                await manager.submit(say("one"))
                ready.set()
                await asyncio.sleep(LONG)

        task = asyncio.create_task(block())
        await ready.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # impatient, and no use
        with pytest.raises(asyncio.CancelledError):
            await task
        assert answered == ["one"]

    run(main())


def test_an_error_that_ends_the_manager_ends_the_block(run: Any) -> None:
    class Bug(BaseException):
        pass

    overslept: list[str] = []

    async def broken(turn: Any) -> None:
        raise Bug

    router = ccm.Router()
    router.route("chat")(broken)

    async def main() -> None:
        with pytest.raises(Bug):  # noqa: PT012 - it is the block that raises
            async with ccm.aio.open_manager(router, config=CONFIG) as manager:
                await manager.submit(say("one"))
                await asyncio.sleep(LONG)
                overslept.append("nobody told the block")
        assert overslept == []
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()

    run(main())


def test_what_goes_wrong_when_it_is_opened_is_told_and_another_one_can_be_opened(
    run: Any, tmp_path: Path
) -> None:
    broken = tmp_path / "bot.db"
    broken.write_bytes(b"no database, and longer than the header of one would be" * 20)

    async def main() -> None:
        with pytest.raises(ccm.StorageError):
            async with ccm.aio.open_manager(echo, config=CONFIG, storage=broken):
                raise AssertionError("it was opened")
        async with ccm.aio.open_manager(echo, config=CONFIG) as manager:
            with pytest.raises(RuntimeError):
                async with ccm.aio.open_manager(echo, config=CONFIG):
                    raise AssertionError("two were opened")
            assert str(await manager.ask(say("one"))) == "re one"
        assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]

    run(main())


def test_cancelling_who_opens_it_leaves_nothing_behind(run: Any, tmp_path: Path) -> None:
    async def hold() -> None:
        async with ccm.aio.open_manager(echo, config=CONFIG, storage=tmp_path / "bot.db"):
            await asyncio.sleep(LONG)

    async def main() -> None:
        before = asyncio.all_tasks()
        for wait in range(6):
            task = asyncio.create_task(hold())
            for _ in range(wait):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert asyncio.all_tasks() == before
        async with ccm.aio.open_manager(echo, config=CONFIG, storage=tmp_path / "bot.db") as manager:
            assert str(await manager.ask(say("one"))) == "re one"

    run(main())


def test_what_a_handler_gets(run: Any) -> None:
    place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="")

    async def load(turn: ccm.aio.Turn) -> str:
        await asyncio.sleep(0)
        return "profile"

    async def wrong(turn: ccm.aio.Turn) -> str:
        raise ValueError("wrong")

    async def handler(turn: ccm.aio.Turn) -> str:
        assert await turn.context("profile", load) == "profile"
        found = await turn.gather(good=load, bad=wrong)
        assert found["good"] == "profile"
        assert found.get("bad", 7) == 7
        assert await turn.in_thread(str.upper, "x") == "X"
        await turn.send("a ")
        await turn.send("b ")
        history = await turn.history()
        return f"{len(history)} {turn.attempt} {turn.route}{place.get()}"

    async def main() -> None:
        async with ccm.aio.open_manager(handler, config=CONFIG) as manager:
            async with manager.stream(say("one")) as pieces:
                assert [piece async for piece in pieces][:2] == ["a ", "b "]
            assert str(await manager.ask(say("two"))) == "3 1 chat"  # with its own message
            async with manager.events() as stream:
                await manager.ask(say("three"))
                assert type(await anext(stream)).__name__ == "Accepted"

    run(main())


def test_leaving_a_stream_early_cancels_its_turn(run: Any) -> None:
    news: list[str] = []

    async def endless(turn: ccm.aio.Turn) -> None:
        try:
            await turn.send("a")
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            news.append("cleaned up")
            raise

    async def main() -> None:
        async with ccm.aio.open_manager(endless, config=CONFIG) as manager:
            async with manager.stream(say("one")) as pieces:
                assert await anext(pieces) == "a"
            assert news == ["cleaned up"]
            await manager.wait_idle()
            assert manager.statistics().outcomes["cancelled"] == 1

    run(main())


def test_a_limit_hears_that_the_provider_was_busy(run: Any) -> None:
    async def asks(turn: ccm.aio.Turn) -> str:
        async with turn.limit("model"):
            if turn.text == "one" and turn.attempt == 1:
                raise ccm.Busy(retry_after=0.01)
            return f"re {turn.text}"

    async def main() -> None:
        config = CONFIG.replace(provider_limits={"model": ccm.ProviderLimit(1)})
        async with ccm.aio.open_manager(asks, config=config) as manager:
            assert str(await manager.ask(say("one"))) == "re one"
            assert str(await manager.ask(say("two"))) == "re two"
            assert manager.statistics().providers["model"].busy == 1

    run(main())


def test_other_threads_wake_the_loop_before_they_hand_over(tmp_path: Path) -> None:
    home, strays = threading.get_ident(), list[str]()

    class Watched(asyncio.SelectorEventLoop):
        def call_soon(  # type: ignore[override]  # any, where asyncio says which
            self, callback: Any, *args: Any, context: Any = None
        ) -> Any:
            if threading.get_ident() == home:
                return super().call_soon(callback, *args, context=context)
            strays.append(repr(callback))  # it would be called when the loop wakes up for something else
            return self.call_soon_threadsafe(callback, *args, context=context)

    async def threaded(turn: ccm.aio.Turn) -> str:
        return await turn.in_thread(str.upper, turn.text)

    async def main() -> None:
        async with ccm.aio.open_manager(threaded, config=CONFIG, storage=tmp_path / "bot.db") as manager:
            assert str(await manager.ask(say("one"))) == "ONE"

    with asyncio.Runner(loop_factory=Watched) as runs:
        runs.run(main())
    assert strays == []


def test_replies_are_delivered_by_asyncio_code(run: Any, tmp_path: Path) -> None:
    delivered: list[str] = []

    async def deliver(reply: ccm.Reply, message: Message) -> None:
        await asyncio.sleep(0)
        delivered.append(f"{message.text}: {reply.text}")

    async def main() -> None:
        opening = ccm.aio.open_manager(echo, config=CONFIG, storage=tmp_path / "bot.db", deliver=deliver)
        async with opening as manager:
            await manager.submit(say("one"))
            await manager.wait_idle()
            kept = await manager.run(manager.trio.conversations.get, "c")
            assert kept is not None
            assert kept.replies == 1

    run(main())
    assert delivered == ["one: re one"]


def test_misuse_says_so() -> None:
    with pytest.raises(TypeError, match="async function"):
        ccm.aio.handler(print)  # type: ignore[arg-type]

    wrapped = ccm.aio.handler(echo)

    async def elsewhere() -> None:
        async with ccm.open_manager(wrapped, config=CONFIG) as manager:
            with pytest.raises(ccm.HandlerFailed) as caught:
                await manager.ask(say("one"))
            assert "ccm.aio.open_manager" in str(caught.value.__cause__)

    trio.run(elsewhere)


def test_importing_it_is_light() -> None:
    import subprocess

    code = "import sys, ccm; assert 'asyncio' not in sys.modules, 'asyncio'"
    subprocess.run([sys.executable, "-c", code], check=True)
