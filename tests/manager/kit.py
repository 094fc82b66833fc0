"""What the manager's tests share: virtual time on several schedules, a manager that checks itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial, wraps
from typing import Any, ParamSpec

import trio

from ccm import Config, ConversationManager, Message, Router, Turn, open_manager
from ccm.testing import simulate

P = ParamSpec("P")
Handler = Callable[[Turn], Awaitable[str | None]]

SEEDS = range(3)


def simulated(fn: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Make an async test a plain one: on virtual time from 0, once for each of several schedules.

    What such a test states holds however Trio orders the tasks that are runnable at one instant.
    """

    @wraps(fn)
    def test(*args: P.args, **kwargs: P.kwargs) -> None:
        for seed in SEEDS:
            try:
                simulate(partial(fn, *args, **kwargs), seed=seed)
            except BaseException as error:
                error.add_note(f"simulated with seed={seed}")
                raise

    return test


@asynccontextmanager
async def opened(
    handler: Handler | Router, *, deliver: Any = None, fallback: Handler | None = None, **settings: Any
) -> AsyncIterator[ConversationManager]:
    """A manager without rate limit that asserts its laws after each step, and once more when it is closed."""
    config = Config(**{"debug": True, "rate_limit": None} | settings)
    async with open_manager(handler, config=config, deliver=deliver, fallback=fallback) as manager:
        yield manager
    check_closed(manager)


def check_closed(manager: ConversationManager) -> None:
    """A closed manager owes nothing: every message has its outcome, no slot and no session is held."""
    statistics = manager.statistics()
    statistics.check()
    assert (statistics.waiting, statistics.running, statistics.retrying) == (0, 0, 0)
    assert (statistics.slots_in_use, statistics.senders, statistics.sessions.active) == (0, 0, 0)
    assert statistics.side_received == sum(statistics.side_outcomes.values())


def say(text: str = "hello", conversation: str = "c", user: str = "ada", **fields: Any) -> Message:
    return Message(conversation, user, text, **fields)


async def echo(turn: Turn) -> str:
    return f"re: {turn.text}"


def takes(seconds: float) -> Handler:
    """A handler that answers after so many seconds."""

    async def handler(turn: Turn) -> str:
        await trio.sleep(seconds)
        return f"re: {turn.text}"

    return handler


class Recorder:
    """A handler that notes when each attempt began and how it ended, and does what `act` does."""

    def __init__(self, act: Handler = echo) -> None:
        self.starts: list[tuple[float, str]] = []
        self.ends: list[tuple[float, str, str]] = []
        self.turns: list[Turn] = []
        self.running = self.peak = 0
        self._act = act

    async def __call__(self, turn: Turn) -> str | None:
        self.starts.append((trio.current_time(), turn.text))
        self.turns.append(turn)
        self.running += 1
        self.peak = max(self.peak, self.running)
        how = "cancelled"
        try:
            reply = await self._act(turn)
            how = "returned"
        except Exception:
            how = "raised"
            raise
        finally:
            self.running -= 1
            self.ends.append((trio.current_time(), turn.text, how))
        return reply

    @property
    def texts(self) -> list[str]:
        """The texts in the order in which their attempts began."""
        return [text for _, text in self.starts]


class Gate:
    """A handler whose turns run until `open` is called; those that come later pass."""

    def __init__(self) -> None:
        self._event = trio.Event()

    async def __call__(self, turn: Turn) -> str:
        await self._event.wait()
        return f"re: {turn.text}"

    def open(self) -> None:
        self._event.set()
