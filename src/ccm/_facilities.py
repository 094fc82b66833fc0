"""The manager's other half: services, dead letters, cached contexts, conversations, alerts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ._books import DeadLetter
from ._core.alerts import Alert
from ._errors import StorageError
from ._message import Message, Priority
from ._policies import RetryPolicy
from ._receipt import Receipt
from ._services import Service, Services

if TYPE_CHECKING:
    from ._config import Config
    from ._conversations import Conversations
    from ._dispatcher import Dispatcher


class Facilities(ABC):
    """What a `ConversationManager` offers beside answering messages."""

    _config: Config
    _dispatcher: Dispatcher

    @abstractmethod
    async def _resubmit(self, message: Message, letter: int) -> Receipt:
        """`submit`; with a storage, the dead letter of this number goes in the same step."""

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The active alerts, critical ones first, then the oldest; none without rules. O(n log n)."""
        watch = self._dispatcher.books.tools.watch
        return () if watch is None else watch.active

    # -- conversations ---------------------------------------------------------------------------

    @property
    def conversations(self) -> Conversations:
        """The conversations that the storage keeps: history, stages, search, people who take over.

        Raises:
            StorageError: the manager has no storage.
        """
        durable = self._dispatcher.books.tools.durable
        if durable is None:
            raise StorageError(
                "this manager keeps no conversations; open it with open_manager(..., storage='bot.db')"
            )
        return durable.conversations

    # -- services --------------------------------------------------------------------------------

    @property
    def _services(self) -> Services:
        return self._dispatcher.books.tools.services

    def service(
        self, name: str, fn: Callable[[Any], Awaitable[Any]], *, concurrency: int = 1, queue: int = 100,
        retry: RetryPolicy | None = None,
    ) -> Service:  # fmt: skip
        """Make a named background worker, which handles `data` by `await fn(data)`.

        More urgent items are taken first, those of one class in the order in which they were handed in; an
        item that is tried again keeps its place. What `fn` raises harms nothing else: the item is tried
        again, at last it becomes a dead letter (`Busy` and `Permanent` mean what they mean in a handler).
        `Service.current()` tells `fn` which attempt it is. Services outlive the turns: when the manager
        closes, they work off what they have within what is left of `config.drain` seconds, then they are
        cancelled.

        Args:
            name: 1 to 512 characters, unique in the manager.
            fn: async function of one argument.
            concurrency: instances that share the load, 1 to 10,000.
            queue: items that may wait, 1 to 10,000,000.
            retry: attempts and their delays; None is `config.retry`.

        Raises:
            TypeError, ValueError: an argument is not what it must be; the text names it.
            trio.ClosedResourceError: the manager is closing.
        """
        policy = self._config.retry if retry is None else retry
        return self._services.add(name, fn, concurrency, queue, policy)

    async def send(
        self, name: str, data: Any, *, source: str = "", priority: Priority = Priority.NORMAL
    ) -> None:  # fmt: skip
        """Hand an item to a service and return once it is accepted.

        At the bound of its queue this waits for room, the more urgent first, then first come, first served.
        When cancelled before the item is accepted, nothing has happened.

        Args:
            name: the service.
            data: what `fn` gets.
            source: who sends it, for `Service.current()` and dead letters.
            priority: its class.

        Raises:
            KeyError: there is no such service; the text names those there are.
            ServiceCycle: a service would wait for room that only it, or who waits for it, can make.
            trio.ClosedResourceError: the manager is closed, or is closing and this is no service's task.
        """
        await self._services.get(name).send(data, source=source, priority=priority)

    def send_nowait(
        self, name: str, data: Any, *, source: str = "", priority: Priority = Priority.NORMAL
    ) -> None:  # fmt: skip
        """`send`, but never waits.

        Raises:
            trio.WouldBlock: `send` would have to wait for room; nothing has happened.
        """
        self._services.get(name).send_nowait(data, source=source, priority=priority)

    async def call(
        self, name: str, data: Any, *, source: str = "", priority: Priority = Priority.NORMAL
    ) -> Any:  # fmt: skip
        """Have a service handle `data` and wait for what its function returns.

        Raises as `send` does, and:
            HandlerFailed: it failed for good; `__cause__` is its last error, `dead_letter` where it is kept.

        When cancelled, so is the item: at once if it waits, else the function is.
        """
        return await self._services.get(name).call(data, source=source, priority=priority)

    def receipt(self, turn_id: int) -> Receipt | None:
        """The receipt of a turn that is live, by its number; None: there is none. O(live turns).

        For what has its outcome, there is `conversations.turn`.
        """
        found = next((r for r in self._dispatcher.changes.live() if r.turn_id == turn_id), None)
        return None if found is None else Receipt(found, self._dispatcher)

    # -- what failed for good --------------------------------------------------------------------

    def dead_letters(self) -> list[DeadLetter]:
        """What failed for good, messages and items of services, oldest first; at most 1000 are kept."""
        return list(self._dispatcher.books.dead.values())

    async def replay(self, id: int) -> Receipt | None:
        """Hand a dead letter in again: a message with a new id and without its deadline, or an item.

        Returns:
            The receipt of the message; None for an item. The letter is gone once it is accepted.

        Raises:
            KeyError: there is no such letter (the text names those there are), or its service is gone.
            Exception: what `submit` or `send` raises when it is not accepted; the letter is kept.

        When cancelled before it is accepted, the letter is kept.
        """
        books = self._dispatcher.books
        letter = books.take_letter(id)
        try:
            if letter.message is not None:
                return await self._resubmit(letter.message.replace(id=None, deadline=None), id)
            await self.send(letter.service, letter.data, source=letter.source, priority=letter.priority)
        except BaseException:
            books.put_back(letter)
            raise
        return None

    def discard(self, id: int) -> DeadLetter:
        """Forget a dead letter; returns it.

        Raises:
            KeyError: there is no such letter; the text names those there are.
        """
        letter = self._dispatcher.books.take_letter(id)
        if letter.message is not None and (durable := self._dispatcher.books.tools.durable) is not None:
            from ._items import Unwatched
            from .storage import Discard  # which nobody needs without one

            durable.journal.put(Unwatched(Discard(id)))
        return letter

    # -- cached contexts -------------------------------------------------------------------------

    def invalidate(
        self, *, conversation: str | None = None, name: str | None = None, prefix: str | None = None
    ) -> int:
        """Forget values of `Turn.context`; a load on its way answers those who wait but is not kept.

        Args:
            conversation: of this conversation only; None is of all.
            name: of this name only.
            prefix: of names that begin so, instead of `name`; "" is every name.

        Returns:
            How many values were forgotten.

        Raises:
            TypeError: none of the three is given, both `name` and `prefix` are, or one is no string.

        O(1) with conversation and name, O(names of the conversation) with it, else O(values).
        """
        return self._dispatcher.books.tools.contexts.invalidate(conversation, name, prefix)
