"""The one way into the storage: a task that commits whatever has been put before it, in that order.

Group commit without a timer: what arrives while a commit is on its way goes into the next one. So a lone
sender waits for one commit. Of many, a part is written while the program deals with others: if all were in
one commit, the program would stand still while the disk works, and the disk while the program does.

What follows from a commit is done here and in the order of the journal, not by the tasks that wait for it:
Trio wakes tasks in an order of its own, and a message must have its place before its sender goes on.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, final

import trio
from outcome import Error, Outcome
from trio.lowlevel import Abort, current_task, reschedule, start_thread_soon, wait_task_rescheduled

from ._errors import StorageError
from ._items import Call, Item, Prompt
from .storage import Operation, Storage

T = TypeVar("T")
_RETRY_FIRST, _RETRY_MOST = 0.1, 5.0
"""Seconds between two attempts of a settlement that a failing storage has refused."""
_FEW = 64
"""So many operations go into one commit at least, if there are so many."""
_PARTS = 4
"""Parts into which what is on its way is divided: one is written, while the program deals with others."""
_EACH = 4e-5
"""Seconds for each operation of a commit: if it took longer, the disk is slow, and all go into the next."""
_READERS = 4
_LOOK = 1.0
"""Seconds between two looks at what other programs may have changed."""
log = logging.getLogger("ccm.storage")


@final
class Journal:
    """Commits operations in the order in which they are put.

    Args:
        storage: open.
        clock: the time on Trio's clock.
        wall: seconds since 1970; looked at once.
        told: called with each error of the storage, and with None when it works again.

    A storage that blocks is written by a thread, which takes whatever has been put as often as it comes back
    to it: while it writes one part, the program goes on with the other. The thread lives as long as `run`,
    which hears of it by way of a pair of sockets: that takes a quarter less time than Trio's general ways
    into a thread and back.

    Invariants: one commit at a time; each item is in one batch at a time; what becomes of a batch is told in
    Trio's thread, in the order of the batches; items of a batch that failed and are to be tried again stand
    before all that came later. Trio's thread and the writing one share `_queue`: one appends to it and takes
    out of it, the other pops from its left, each one step under Python's lock; it is put in front of, and
    replaced, only while nobody writes (`_busy`). They share `_news` as well: one appends and rings, the other
    hears it and takes from the left.

    Attributes:
        shift: what turns Trio's time into seconds since 1970.
        failing: the storage's last error, or None while it works.
        outside: called when another program has changed what is stored, with nothing on its way.
        closed: set when `run` has ended.
        commits, written, failures: batches and operations that are durable, and batches that failed.
        pending: operations that are not durable yet.
    """

    def __init__(
        self, storage: Storage, clock: Callable[[], float], wall: Callable[[], float] = time.time,
        told: Callable[[StorageError | None], object] = lambda error: None,
    ) -> None:  # fmt: skip
        self.storage = storage
        self.clock = clock
        self.shift = wall() - clock()
        self.failing: StorageError | None = None
        self.commits = self.written = self.failures = 0
        self._told = told
        self.pending = 0
        self._queue: deque[Item] = deque()
        self._writing: Sequence[Item] = ()
        self._busy = False
        self._waiting = self._aborted = self._slow = False
        self._crash: BaseException | None = None
        self._rest = threading.Lock()  # held while there is nothing to write
        self._news: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._bell: socket.socket
        self._ear: socket.socket
        self._writes = self._dismissed = self._woken = False
        self._since = 0.0
        self._delay = 0.0
        self._task: trio.lowlevel.Task | None = None
        self._parked = False
        self._closing = False
        self._scope = trio.CancelScope(shield=True)
        self.closed = trio.Event()
        self.outside: Callable[[], Awaitable[object]]
        self._readers = trio.CapacityLimiter(_READERS)

    # -- in --------------------------------------------------------------------------------------

    def put(self, item: Item) -> None:
        """Have `item` written with the next commit. O(1)."""
        if not self.pending:
            self._since = self.clock()
        self.pending += 1
        self._queue.append(item)
        if not self._busy:
            self._begin()

    def _begin(self) -> None:
        """Have what is in the queue written, if that is possible now."""
        if self._writes and not self._delay and not self._closing:
            self._start()
        else:
            self._wake()

    def withdraw(self, item: Item) -> bool:
        """Take an item back; False: it is too late, it is being written. O(queued)."""
        try:
            self._queue.remove(item)
        except ValueError:
            return False
        self.pending -= 1
        return True

    async def call(self, operation: Operation) -> Any:
        """Commit an operation, return its result.

        Raises:
            StorageError: it could not be done; the operation is not tried again.

        When cancelled before it is being written, nothing has happened; after that, it is waited for.
        """
        call = Call(self, operation)
        self.put(call)
        return await call.wait()

    async def flush(self) -> None:
        """Wait until all that has been put so far is durable, or has failed."""
        await trio.lowlevel.checkpoint()
        if self.pending:
            call = Call(self, None)
            self.put(call)
            await call.wait()

    async def read(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a reading method of the storage. When cancelled, its end is waited for."""
        if not self.storage.blocking:
            await trio.lowlevel.checkpoint()
            return function(*args, **kwargs)
        return await trio.to_thread.run_sync(lambda: function(*args, **kwargs), limiter=self._readers)

    def lag(self, now: float) -> float:
        """Seconds for which the oldest of them has waited. O(1)."""
        return now - self._since if self.pending else 0.0

    # -- the writer ------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._writes:
            self._woken = True
            self._ring()
        elif self._parked:
            self._parked = False
            assert self._task is not None
            reschedule(self._task)

    async def run(self) -> None:  # noqa: ASYNC910 - a task of its own
        """Commit until closed. Shielded: what has been accepted is settled also while all else ends."""
        self._task = current_task()
        try:
            if self.storage.blocking:
                self._hire()
            with self._scope:
                while self._crash is None and not (self._closing and not self._queue and not self._busy):
                    if self._busy:
                        self._waiting = True
                        await self._park()
                    elif not self._queue:
                        await self._idle()
                    else:
                        if self._delay:
                            await self._wait(self._delay)
                        if self.storage.blocking:
                            self._start()
                        else:
                            await self._inline()
        finally:
            self._closing = True
            with trio.CancelScope(shield=True):  # noqa: ASYNC912 - as short as a commit, which cannot be left alone
                while self._busy:
                    await self._park()  # noqa: ASYNC102
                await self._dismiss()  # noqa: ASYNC102
            left, self._queue, self.pending = [*self._queue], deque(), 0
            for item in left:
                item.failed(StorageError("the manager ended before this was written", unknown=True))
            self.closed.set()
        if self._crash is not None:
            raise self._crash

    async def _idle(self) -> None:
        """Wait for work; look now and then whether another program has changed what is stored."""
        if not (self.storage.shared and self.failing is None):
            await self._park()
            return
        while True:
            with trio.move_on_after(_LOOK):  # noqa: ASYNC912
                await self._park()
                return
            if not (self._busy or self._queue):
                break
        # Nothing of our own is on its way now, so whatever is new is somebody else's.
        self._busy = True
        try:
            if await trio.to_thread.run_sync(self.storage.changed):
                await self.outside()
        except StorageError as error:
            log.warning("changes of another program cannot be read: %s", error)
        finally:
            self._busy = False

    @property
    def _prompted(self) -> bool:
        return any(isinstance(item, Prompt) for item in self._queue)

    async def _park(self) -> None:
        """Wait to be woken; meanwhile, do what the writing thread's news ask for."""
        if self._writes:
            while not self._woken:
                await self._hear()
            self._woken = False
            return  # noqa: ASYNC910 - who has been woken meanwhile need not wait
        self._parked = True

        def abort(_: Any) -> Abort:
            self._parked = False
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)

    async def _wait(self, seconds: float) -> None:  # noqa: ASYNC910 - part of that task
        """Let a failing storage alone for a while, unless somebody waits for an answer, or at the end."""
        closing = self._closing
        with trio.move_on_after(min(seconds, _RETRY_FIRST) if closing else seconds):  # noqa: ASYNC912
            while self._closing == closing and (closing or not self._prompted):
                await self._park()

    def _commit(self, batch: Sequence[Item]) -> Sequence[Any]:
        """One transaction; the results of those items that have an operation."""
        operations = [operation for item in batch if (operation := item.operation) is not None]
        return self.storage.commit(operations) if operations else []

    def _start(self) -> None:
        """Have the thread write what there is, and what comes meanwhile."""
        self._busy = True
        self._rest.release()

    def _write(self) -> tuple[Sequence[Item], Sequence[Any]]:
        """In the thread: commit what is in the queue until nothing is, or it fails.

        The last batch is returned with its results, and told of together with the end: each word to Trio's
        thread wakes it, and then both want Python's lock.
        """
        queue = self._queue
        while queue and not self._aborted:
            most = len(queue) if self._slow else max(_FEW, self.pending // _PARTS)
            began = time.perf_counter()
            # Noted at once: whatever happens now, somebody is told of these.
            self._writing = batch = [queue.popleft() for _ in range(min(len(queue), most))]
            try:
                results = self._commit(batch)
            except StorageError as error:
                self._tell(self._after_failure, batch, error)
                break
            self._slow = time.perf_counter() - began > _EACH * len(batch)
            if not queue:
                return batch, results
            self._tell(self._committed, batch, results)
        return (), ()

    def _after_writing(self, batch: Sequence[Item], results: Sequence[Any]) -> None:
        try:
            if batch:
                self._committed(batch, results)
        finally:
            self._busy = False
        if self._queue and not (self._delay or self._closing):
            self._start()
        elif self._waiting or self._delay or self._closing:
            self._waiting = False
            self._wake()

    # -- the writing thread ----------------------------------------------------------------------

    def _hire(self) -> None:
        """Have a thread that writes when it is told to."""
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)
        self._rest.acquire()
        start_thread_soon(self._serve, self._served, "ccm storage")
        self._writes = True

    async def _dismiss(self) -> None:  # noqa: ASYNC910 - part of `run`
        """Let the thread end, which is not writing."""
        if hasattr(self, "_ear"):  # else there is none
            self._dismissed = True
            self._rest.release()
            while self._writes:
                await self._hear()
            self._ear.close()
            self._bell.close()

    def _serve(self) -> None:
        """All that the thread does."""
        while True:
            self._rest.acquire()
            if self._dismissed:
                return
            self._tell(self._after_writing, *self._write())

    def _served(self, outcome: Outcome[None]) -> None:
        """In that thread: it ends."""
        self._tell(self._after_serving, outcome)

    def _after_serving(self, outcome: Outcome[None]) -> None:
        self._writes = False
        if isinstance(outcome, Error):  # a bug, not the disk
            self._busy = False
            self._queue.extendleft(reversed(self._writing))
            outcome.unwrap()

    def _tell(self, function: Callable[..., object], *args: Any) -> None:
        """In the thread: have this done in Trio's, in the order of the calls."""
        self._news.append((function, args))
        self._ring()

    def _ring(self) -> None:
        try:
            self._bell.send(b"\0")
        except BlockingIOError:
            return  # it has been rung often enough

    async def _hear(self) -> None:
        """Wait for news, and do what they ask for."""
        await trio.lowlevel.wait_readable(self._ear)
        self._ear.recv(4096)
        self._heed()

    @trio.lowlevel.enable_ki_protection
    def _heed(self) -> None:
        while self._news:
            function, args = self._news.popleft()
            # What is left of the news must be heard all the same; `run` raises the error.
            try:
                function(*args)
            except BaseException as error:  # noqa: ASYNC103 - `run` does
                self._crash, self._woken = error, True

    async def _inline(self) -> None:  # noqa: ASYNC910 - part of that task
        """Commit what there is to a storage that does not block."""
        seconds = self.storage.latency()
        batch, self._queue = [*self._queue], deque()
        self._busy = True
        try:
            if seconds:
                await trio.sleep(seconds)
            else:
                await trio.lowlevel.checkpoint()
            results = self._commit(batch)
        except StorageError as error:
            self._after_failure(batch, error)
        except BaseException:
            self._queue.extendleft(reversed(batch))
            raise
        else:
            self._committed(batch, results)
        finally:
            self._busy = False

    def _committed(self, batch: Sequence[Item], results: Sequence[Any]) -> None:
        """A batch is durable."""
        self.pending -= len(batch)
        self._since = self.clock()
        self.commits += 1
        self.written += len(results)
        if self.failing is not None:
            self.failing, self._delay = None, 0.0
            self._told(None)
        following = iter(results)
        for item in batch:
            item.done(None if item.operation is None else next(following))

    def _after_failure(self, batch: Sequence[Item], error: StorageError) -> None:
        """A batch is not durable, or nobody knows. The writer has stopped, or is about to."""
        self.failures += 1
        if self.failing is None:
            log.error("%s", error)
            self._told(error)
        self.failing = error
        self._delay = min(_RETRY_MOST, 2 * self._delay or _RETRY_FIRST)
        again = [item for item in batch if item.failed(error)]
        self.pending -= len(batch) - len(again)
        self._queue.extendleft(reversed(again))

    def close(self) -> None:
        """Write what there is, then end; `abort` ends the trying of what a failing storage refuses."""
        self._closing = True
        self._wake()

    def abort(self) -> None:
        """End now; a commit that is under way is still waited for."""
        self._closing = self._aborted = True
        self._scope.cancel()
