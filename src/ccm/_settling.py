"""What the storage is told of a turn that has ended: its outcome, what was said, what has to be delivered.

Whoever waits for an outcome is told of it once the storage has it: what somebody has been told is never
handled again, whatever happens to the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from ._errors import Outcome, StorageError
from ._journal import Journal
from ._outcome import Cancelled, Failed, Replied
from ._record import TurnRecord
from .storage import Delivery, Letter, Said, Settle
from .storage._codec import encode_message, encode_metadata, encode_outcome

if TYPE_CHECKING:
    from ._courier import Courier
    from ._dispatcher import Dispatcher


@final
class Sealing:
    """A settlement on its way, and the turn that is done when it is durable."""

    def __init__(self, settler: Settler, record: TurnRecord, operation: Settle) -> None:
        self.operation = operation
        self._settler = settler
        self._record: TurnRecord | None = record

    def done(self, result: Any) -> None:
        """The outcome is durable: tell whoever waits, have the reply delivered."""
        self._tell(True)
        self._settler.unsealed -= 1
        if self.operation.delivery is not None:
            self._settler.courier.put(self.operation.delivery)

    def failed(self, error: StorageError) -> bool:
        """The outcome stands all the same, and is written when the storage works again."""
        self._tell(None)
        return True

    def _tell(self, sealed: bool | None) -> None:
        record, self._record = self._record, None
        if record is None:
            return
        record.sealed = sealed
        record.tell_waiters()


@final
class Settler:
    """Puts outcomes into the journal.

    Attributes:
        unsealed: outcomes that are not durable yet.
        kept: messages whose turns were cancelled because the manager ends; the storage keeps them.
    """

    def __init__(self, journal: Journal, dispatcher: Dispatcher, courier: Courier) -> None:
        self._journal = journal
        self._dispatcher = dispatcher
        self.courier = courier
        self.unsealed = self.kept = 0

    def ended(
        self, record: TurnRecord, outcome: Outcome | None, shared: Outcome | None, served: float, now: float
    ) -> None:
        """A turn has its outcome (None: it is answered); `shared` is that of those that joined it. O(length).

        Its waiters are told when that is durable.
        """
        if record.sealed is not False:
            return
        if isinstance(outcome, Cancelled) and outcome.by == "drain" and not record.asked:
            record.sealed = None
            self.kept += 1
            return
        shift, message = self._journal.shift, record.message
        full = record.outcome
        assert full is not None
        self.unsealed += 1
        settle = Settle(
            seq=record.turn_id, conversation=record.key, tenant=record.tenant, user=message.user,
            channel=message.channel, message_id=message.id, route=record.route.name, outcome=full.name,
            detail=encode_outcome(full), accepted=record.arrived + shift, ended=now + shift,
            waited=record.waited, served=served, attempts=record.attempt,
            said=self._said(record, outcome, shared), delivery=self._delivery(record, shared),
            letter=self._letter(record, full),
        )  # fmt: skip
        self._journal.put(Sealing(self, record, settle))

    @staticmethod
    def _said(record: TurnRecord, outcome: Outcome | None, shared: Outcome | None) -> tuple[Said, ...]:
        """What enters the history, as `Changes.remember` has it; and what was never handled, as such."""
        extras, message = record.extras, record.message
        if extras is not None and (extras.host is not None or extras.answered_in is not None):
            return ()  # it shares a turn: its host has said it
        replied = shared is None or isinstance(shared, Replied)
        taken_back = isinstance(outcome, Cancelled) and outcome.by in ("retract", "caller")
        if (extras is not None and extras.rollback and not replied) or (taken_back and outcome is shared):
            return ()
        if not record.attempt:
            own = Said(
                role="user", user=message.user, text=message.text, message_id=message.id, handled=False
            )
            return (own,)
        said = [Said(role="user", user=m.user, text=m.text, message_id=m.id) for m in record.messages()]
        if replied:
            said.append(Said(role="assistant", text=record.answer().text))
        elif extras is not None and extras.pieces:
            said.append(Said(role="assistant", text="".join(extras.pieces), partial=True))
        return tuple(said)

    def _delivery(self, record: TurnRecord, shared: Outcome | None) -> Delivery | None:
        if not self.courier.delivers or not (shared is None or isinstance(shared, Replied)):
            return None
        addressee = record.addressee()
        if addressee is None:
            return None
        reply = record.answer()
        if not reply.text and not reply.metadata:
            return None  # there is nothing to say
        return Delivery(
            seq=record.turn_id, conversation=record.key, body=encode_message(addressee, self._journal.shift),
            text=reply.text, metadata=encode_metadata(reply.metadata),
        )  # fmt: skip

    def _letter(self, record: TurnRecord, outcome: Outcome) -> Letter | None:
        number = outcome.dead_letter if isinstance(outcome, (Failed, Replied)) else None
        kept = None if number is None else self._dispatcher.books.dead.get(number)
        if kept is None:
            return None
        return Letter(
            id=kept.id, body=encode_message(record.message, self._journal.shift), route=kept.route,
            attempts=kept.attempts, error=kept.error, at=kept.at + self._journal.shift,
        )  # fmt: skip
