"""What a manager with a storage has besides: journal, inbox, settlements, outbox; opened as one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

import attrs
import trio

from . import _events as events
from ._changes import Change
from ._conversations import Conversations, Stages
from ._core.history import History, HistoryEntry
from ._core.routes import Route
from ._courier import Courier
from ._errors import StorageError
from ._inbox import Inbox
from ._journal import Journal
from ._message import Message
from ._record import said_at_first
from ._settling import Settler
from ._worker import Deliver
from .storage import Attempted, Retract, Rewrite, Storage
from .storage._codec import decode_message, encode_edited, encode_message

if TYPE_CHECKING:
    from ._intake import Intake
    from ._record import TurnRecord
    from ._turn import Turn

HISTORY = 100
"""Utterances that a session remembers."""
LETTERS = 1000
LINES = 200
"""Lines of a conversation in which a message that is taken back is looked for."""
log = logging.getLogger("ccm.storage")


@final
class Durable:
    """The parts that keep what a manager has accepted.

    Attributes:
        paused: conversations that a human has taken over.
    """

    def __init__(
        self, storage: Storage, intake: Intake, deliver: Deliver | None, nursery: trio.Nursery,
        stages: Stages | None = None,
    ) -> None:  # fmt: skip
        self._intake = intake
        self._dispatcher = dispatcher = intake._dispatcher
        self._nursery = nursery
        self.storage = storage
        self.journal = Journal(storage, dispatcher.now, storage.wall, self._told)
        self.courier = Courier(self.journal, dispatcher, deliver, nursery)
        self.inbox = Inbox(intake, self.journal)
        self.settler = Settler(self.journal, dispatcher, self.courier)
        self.paused: set[str] = set()
        self.journal.outside = self._look_again
        self.conversations = Conversations(self.journal, stages, self._pause, self._forget)
        self._failed_at: float | None = None
        intake.journal = self.journal
        intake.inbox = self.inbox
        dispatcher.settler = self.settler

    async def open(self) -> None:
        """Take up what the storage holds: dead letters, replies, messages.

        Raises:
            StorageError: it cannot be read.
        """
        self._nursery.start_soon(self.journal.run, name="ccm journal")
        await self._read_letters()
        await self._read_paused()
        await self.courier.open()
        await self.inbox.open()
        self._intake.line.changed()
        if self.inbox.behind:
            self._nursery.start_soon(self.inbox.run, name="ccm recovery")

    async def _look_again(self) -> None:
        """Another program has changed the storage: take up what it has put there."""
        await self._read_letters()
        await self._read_paused()
        await self.inbox.look_again()

    async def _read_letters(self) -> None:
        journal, books = self.journal, self._dispatcher.books
        # Those that may be on their way into the storage are not missing there.
        here = [] if journal.pending else [id for id, one in books.dead.items() if one.message is not None]
        letters = await journal.read(self.storage.letters, LETTERS)
        for id in set(here) - {letter.id for letter in letters}:
            books.dead.pop(id, None)
        for letter in letters:
            if letter.id not in books.dead:
                message = decode_message(letter.body, journal.shift)
                at = letter.at - journal.shift
                books.restore(letter.id, message, letter.route, letter.attempts, letter.error, at)

    async def _read_paused(self) -> None:
        journal, found = self.journal, set[str]()
        cursor: str | None = None
        while True:
            page = await journal.read(
                self.storage.conversations, user=None, tenant=None, status=None, stage=None, paused=True,
                cursor=cursor, limit=1000,
            )  # fmt: skip
            found.update(conversation.key for conversation in page.items)
            cursor = page.cursor
            if cursor is None:
                break
        self.paused.clear()
        self.paused.update(found)

    def handling(self, route: Route) -> Route:
        """A route whose handler is not asked in conversations that a human has taken over, and whose
        repetitions after a restart are counted before they begin."""
        handler, paused, journal = route.handler, self.paused, self.journal

        async def handle(turn: Turn) -> Any:  # noqa: ASYNC910 - as the handler does
            record = turn._record
            if record.extras is not None and record.extras.redelivered and record.sealed is False:
                await self._count(record, journal)
            if paused and record.key in paused:
                return None  # noqa: ASYNC910
            return await handler(turn)

        return attrs.evolve(route, handler=handle) if route.answers else route

    async def _count(self, record: TurnRecord, journal: Journal) -> None:  # noqa: ASYNC910 - for `handle`
        """Note that a message is handled again before it is: it may be what ends the process."""
        if record.more.counted:
            await trio.lowlevel.checkpoint()
            return
        record.more.counted = True
        try:
            await journal.call(Attempted(record.turn_id))
        except StorageError as error:
            log.warning("another attempt at turn %d was not counted: %s", record.turn_id, error)

    # -- in between ------------------------------------------------------------------------------

    def _told(self, error: StorageError | None) -> None:
        bus, now = self._dispatcher.bus, self._dispatcher.now()
        self._failed_at = None if error is None else now
        if error is None:
            self.courier.storage_works()
            self.inbox.storage_works()
            bus.publish(events.StorageRecovered(now))
        else:
            bus.publish(events.StorageFailed(now, str(error), error.unknown))

    def trouble(self, now: float) -> float:
        """Seconds for which the storage has failed, or has kept the oldest operation waiting. O(1)."""
        return max(self.journal.lag(now), 0.0 if self._failed_at is None else now - self._failed_at)

    async def history(self, conversation: str) -> History:
        """What was said in a conversation lately, from the storage."""
        await self.journal.flush()
        page = await self.journal.read(
            self.storage.history, conversation, before=None, after=None, limit=HISTORY
        )
        history = History(HISTORY)
        for entry in page.items:
            if entry.role != "event" and entry.handled:
                history.add(
                    HistoryEntry(entry.role, entry.text, entry.turn_id, entry.partial, entry.message_id)
                )
        return history

    async def rewrite(self, record: TurnRecord) -> None:
        """The message of a turn has a new text."""
        body = encode_edited(record.message, self.journal.shift, said_at_first(record))
        await self.journal.call(Rewrite(record.turn_id, body))

    async def retract(self, record: TurnRecord, *, whole: bool) -> None:
        """A message that was answered has been taken back; `whole`: and its turn with it."""
        turn = record
        if record.extras is not None and record.extras.answered_in is not None:
            turn = record.extras.answered_in
        await self.journal.call(Retract(turn.turn_id, None if whole else record.message.id))

    async def retract_kept(self, conversation: str, message_id: str) -> Change:
        """Take back a message that was answered and that only the storage knows any more.

        Raises:
            StorageError: it cannot be read, or not be changed.
        """
        await self.journal.flush()
        page = await self.journal.read(
            self.storage.history, conversation, before=None, after=None, limit=LINES
        )
        said = [line for line in page.items if line.role == "user"]
        turn_id = next((line.turn_id for line in said if line.message_id == message_id), None)
        if turn_id is None:
            return Change.UNKNOWN
        if not any(line.turn_id == turn_id and line.role == "assistant" for line in page.items):
            return Change.ENDED
        whole = sum(line.turn_id == turn_id for line in said) == 1
        part = None if whole else message_id
        session = self._dispatcher.sessions.get(conversation)
        if session is not None and session.history is not None:
            session.history.take_out(turn_id, part)
        await self.journal.call(Retract(turn_id, part))
        if not whole:
            return Change.WITHDRAWN
        now = self._dispatcher.now()
        self._dispatcher.bus.publish(events.Retracted(now, turn_id, conversation, message_id))
        return Change.RETRACTED

    def _pause(self, key: str, paused: bool) -> None:
        """A conversation is paused or resumed, and the storage has it. O(1)."""
        if paused:
            self.paused.add(key)
        else:
            self.paused.discard(key)

    def _forget(self, user: str) -> None:
        """Nothing of a user stays in memory. O(live turns + sessions + dead letters)."""
        dispatcher, now = self._dispatcher, self._dispatcher.now()
        for record in [record for record in dispatcher.changes.live() if record.message.user == user]:
            dispatcher.cancel(record, "forget", now)
        for session in dispatcher.sessions:
            if user in session.users:
                session.history = None
        dead = dispatcher.books.dead
        for id in [id for id, one in dead.items() if one.message is not None and one.message.user == user]:
            del dead[id]

    def check(self, message: Message) -> None:
        """Raise unless the message can be stored."""
        encode_message(message, self.journal.shift)

    def statistics(self, now: float) -> Mapping[str, Any]:
        """Figures for `Statistics.storage`. O(1)."""
        journal, inbox, courier = self.journal, self.inbox, self.courier
        return {
            "kind": self.storage.kind, "durable": self.storage.durable,
            "failing": None if journal.failing is None else str(journal.failing),
            "pending": journal.pending, "lag": journal.lag(now), "commits": journal.commits,
            "written": journal.written, "failures": journal.failures, "unsealed": self.settler.unsealed,
            "unjournaled": inbox.unjournaled, "recovered": inbox.recovered, "poisoned": inbox.poisoned,
            "behind": inbox.behind, "undelivered": courier.box.count, "delivered": courier.delivered,
            "delivery_retries": courier.retries, "delivery_failures": courier.dead,
        }  # fmt: skip

    # -- the end ---------------------------------------------------------------------------------

    async def wait_idle(self) -> None:
        """Wait until everything is written, and every reply delivered or given up."""
        await self.journal.flush()
        await self.courier.wait_idle()
        await self.journal.flush()

    async def shut_down(self, until: float, grace: float) -> None:
        """Deliver and write until `until`, and write for at least `grace` seconds; the rest stays undone."""
        with trio.CancelScope(shield=True, deadline=until):
            await self.courier.wait_idle()
        self.courier.close()
        self.journal.close()
        until = max(until, self._dispatcher.now() + grace)
        with trio.CancelScope(shield=True, deadline=until):
            await self.journal.closed.wait()
        self.journal.abort()

    def abort(self) -> None:
        """End at once what is left. O(1)."""
        self.courier.close()
        self.journal.abort()
