"""`Turn`: what a handler gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, TypeVarTuple, final

import trio

from ._core.history import History, HistoryEntry
from ._core.lanes import DONE
from ._extras import Steered
from ._gather import Gathered, gather
from ._message import Message
from ._record import TurnRecord, say
from ._sessions import Session
from ._streaming import check_piece
from ._tools import Tracer, traced

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@final
class Turn:
    """One attempt at handling one message. Made by the manager; valid while the handler runs.

    Attributes:
        message: what was said.
        attempt: 1 for the first attempt, 2 for the first retry, and so on. A handler with side effects
            looks here: an attempt above 1 may be repeating what an earlier one did before it failed.
        deadline: when this attempt is cancelled, on Trio's clock; later by what it waits for a permit.
    """

    __slots__ = ("_record", "attempt", "deadline", "message")

    def __init__(self, record: TurnRecord) -> None:
        self._record = record
        self.message: Message = record.message
        self.attempt = record.attempt
        self.deadline = record.deadline

    @property
    def id(self) -> int:
        """The turn's id, the same in every attempt and so usable as an idempotency key."""
        return self._record.turn_id

    @property
    def redelivered(self) -> bool:
        """Whether the message comes from the storage after a restart.

        Then a handler may have begun with it before, and its side effects may be there already.
        """
        return self._record.extras is not None and self._record.extras.redelivered

    @property
    def degraded(self) -> str | None:
        """Why less than the usual is asked for, or None.

        "failed", "shed" or "expired" in a fallback handler. In a normal one "overload" while messages are
        given up because too much waits (`Config.shedding`): leave out what can be, such as an analyzer.
        """
        record = self._record
        if record.degraded is None and (load := record.book.tools.load) is not None and load.core.level:
            return "overload"
        return record.degraded

    @property
    def text(self) -> str:
        """The text of the message; of several messages, one line each."""
        if self._record.extras is None:
            return self.message.text
        return "\n".join(message.text for message in self.messages)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages this turn answers, in the order of arrival."""
        return self._record.messages()

    @property
    def route(self) -> str:
        """The name of the route that handles it."""
        return self._record.route.name

    @property
    def session(self) -> Session:
        """The live side of the conversation (read-only)."""
        return Session(self._record.session)

    async def context(
        self, name: str, loader: Callable[[Turn], Awaitable[T]], *, ttl: float | None = None
    ) -> T:  # fmt: skip
        """What `loader(turn)` returned for this conversation and `name` lately; else it is called now.

        Calls at the same time share one load: its value, or its error, is for all of them. A value is
        fresh for `ttl` seconds after its load. When the loader of an expired one fails, the expired one
        is returned for up to 600 seconds more; who must not get it invalidates it first. Errors and None
        are not kept. Values go with the session, and the least recently used ones when there are more
        than `Config.cache_size`.

        Args:
            name: what it is. Conversations never share a value, people in one conversation do: what
                differs between them needs the user in its name, as in `f"profile:{turn.message.user}"`.
            loader: async function that takes this turn. It runs in the task of a caller and ends with it.
            ttl: how old a value may be for this call, seconds >= 0; None is `Config.cache_ttl`.

        Raises:
            RuntimeError: the turn has ended, or the loader needs, by way of others, its own value.
            Exception: whatever the loader raised.

        When cancelled, callers who wait for the same load are not: one of them loads instead. A value
        that is there is returned without letting other tasks run, most of the time.
        """
        record = self._record
        if (tracer := self._tracer) is not None and callable(loader):
            loader = traced(tracer, "context", str(name), loader)
        return await record.book.tools.contexts.get(self, record, name, loader, ttl)

    def invalidate(self, name: str) -> int:
        """Forget the value of `name` in this conversation; returns how many were forgotten, 0 or 1.

        A load on its way still answers those who wait for it, but is not kept: whoever asks after this
        gets a newer one.
        """
        record = self._record
        return record.book.tools.contexts.invalidate(record.message.conversation, name, None)

    async def gather(
        self, /, within: float | None = None, **analyzers: Callable[[Turn], Awaitable[Any]]
    ) -> Gathered:
        """Run analyzers side by side: `found = await turn.gather(mood=analyse_mood, within=0.2)`.

        Each is called with the turn. What fails or is not ready in time is an error of its own name and
        harms no other: see `Gathered`. Returns when all have ended; those that are not ready in time are
        cancelled and waited for while they clean up.

        Args:
            within: seconds for all of them together, >= 0; None is no limit besides the turn's deadline.
            analyzers: async functions that take a turn, by name; see `ccm.analyzers.adapt` for others.

        Raises:
            TypeError, ValueError: an argument is not what it must be; nothing has been started.

        When cancelled, all of them are. What an analyzer raises that is no `Exception` cancels the others
        and comes out.
        """
        return await gather(self, within, analyzers)

    async def call(self, service: str, data: Any) -> Any:
        """Have a service handle `data`, as urgently as this turn, and wait for its result.

        Raises what `ConversationManager.call` does. When cancelled, so is the service's work on it.
        """
        record = self._record
        to = record.book.tools.services.get(service)
        if (tracer := self._tracer) is None:
            return await to.call(data, source=record.route.name, priority=record.klass)
        with tracer.span("service", service):
            return await to.call(data, source=record.route.name, priority=record.klass)

    def limit(self, key: str) -> AbstractAsyncContextManager[None]:
        """A block that at most `Config.provider_limits[key]` turns are in at a time.

        `async with turn.limit("openai"): answer = await client.ask(...)`. Who finds no permit waits, and
        keeps its slot; the waiting counts as part of the attempt. The most urgent turn gets the next permit,
        in a class the one that arrived first; some are kept for urgent classes, in proportion to
        `Config.headroom`.

        Raise `Busy(retry_after)` out of the block when the provider says *later*. Then the key pauses: until
        it is over, whoever asks for it, or waits for it, gets `Busy` with what is left of the pause. If the
        handler lets it through, the turn gives its slot back and comes back then; that uses up neither an
        attempt nor the patience with it. A time-out of the turn in the block, and `Busy`, are what a
        `ProviderLimit` that adapts goes by.

        Blocks may be nested: inside one, a turn may ask only for keys that come later in the order of the
        alphabet. Else two turns could wait for each other. Do not wait inside a block for another turn, or
        another task, that needs the same key.

        Args:
            key: a name in `Config.provider_limits`.

        Raises:
            KeyError: there is no limit of that name.
            Busy: on entering, while the key pauses.
            RuntimeError: on entering: the attempt has ended, or the order of the names was not kept.

        When cancelled on entering, no permit is taken; it is given back when the block is left, however that
        happens.
        """
        record = self._current()
        return record.book.tools.limits.block(record, key)

    async def in_thread(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run `fn(*args)` in a thread: for what blocks, so that other turns go on meanwhile.

        The manager has `Config.worker_threads` places for threads; beyond them calls wait, first come,
        first served. Returns and raises what `fn` does.

        When cancelled while it waits for a place, `fn` is never called. When cancelled later, it returns
        at once and the thread is abandoned: Python cannot end a thread, so it goes on, its result is
        dropped, and it keeps its place until it has ended. A function that may take long should therefore
        look at `trio.from_thread.check_cancelled()` now and then, or run in a process. The manager does not
        wait for abandoned threads when it closes.

        Raises:
            TypeError: `fn` is not a synchronous function.
            trio.ClosedResourceError: the manager is closed.
        """
        pools = self._record.book.tools.pools
        if (tracer := self._tracer) is None:
            return await pools.in_thread(fn, *args)
        with tracer.span("thread", getattr(fn, "__qualname__", type(fn).__name__)):
            return await pools.in_thread(fn, *args)

    async def in_process(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run `fn(*args)` in a process: for what computes, and for what may crash or hang.

        The manager has `Config.worker_processes` places; beyond them calls wait, first come, first served.
        Processes are started when they are needed (0.1 s and what the module of `fn` imports) and reused
        (0.1 ms); they end with the manager. Function, arguments and result are pickled. Returns and
        raises what `fn` does. Needs `pip install 'ccm[process]'`.

        When cancelled, the process is killed.

        Raises:
            TypeError: `fn` is not a synchronous function, or it or an argument cannot be pickled.
            trio.BrokenResourceError: the process died. Other calls are not affected.
            trio.ClosedResourceError: the manager is closed.
            ImportError: the extra is not installed.
        """
        pools = self._record.book.tools.pools
        if (tracer := self._tracer) is None:
            return await pools.in_process(fn, *args)
        with tracer.span("process", getattr(fn, "__qualname__", type(fn).__name__)):
            return await pools.in_process(fn, *args)

    async def send(self, text: str) -> None:  # noqa: ASYNC910 - there is a reader in the loop, or a checkpoint
        """Say a piece of the reply now; whoever reads along (`manager.stream`) gets it at once.

        Waits until the reader has taken it; without a reader it goes on at once. A handler that sends pieces
        returns None, and the pieces are the reply, or returns the whole text. From several tasks the pieces
        are said in the order of the calls.

        Raises:
            TypeError: `text` is no string.
            RuntimeError: this attempt is over.

        When cancelled, the piece may not have been read.
        """
        record = self._current()
        extras = record.more
        piece = check_piece(text)
        if not extras.readers():
            await trio.lowlevel.checkpoint()
            if not extras.readers():  # nor has one come meanwhile
                extras.pieces.append(piece)
                return
        # One at a time: a handler may speak from several tasks, and all readers get one and the same text.
        async with extras.speaking:
            for reader in extras.readers():
                await reader.put(self.attempt, extras.pieces, piece)
            extras.pieces.append(piece)

    @property
    def steered(self) -> Steered:
        """With `OnBusy.STEER`: messages that arrive while this turn runs, as a receive channel.

        What is read belongs to this turn and is answered with it; what is not read becomes the next turn.
        """
        return self._current().steered

    @asynccontextmanager
    async def uninterruptible(self) -> AsyncIterator[None]:
        """A block that no newer message, edit or more urgent turn interrupts; they wait for its end.

        The time-out, the drain deadline, `stop`, `retract` and whoever asked are not held back. On leaving
        the block an interruption that came meanwhile takes effect.
        """
        record = self._current()
        extras = record.more
        extras.shields += 1
        try:
            yield
        finally:
            if record.attempt == self.attempt and extras.shields:
                extras.shields -= 1
                if not extras.shields and extras.pending is not None:
                    pending, extras.pending = extras.pending, None
                    record.book.tools.interrupt(record, pending)
        await trio.lowlevel.checkpoint()

    async def history(self, limit: int = 20) -> tuple[HistoryEntry, ...]:
        """The last utterances of this conversation, oldest first, this turn's messages included.

        It is kept from the first time that it is asked for, or that a reply is interrupted, as long as
        the session lives: at most 100 utterances of ordered routes, in the order they were handled.

        Args:
            limit: how many at most, >= 0.
        """
        if not isinstance(limit, int) or limit < 0:
            raise ValueError(f"limit must be a whole number >= 0, got {limit!r}")
        record = self._current()
        session = record.session
        if session.history is None:
            durable = record.book.tools.durable
            loaded = History() if durable is None else await durable.history(record.key)
            if session.history is None:  # still
                session.history = loaded
        if record.ordered and record.attempt:
            say(record, session.history)
        await trio.lowlevel.checkpoint()
        return session.history.last(limit)

    @property
    def _tracer(self) -> Tracer | None:
        return self._record.book.tools.tracer

    def _current(self) -> TurnRecord:
        record = self._record
        if record.place == DONE or record.attempt != self.attempt:
            raise RuntimeError(
                f"this attempt of turn {record.turn_id} is over; a turn is for its handler only"
            )
        return record

    def __repr__(self) -> str:
        return f"<Turn {self.id} of {self.message.conversation!r}, attempt {self.attempt}>"
