"""Delivers replies that nobody waits for, out of the storage's outbox: at least once, in order."""

from __future__ import annotations

import json
import logging
import random
from typing import TYPE_CHECKING, final

import trio

from ._core.outbox import Outbox
from ._core.retry import backoff
from ._errors import Busy, Permanent, StorageError
from ._items import Unwatched
from ._journal import Journal
from ._message import Reply
from ._worker import Deliver
from .storage import Delivered, Delivery, Letter
from .storage._codec import decode_message

if TYPE_CHECKING:
    from ._dispatcher import Dispatcher

AT_ONCE = 16
"""Conversations that are delivered to side by side."""
log = logging.getLogger("ccm.storage")


@final
class Courier:
    """Calls `deliver` for what the outbox holds; a task for each conversation that is delivered to just now.

    Invariants: with a conversation to deliver to, fewer than `AT_ONCE` tasks only if nothing is startable;
    what has been delivered is put into the journal at once, so only a crash delivers it again.

    Attributes:
        delivered, retries, dead: replies delivered, failed tries, replies given up.
    """

    def __init__(
        self, journal: Journal, dispatcher: Dispatcher, deliver: Deliver | None, nursery: trio.Nursery
    ) -> None:
        self._journal = journal
        self._dispatcher = dispatcher
        self._deliver = deliver
        self._nursery = nursery
        self._policy = dispatcher.config.delivery_retry
        self._timeout = dispatcher.config.timeout
        self.box: Outbox[Delivery] = Outbox()
        self._carriers = 0
        self._scopes: dict[trio.CancelScope, None] = {}
        self._clock: trio.CancelScope | None = None
        self._closing = False
        self._idlers: list[trio.Event] = []
        self._refilling = False
        self.delivered = self.retries = self.dead = 0

    @property
    def delivers(self) -> bool:
        """Whether there is anybody to deliver replies to."""
        return self._deliver is not None

    async def open(self) -> None:  # noqa: ASYNC910 - part of opening a manager
        """Take up what was not delivered before."""
        if self.delivers:
            self.box.missed = True
            await self._refill()
            if self.box.missed and not self.box.count:
                await self._journal.read(self._journal.storage.health)  # says what is wrong

    def put(self, delivery: Delivery) -> None:
        """A reply has to be delivered; it is in the storage. O(1)."""
        self.box.put(delivery)
        self._hire()

    def _hire(self) -> None:
        """As many tasks as there is work for. O(tasks started)."""
        if self._closing:
            return
        if self.box.next_deadline() < float("inf") and self._clock is None:
            self._clock = trio.CancelScope(shield=True)
            self._nursery.start_soon(self._wait_for_retries, self._clock, name="ccm delivery clock")
        for _ in range(min(self.box.startable, AT_ONCE) - self._carriers):
            self._carriers += 1
            self._nursery.start_soon(self._carry, name="ccm delivery")

    async def _carry(self) -> None:  # noqa: ASYNC910 - a task of its own
        scope = trio.CancelScope(shield=True)
        self._scopes[scope] = None
        try:
            # Shielded like the turns: `close` bounds it.
            with scope:
                while not self._closing and (delivery := self.box.take(self._dispatcher.now())):
                    await self._bring(delivery)
                    if self.box.hungry and not self._refilling:
                        await self._refill()
        finally:
            del self._scopes[scope]
            self._carriers -= 1
            self._hire()
            self._tell_idlers()

    async def _bring(self, delivery: Delivery) -> None:  # noqa: ASYNC910 - as `deliver` does
        assert self._deliver is not None
        message = decode_message(delivery.body, self._journal.shift)
        reply = Reply(delivery.text, metadata=json.loads(delivery.metadata), turn_id=delivery.seq)
        try:
            with trio.fail_after(self._timeout):
                await self._deliver(reply, message)
        except Exception as error:  # the barrier around the user's code, as around handlers
            self._failed(delivery, error)
        else:
            self.delivered += 1
            self.box.delivered(delivery)
            self._journal.put(Unwatched(Delivered(delivery.seq)))

    def _failed(self, delivery: Delivery, error: Exception) -> None:
        self.retries += 1
        failures, now = self.box.failed(delivery), self._dispatcher.now()
        delay = None if isinstance(error, Permanent) else backoff(self._policy, failures, random.random())
        if delay is not None:
            at_least = error.retry_after if isinstance(error, Busy) else 0.0
            self.box.again(delivery, now + max(delay, at_least))
            return
        log.error("the reply of turn %d cannot be delivered: %r", delivery.seq, error)
        self.dead += 1
        self.box.delivered(delivery)
        message = decode_message(delivery.body, self._journal.shift)
        books = self._dispatcher.books
        letter = Letter(
            id=books.bury(message, "(delivery)", failures, error, now), body=delivery.body,
            route="(delivery)", attempts=failures, error=repr(error), at=now + self._journal.shift,
        )  # fmt: skip
        self._journal.put(Unwatched(Delivered(delivery.seq, letter)))

    async def _wait_for_retries(self, scope: trio.CancelScope) -> None:  # noqa: ASYNC910 - a task of its own
        with scope:
            while (at := self.box.next_deadline()) < float("inf"):
                await trio.sleep_until(at)
                self._due()
        self._clock = None
        self._tell_idlers()

    def _due(self) -> None:
        """Conversations have waited long enough for another try."""
        self.box.wake(self._dispatcher.now())
        self._hire()

    async def _refill(self) -> None:  # noqa: ASYNC910 - part of a carrier
        """Read from the storage what there was no room for."""
        self._refilling = True
        try:
            while self.box.hungry and not self._closing:
                wanted = self.box.begin()
                # What has been delivered must have left the storage before it is read, and what has been
                # read must have been put before it is taken: otherwise it would be delivered twice.
                await self._journal.flush()
                page = await self._journal.read(self._journal.storage.undelivered, 0, wanted)
                await self._journal.flush()
                self.box.refill(page, last=len(page) < wanted)
        except StorageError as error:
            self.box.give_up()
            log.warning("replies that wait in the storage cannot be read: %s", error)
        finally:
            self._refilling = False
        self._hire()

    def storage_works(self) -> None:
        """The storage works again: read what could not be read. O(1)."""
        if self.box.missed and not self._refilling and not self._closing:
            self._nursery.start_soon(self._refill)

    @property
    def busy(self) -> bool:
        """Whether replies are being delivered, or wait for another try."""
        return self.delivers and not self._closing and bool(self.box.count or self.box.missed)

    async def wait_idle(self) -> None:
        """Wait until everything is delivered or given up."""
        await trio.lowlevel.checkpoint()
        while self.busy:
            event = trio.Event()
            self._idlers.append(event)
            await event.wait()

    def _tell_idlers(self) -> None:
        for event in self._idlers:
            event.set()
        self._idlers.clear()

    def close(self) -> None:
        """Deliver no more; what is under way is cancelled. The storage keeps what was not delivered."""
        self._closing = True
        for scope in self._scopes:
            scope.cancel()
        if self._clock is not None:
            self._clock.cancel()
        self._tell_idlers()
