"""What the tests of `turn.context` share: a loader that takes time, and what may be left of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ccm import ConversationManager, Permanent, RetryPolicy, Turn
from ccm._core.cache import ContextCache

from ..manager.kit import say

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
