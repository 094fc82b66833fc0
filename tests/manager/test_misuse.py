"""Calls that make no sense: a clear error, and nothing is changed."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import pytest
import trio

import ccm
from ccm import Config, ConversationManager, Message, Router, open_manager

from .kit import echo, opened, say, simulated


def test_the_manager_has_no_public_constructor() -> None:
    parameters = list(inspect.signature(ConversationManager).parameters.values())
    needed = [None for parameter in parameters if parameter.default is parameter.empty]
    constructor: Any = ConversationManager
    with pytest.raises(TypeError, match="no public constructor; use 'async with open_manager"):
        constructor(*needed)


def test_the_manager_is_final() -> None:
    assert getattr(ConversationManager, "__final__", False)


@pytest.mark.parametrize("message", ["hello", None, 5, {"text": "hello"}, Message], ids=repr)
@simulated
async def test_what_is_no_message_is_refused(message: Any) -> None:
    async with opened(echo) as manager:
        before = manager.statistics()
        for way in (manager.ask, manager.submit):
            with pytest.raises(TypeError, match=r"message must be a ccm\.Message, got"):
                await way(message)
        with pytest.raises(TypeError, match=r"message must be a ccm\.Message, got"):
            manager.submit_nowait(message)
        assert manager.statistics() == before
        assert str(await manager.ask(say())) == "re: hello"


@pytest.mark.parametrize(
    ("text", "size"), [("x" * 11, 11), ("é" * 6, 12), ("🙂🙂🙂", 12), ("\ud800" * 4, 12)], ids=repr
)
@simulated
async def test_a_text_that_is_too_long_is_refused_and_changes_nothing(text: str, size: int) -> None:
    async with opened(echo, max_text=10) as manager:
        before = manager.statistics()
        for way in (manager.ask, manager.submit):
            with pytest.raises(ValueError, match=f"text must be at most 10 bytes of UTF-8, got {size}"):
                await way(say(text))
        with pytest.raises(ValueError, match=f"text must be at most 10 bytes of UTF-8, got {size}"):
            manager.submit_nowait(say(text))
        assert manager.statistics() == before
        assert manager.session("c") is None
        assert str(await manager.ask(say("x" * 10))) == "re: " + "x" * 10


@simulated
async def test_an_empty_text_is_fine() -> None:
    async with opened(echo) as manager:
        assert str(await manager.ask(say(""))) == "re: "


@pytest.mark.parametrize("storage", [b"bot.db", 5, {}, False], ids=repr)
@simulated
async def test_a_wrong_storage_is_refused(storage: Any) -> None:
    with pytest.raises(TypeError, match=r"storage must be a path, .*got"):
        async with open_manager(echo, storage=storage):
            raise AssertionError


@pytest.mark.parametrize("config", [{}, {"limit": 5}, "config.toml", Config], ids=repr)
@simulated
async def test_a_wrong_config_is_refused(config: Any) -> None:
    with pytest.raises(TypeError, match=r"config must be a ccm\.Config, got"):
        async with open_manager(echo, config=config):
            raise AssertionError


@simulated
async def test_a_router_without_routes_is_refused() -> None:
    with pytest.raises(ValueError, match="the router has no route"):
        async with open_manager(Router()):
            raise AssertionError


def test_another_trio_run_is_refused() -> None:
    """Also one in another thread, at the same time, and nothing of the first one is touched."""
    found: list[BaseException] = []

    async def elsewhere(manager: ConversationManager) -> None:
        for way in (manager.ask, manager.submit):
            try:
                await way(say())
            except RuntimeError as error:
                found.append(error)
        try:
            manager.submit_nowait(say())
        except RuntimeError as error:
            found.append(error)

    async def program() -> None:
        async with opened(echo) as manager:
            before = manager.statistics()
            await trio.to_thread.run_sync(trio.run, elsewhere, manager)
            assert manager.statistics().received == before.received
            assert str(await manager.ask(say())) == "re: hello"

    trio.run(program)
    assert len(found) == 3
    assert all("another Trio run" in str(error) for error in found)


def test_a_later_trio_run_in_the_same_thread_finds_it_closed() -> None:
    managers: list[ConversationManager] = []

    async def first() -> None:
        async with opened(echo) as manager:
            managers.append(manager)

    async def second() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await managers[0].ask(say())

    trio.run(first)
    trio.run(second)


def test_a_plain_thread_is_refused() -> None:
    found: list[BaseException] = []

    async def program() -> None:
        async with opened(echo) as manager:

            def submit() -> None:
                try:
                    manager.submit_nowait(say())
                except RuntimeError as error:
                    found.append(error)

            thread = threading.Thread(target=submit)
            thread.start()
            thread.join()

    trio.run(program)
    assert len(found) == 1


@simulated
async def test_subclasses_of_message_are_refused() -> None:
    """They could override what the laws rest on."""

    class Odd(Message):
        pass

    async with opened(echo) as manager:
        with pytest.raises(TypeError, match="message must be"):
            await manager.ask(Odd("c", "ada", "hello"))


@simulated
async def test_a_message_may_be_sent_again_and_elsewhere() -> None:
    message = say()
    async with opened(echo) as one, opened(echo) as two:
        for manager in (one, two, one):
            assert str(await manager.ask(message)) == "re: hello"


@simulated
async def test_managers_share_nothing() -> None:
    async with opened(echo) as one, opened(echo) as two:
        await one.ask(say(id="m1"))
        await two.ask(say(id="m1"))
        assert one.statistics().received == two.statistics().received == 1


def test_errors_name_their_reason_for_people() -> None:
    for reason in ccm.Reason:
        error = ccm.Rejected.because(reason)
        assert error.reason is reason
        assert str(error).startswith(f"{reason.value}: ")
        assert reason.sentence.endswith(".")
