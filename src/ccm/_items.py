"""What is put into the journal: operations, and those who wait for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import trio
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

from ._errors import StorageError

if TYPE_CHECKING:
    from ._journal import Journal
    from .storage import Operation


PROMPT: Final = ("_error", "_journal", "_result", "task", "told")
"""Slots of a `Prompt`."""


class Item(Protocol):
    """What can be put into the journal."""

    @property
    def operation(self) -> Operation | None:
        """What is to be done; None only waits for what was put before it."""

    def done(self, result: Any) -> None:
        """The operation is durable. Must not raise."""

    def failed(self, error: StorageError) -> bool:
        """It is not, or nobody knows; True: try again later. Must not raise."""


class Prompt(ABC):
    """An item that somebody waits for: a failing storage is tried again at once for it.

    Attributes:
        task: waits for the result; None: not yet.
        told: there is one.
    """

    # Hundreds wait at a time, and what each is made of costs the garbage collector as well. The slots are in
    # the classes below, one of which has another base with slots; mypy wants them here.
    if not TYPE_CHECKING:
        __slots__ = ()
    _journal: Journal
    _result: Any
    _error: Exception | None
    task: trio.lowlevel.Task | None
    told: bool

    @property
    @abstractmethod
    def operation(self) -> Operation | None:
        """See `Item`."""

    async def wait(self) -> Any:
        """Wait for the result.

        When cancelled before it is being written, it is taken back; after that, the end is waited for.
        """
        if self.told:  # a result stands, also for a task that has been cancelled
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            await wait_task_rescheduled(self.expect())
        return self.outcome()

    def expect(self) -> Callable[[object], Abort]:
        """Have this task woken with the result, which must not be there yet; what to do when it is cancelled.

        O(1). For `wait_task_rescheduled`; then comes `outcome`.
        """
        self.task = current_task()
        return self.abort

    def outcome(self) -> Any:
        """The result, or the error raised; for a task that has been woken. O(1)."""
        if self._error is not None:
            raise self._error
        return self._result

    def abort(self, _: object) -> Abort:
        """The task that waits has been cancelled. O(queued)."""
        if self._journal.withdraw(self):
            self.withdrawn()
            return Abort.SUCCEEDED
        return Abort.FAILED

    @abstractmethod
    def withdrawn(self) -> None:
        """It was taken back."""

    @abstractmethod
    def done(self, result: Any) -> None:
        """See `Item`."""

    @abstractmethod
    def failed(self, error: StorageError) -> bool:
        """See `Item`."""

    def tell(self, result: Any, error: Exception | None = None) -> None:
        """Wake whoever waits. O(1)."""
        self._result, self._error, self.told = result, error, True
        if self.task is not None:
            reschedule(self.task)


@final
class Call(Prompt):
    """An operation whose result somebody waits for; None only waits for those before it."""

    __slots__ = (*PROMPT, "operation")
    operation: Operation | None

    def __init__(self, journal: Journal, operation: Operation | None) -> None:
        self._journal = journal
        self.operation = operation
        self.task = self._result = self._error = None
        self.told = False

    def withdrawn(self) -> None:
        """Nothing was promised."""

    def done(self, result: Any) -> None:
        self.tell(result)

    def failed(self, error: StorageError) -> bool:
        self.tell(None, None if self.operation is None else _copy(error))
        return False


@final
class Unwatched:
    """An operation that nobody waits for; a failing storage gets it again."""

    def __init__(self, operation: Any) -> None:
        self.operation = operation

    def done(self, result: Any) -> None:
        """It is durable."""

    def failed(self, error: StorageError) -> bool:
        """Try again."""
        return True


def _copy(error: StorageError) -> StorageError:
    """The same error for another task: raising one object in several mixes up their tracebacks."""
    copy = StorageError(str(error), unknown=error.unknown)
    copy.__cause__ = error
    return copy
