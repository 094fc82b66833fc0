"""`Contexts`: the cache behind `Turn.context`; the loaders run here.

A loader runs in the task of the caller that leads its flight, not in a task of its own. So it belongs to that
handler like everything else the handler awaits: it ends with the turn, at its time-out at the latest, its
error has the handler's traceback, and no load outlives those who wanted it. The price: when the leader is
cancelled, the first waiter begins the load again, with its own loader and turn. Callers of one key are few
(branches of one turn, routes of one conversation), so that is rare.

What makes the hand-over safe: a waiter is in `flight.waiters` exactly while it is parked. Whoever takes it
out reschedules it in the same synchronous step; if it is cancelled while parked, the abort function takes it
out. An heir that is cancelled as well has no checkpoint between its waking and the `try` around the loader,
and so hands over in turn.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from inspect import isawaitable
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import outcome
import trio
from trio.lowlevel import (
    Abort,
    Task,
    checkpoint,
    checkpoint_if_cancelled,
    current_task,
    reschedule,
    wait_task_rescheduled,
)

from ._core.cache import CacheStatistics, ContextCache, Flight, Hit, Join, Raise
from ._core.lanes import DONE

if TYPE_CHECKING:
    from ._config import Config
    from ._record import TurnRecord

T = TypeVar("T")
Loader = Callable[[Any], Awaitable[T]]

_LEAD: Final = object()
"""Tells a waiter that the load is its own now."""
_PAUSE: Final = 63
"""Every so many hits plus one (a mask: a power of two less one), the caller lets other tasks run."""

log = logging.getLogger("ccm")


@final
class Contexts:
    """The cached contexts of one manager and the tasks that wait for them."""

    __slots__ = ("_ttl", "cache")

    def __init__(self, config: Config) -> None:
        self.cache = ContextCache(size=config.cache_size)
        self._ttl = config.cache_ttl

    def statistics(self) -> CacheStatistics:
        """A frozen picture of this instant."""
        return self.cache.statistics()

    async def get(
        self, turn: Any, record: TurnRecord, name: str, loader: Loader[T], ttl: float | None
    ) -> T:  # fmt: skip
        """`Turn.context`."""
        cache = self.cache
        if not isinstance(name, str) or not name:
            raise TypeError(f"name must be a non-empty string, got {name!r}")
        fresh = self._ttl if ttl is None else _seconds(ttl)
        # Before the decision, so that no step of another task comes between it and its effect. A hit costs
        # less than Trio's full checkpoint; a loop over hits still lets others run.
        if cache.hits & _PAUSE:
            await checkpoint_if_cancelled()
        else:
            await checkpoint()
        session = record.session
        if record.place == DONE:
            raise RuntimeError(f"{turn!r} has ended; call context() while its handler runs")
        task = current_task()
        step = cache.look_up(session.conversation, name, task, fresh, trio.current_time())
        if type(step) is Hit:
            return step.value  # type: ignore[no-any-return]
        if session.context is None:
            session.context = _Kept(cache, session.conversation)
        if type(step) is Join:
            value: Any = await self._wait(step.flight, task)
            if value is not _LEAD:
                return value  # type: ignore[no-any-return]
        return await self._load(step.flight, loader, turn)

    def invalidate(self, conversation: str | None, name: str | None, prefix: str | None) -> int:
        """`ConversationManager.invalidate`."""
        for field, value in (("conversation", conversation), ("name", name), ("prefix", prefix)):
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{field} must be a string, got {value!r}")
        if name is not None and prefix is not None:
            raise TypeError(f"give name or prefix, not both, got {name!r} and {prefix!r}")
        if prefix is not None:
            start = prefix
            return self.cache.forget_where(lambda known: known.startswith(start), conversation)
        if name is not None:
            if conversation is not None:
                return self.cache.forget(conversation, name)
            return self.cache.forget_where(lambda known: known == name)
        if conversation is None:
            raise TypeError("say what to invalidate: conversation, name or prefix (prefix='' is everything)")
        return self.cache.forget_conversation(conversation)

    async def _wait(self, flight: Flight, task: Task) -> Any:
        def abort(_: Any) -> Abort:
            self.cache.leave(flight, task)
            return Abort.SUCCEEDED

        return await wait_task_rescheduled(abort)

    async def _load(self, flight: Flight, loader: Loader[T], turn: Any) -> T:
        cache = self.cache
        try:
            value = await _call(flight, loader, turn)
        except Exception as error:
            if flight.waiters and trio.current_effective_deadline() == -inf:
                # Some libraries turn a cancellation into an error of their own. It is this caller's alone.
                self._hand_over(flight)
                raise
            step = cache.fail(flight, trio.current_time())
            if type(step) is Raise:
                _wake(step.waiters, partial(outcome.Error, error))
                raise
            log.warning("loader of context %r failed, an expired value serves: %r", flight.slot.name, error)
            value, waiters = step.value, step.waiters
        except BaseException:
            self._hand_over(flight)
            raise
        else:
            waiters = cache.succeed(flight, value, trio.current_time())
        _wake(waiters, partial(outcome.Value, value))
        return value  # noqa: ASYNC910 - the loader was awaited

    def _hand_over(self, flight: Flight) -> None:
        heir = self.cache.abandon(flight)
        if heir is not None:
            _wake((heir,), partial(outcome.Value, _LEAD))


@final
class _Kept:
    """What a session knows of the cache: enough to take its values with it when it is forgotten."""

    __slots__ = ("_cache", "_conversation")

    def __init__(self, cache: ContextCache, conversation: str) -> None:
        self._cache = cache
        self._conversation = conversation

    def clear(self) -> None:
        """The session is forgotten."""
        self._cache.forget_conversation(self._conversation)


async def _call(flight: Flight, loader: Loader[T], turn: Any) -> T:
    pending = loader(turn)
    if not isawaitable(pending):
        name = flight.slot.name
        raise TypeError(f"loader of context {name!r} returned {pending!r}; make it an async function")
    return await pending


def _wake(tasks: tuple[Any, ...], result: Callable[[], outcome.Outcome[Any]]) -> None:
    """Give each task its own result: an outcome can be unwrapped once only."""
    for task in tasks:
        reschedule(task, result())


def _seconds(ttl: float) -> float:
    if not isinstance(ttl, (int, float)) or isinstance(ttl, bool):
        raise TypeError(f"ttl must be seconds >= 0 or None, got {ttl!r}")
    if not ttl >= 0.0:
        raise ValueError(f"ttl must be seconds >= 0 or None, got {ttl!r}")
    return ttl
