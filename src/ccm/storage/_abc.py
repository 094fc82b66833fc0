"""The contract between ccm and whatever keeps messages: `Storage`."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ._analytics import Analytics
from ._records import (
    Accept,
    Accepted,
    Conversation,
    Delivery,
    Ended,
    Entry,
    Health,
    Hit,
    Letter,
    Operation,
    Page,
    Repeated,
    Settle,
    Stored,
)


class Storage(ABC):
    """Keeps the inbox, the history, the outbox and the dead letters, because they must change together.

    A storage is a small synchronous object. ccm calls `commit` from one thread at a time, and the reading
    methods from others, also while a commit is under way: they see what the last finished commit has left.
    `ccm.testing.check_storage` runs the suite that every storage must pass.

    Every method raises `ccm.StorageError` when it cannot do what it promises: then nothing has changed,
    unless the error's `unknown` is set.
    """

    kind = "storage"
    blocking = True
    """Whether the methods wait for a disk or a network; False: they are quick, and called without a thread.
    """
    wall: Callable[[], float] = staticmethod(time.time)
    """Seconds since 1970; a simulation puts a clock of its own here."""
    durable = True
    """Whether what `commit` has returned from survives the end of the process."""

    shared = False
    """Whether other programs may change what it holds meanwhile, so that `changed` is worth asking."""

    def changed(self) -> bool:
        """Whether another program has changed something since the last time this was asked. Called from the
        thread that commits, between two commits."""
        return False

    def latency(self) -> float:
        """Seconds of Trio's time that the next commit of a storage takes that does not block; for
        simulations."""
        return 0.0

    @abstractmethod
    def open(self) -> None:
        """Make it ready: take sole possession of it, bring its schema up to date.

        Raises:
            StorageError: somebody else has it, its schema is newer than this program, it cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Give it up. Closing twice is allowed."""

    @abstractmethod
    def commit(self, operations: Sequence[Operation]) -> list[Any]:
        """Do all of `operations` in one transaction, which is durable when this returns.

        Accepts take effect first, in their order, and get rising numbers, higher than those of all accepts
        before, also of other processes' and of messages that are gone; then settlements; then the others in
        their order.

        Returns:
            One result for each: `Accepted` or `Repeated` for an `Accept`, else what the operation says.
        """

    def accept(self, messages: Sequence[Accept]) -> list[Accepted | Repeated]:
        """`commit` for messages only."""
        return self.commit(messages)

    def settle(self, outcomes: Sequence[Settle]) -> None:
        """`commit` for outcomes only."""
        self.commit(outcomes)

    # -- what is not finished ----------------------------------------------------------------------

    @abstractmethod
    def recover(self, after: int, limit: int) -> list[Stored]:
        """The next `limit` messages of the inbox with a `seq` above `after`, in order."""

    @abstractmethod
    def ended(self, seq: int) -> Ended | None:
        """The turn of this number, if it has its outcome and was not erased."""

    @abstractmethod
    def undelivered(self, after: int, limit: int) -> list[Delivery]:
        """The next `limit` replies of the outbox with a `seq` above `after`, in order."""

    @abstractmethod
    def letters(self, limit: int) -> list[Letter]:
        """The newest `limit` dead letters, oldest first."""

    @abstractmethod
    def health(self) -> Health:
        """How it is."""

    # -- conversations -----------------------------------------------------------------------------

    @abstractmethod
    def conversation(self, key: str) -> Conversation | None:
        """A conversation by its key."""

    @abstractmethod
    def conversations(
        self, *, user: str | None, tenant: str | None, status: str | None, stage: str | None,
        paused: bool | None, cursor: str | None, limit: int,
    ) -> Page[Conversation]:  # fmt: skip
        """Conversations that match all that is given, the last changed first.

        Who walks through the pages sees each that does not change meanwhile exactly once.
        """

    @abstractmethod
    def history(self, key: str, *, before: int | None, after: int | None, limit: int) -> Page[Entry]:
        """Lines of a conversation, oldest first.

        With `before` (or without both) the last `limit` lines whose id is below, and the cursor leads to
        older ones; with `after` the first `limit` lines whose id is above, and the cursor leads to newer
        ones.
        """

    @abstractmethod
    def search(
        self, text: str, *, conversation: str | None, user: str | None, tenant: str | None, limit: int,
        offset: int,
    ) -> list[Hit]:  # fmt: skip
        """Utterances that have all words of `text`, the best first; of a conversation, of a user, in the
        conversations of a tenant. Words match regardless of case and accents, the last one also as the
        beginning of a longer one. Archived ones are not found."""

    @abstractmethod
    def export(self, key: str | None) -> Iterator[dict[str, Any]]:
        """Everything of a conversation, or of all: dicts for JSON, each conversation before its lines.

        Reads in pieces: memory does not grow with what is exported.
        """

    @abstractmethod
    def analytics(self, since: float, until: float) -> Analytics:
        """Figures of the turns that ended in `since <= ended < until`."""
