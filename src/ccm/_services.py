"""Services: named background workers with a bounded queue each.

An instance is a task that goes from item to item while some wait, and ends when none does: an idle service
costs no task, and a busy one does not start a task for every item. The tasks are shielded, because what
they do is not over when the turns are: turns use services, so the manager cancels services after turns.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, final

import attrs
import outcome
import trio
from trio.lowlevel import (
    Abort,
    cancel_shielded_checkpoint,
    checkpoint,
    checkpoint_if_cancelled,
    current_task,
    reschedule,
    wait_task_rescheduled,
)

from ._checks import refuse
from ._core.cycles import cycle
from ._core.lanes import INF
from ._core.routes import check_handler
from ._core.service import ENDED, RUNNING, Item, ServiceQueue, ServiceStatistics
from ._errors import Busy, HandlerFailed, Permanent, ServiceCycle
from ._message import Priority, check_key, check_priority
from ._policies import RetryPolicy

if TYPE_CHECKING:
    from ._books import Books

GRACE = 1.0
"""Seconds a cancelled item gets to clean up before it is reported."""

Work = Callable[[Any], Awaitable[Any]]

log = logging.getLogger("ccm")
_current: ContextVar[_Job] = ContextVar("ccm_service_item")


class _Job(Item):
    """An item together with the task that waits for it and the scope its attempt runs in."""

    __slots__ = ("called", "scope", "service", "task")

    def __init__(self, service: Service, data: Any, source: str, priority: int, called: bool) -> None:
        super().__init__(service._queue, data, source, priority)
        self.service = service
        self.called = called
        self.task: trio.lowlevel.Task | None = None
        self.scope: trio.CancelScope | None = None


@final
@attrs.frozen(kw_only=True)
class ServiceItem:
    """What a service is working on; see `Service.current`.

    Attributes:
        service: the name of the service.
        id: the same in every attempt, and so usable as an idempotency key within this manager.
        source, priority: who sent it, and how urgent it is.
        attempt: 1 for the first attempt. An attempt above 1 may be repeating what an earlier one did.
    """

    service: str
    id: int
    source: str
    priority: Priority
    attempt: int


@final
class Service:
    """A named background worker. Made by `ConversationManager.service`.

    Attributes:
        name: what it is called.
    """

    def __init__(self, owner: Services, fn: Work, queue: ServiceQueue) -> None:
        self.name = queue.name
        self._owner = owner
        self._fn = fn
        self._queue = queue

    async def send(self, data: Any, *, source: str = "", priority: Priority = Priority.NORMAL) -> None:
        """Hand in an item and return once it is accepted; see `ConversationManager.send`."""
        await checkpoint_if_cancelled()
        job = self._job(data, source, priority, called=False)
        holder = self._owner.holder()
        if not self._queue.has_room:
            self._owner.refuse_cycle(holder, job)
        if self._owner.offer(job, patient=True):
            await cancel_shielded_checkpoint()
        else:
            await self._owner.wait(holder, job)

    def send_nowait(self, data: Any, *, source: str = "", priority: Priority = Priority.NORMAL) -> None:
        """`send`, but never waits.

        Raises:
            trio.WouldBlock: `send` would have to wait for room; nothing has happened.
        """
        if not self._owner.offer(self._job(data, source, priority, called=False), patient=False):
            raise trio.WouldBlock

    async def call(self, data: Any, *, source: str = "", priority: Priority = Priority.NORMAL) -> Any:
        """Hand in an item and wait for its result; see `ConversationManager.call`."""
        await checkpoint_if_cancelled()
        job = self._job(data, source, priority, called=True)
        holder = self._owner.holder()
        if not self._queue.has_instance:
            self._owner.refuse_cycle(holder, job)
        self._owner.offer(job, patient=True)
        return await self._owner.wait(holder, job)

    def statistics(self) -> ServiceStatistics:
        """Its figures. O(1)."""
        return self._queue.statistics(trio.current_time())

    @staticmethod
    def current() -> ServiceItem:
        """What the service that calls this, directly or not, is working on.

        Raises:
            RuntimeError: no service is at work here.
        """
        job = _current.get(None)
        if job is None or job.state != RUNNING:
            raise RuntimeError("no service is at work here; call it from the service's own function")
        return ServiceItem(
            service=job.service.name, id=job.id, source=job.source, priority=Priority(job.priority),
            attempt=job.attempt,
        )  # fmt: skip

    def _job(self, data: Any, source: str, priority: object, *, called: bool) -> _Job:
        if not isinstance(source, str):
            raise TypeError(f"source must be a str, got {source!r}; name who sends it")
        return _Job(self, data, source, check_priority(priority), called)

    def __repr__(self) -> str:
        return f"<Service {self.name!r}: {self._queue.depth} wait, {len(self._queue.running)} at work>"


@final
class Services:
    """The services of one manager.

    Invariants, between any two awaits: each item that is RUNNING is in the hands of exactly one task; no item
    waits beside a free instance; no sender waits beside a free place; while an item waits for its next
    attempt, the timekeeper runs and its alarm is set no later.
    """

    def __init__(self, books: Books, nursery: trio.Nursery, *, debug: bool) -> None:
        self._books = books
        self._nursery = nursery
        self._debug = debug
        self._now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        self._context = copy_context()
        self._services: dict[str, Service] = {}
        self._idlers: list[trio.Event] = []
        self._alarm: trio.CancelScope | None = None
        self._closing = False
        self._closed = False

    def add(self, name: str, fn: Work, concurrency: int, capacity: int, policy: RetryPolicy) -> Service:
        """Make a service; see `ConversationManager.service`. O(1)."""
        check_key("name", name)
        check_handler("fn", fn)
        for field, number, high in (("concurrency", concurrency, 10_000), ("queue", capacity, 10_000_000)):
            if type(number) is not int or not 1 <= number <= high:
                raise refuse(field, number, f"a whole number from 1 to {high}")
        if not isinstance(policy, RetryPolicy):
            raise refuse("retry", policy, "a RetryPolicy or None")
        if self._closing:
            raise trio.ClosedResourceError("this manager is closing; make services when it is opened")
        if name in self._services:
            raise ValueError(f"there is a service {name!r} already; names are unique, choose another")
        queue = ServiceQueue(name, capacity=capacity, concurrency=concurrency, policy=policy, now=self._now())
        service = self._services[name] = Service(self, fn, queue)
        return service

    def get(self, name: str) -> Service:
        """The service of that name, or KeyError with the names that exist. O(1)."""
        try:
            return self._services[name]
        except KeyError:
            known = ", ".join(map(repr, self._services)) or "none"
            raise KeyError(f"no service {name!r}; known: {known}") from None

    def queues(self) -> list[ServiceQueue]:
        """The queue of each service. O(services)."""
        return [service._queue for service in self._services.values()]

    @property
    def busy(self) -> int:
        """Items in hand, and senders. O(services)."""
        return sum(service._queue.busy for service in self._services.values())

    def statistics(self) -> dict[str, ServiceStatistics]:
        """The figures of each service. O(services)."""
        return {name: service.statistics() for name, service in self._services.items()}

    # -- items in --------------------------------------------------------------------------------

    def holder(self) -> _Job | None:
        """The item on whose behalf this task runs, if any: its instance is held until the task gets on."""
        job = _current.get(None)
        return job if job is not None and job.state == RUNNING else None

    def refuse_cycle(self, holder: _Job | None, job: _Job) -> None:
        """Raise when `holder` would wait for ever if it waited for `job`; nothing has changed then."""
        if holder is not None and (names := cycle(holder, job)):
            raise ServiceCycle(names)

    def offer(self, job: _Job, *, patient: bool) -> bool:
        """Hand in an item; whether it was accepted. The order is fixed here, before any await. O(log n)."""
        if self._closed or (self._closing and self.holder() is None):
            raise self._closed_error(job.service)
        now = self._now()
        accepted = job.queue.offer(job, now, patient=patient)
        if accepted:
            self._advance(job.service, now)
        return accepted

    async def wait(self, holder: _Job | None, job: _Job) -> Any:
        """Until the item is accepted (`send`) or has ended (`call`). When cancelled, it is given up."""
        job.task = current_task()

        def abort(_: Any) -> Abort:
            job.task = None
            self._give_up(job, self._now())
            return Abort.SUCCEEDED

        if holder is None:
            return await wait_task_rescheduled(abort)
        holder.waits.append(job)
        try:
            return await wait_task_rescheduled(abort)
        finally:
            holder.waits.remove(job)

    def _give_up(self, job: _Job, now: float) -> None:
        """Nobody wants the item any more: it ends at once, or, when it runs, after its cleanup."""
        if job.state == RUNNING:
            assert job.scope is not None
            job.scope.cancel()
        elif job.state != ENDED:
            job.queue.cancel(job, now)
            self._advance(job.service, now)

    def _advance(self, service: Service, now: float) -> None:
        """Start what may start, let in who may come in, until nothing changes. O(log n) each."""
        queue = service._queue
        while (job := self._take(service, now)) is not None:
            start = partial(self._nursery.start_soon, self._work, job, name=f"ccm service {service.name}")
            # Not in the context of whoever happened to send: an instance works for many.
            self._context.run(start)
        if queue.next_deadline() < INF:
            self._remind(queue.next_deadline())
        if self._idlers and not self.busy:
            for event in self._idlers:
                event.set()
            self._idlers.clear()
        if self._debug:
            queue._check()

    def _take(self, service: Service, now: float) -> _Job | None:
        """The next item for an instance, and its place for a sender."""
        queue = service._queue
        job: Any = queue.take(now)
        if job is not None:
            job.scope = trio.CancelScope(shield=True)
        for came in queue.admit(now):
            assert isinstance(came, _Job)
            if not came.called:
                self._tell(came)
        return job  # type: ignore[no-any-return]

    @staticmethod
    def _tell(job: _Job, value: Any = None, *, error: BaseException | None = None) -> None:
        task, job.task = job.task, None
        if task is not None:
            reschedule(task, outcome.Value(value) if error is None else outcome.Error(error))

    # -- attempts --------------------------------------------------------------------------------

    async def _work(self, first: _Job) -> None:  # noqa: ASYNC910 - a task of its own
        """One instance: from item to item until none waits."""
        job: _Job | None = first
        while job is not None:
            _current.set(job)
            await self._attempt(job)
            # In one step with the end of the attempt: the instance is never free while an item waits.
            service, now = job.service, self._now()
            job = self._take(service, now)
            self._advance(service, now)
            # A function that never waits must not keep others from running.
            await cancel_shielded_checkpoint()

    async def _attempt(self, job: _Job) -> None:  # noqa: ASYNC910 - part of that task
        """The barrier: what the service's function raises ends here, unless it must end the program."""
        assert job.scope is not None
        try:
            with job.scope:
                value = await job.service._fn(job.data)
        except Exception as error:
            self._failed(job, error)
        except BaseException as error:  # noqa: ASYNC103 - `_crashed` sorts it out
            self._crashed(job, error)
        else:
            if job.scope.cancelled_caught:
                self._cancelled(job)
            else:
                job.queue.succeed(job, self._now())
                self._tell(job, value)

    def _failed(self, job: _Job, error: BaseException) -> None:
        """Again later, or never again."""
        assert job.scope is not None
        if job.scope.cancel_called or self._closed:
            self._cancelled(job)
            return
        busy = error.retry_after if isinstance(error, Busy) else None
        permanent = isinstance(error, Permanent)
        if job.queue.fail(job, self._now(), random.random(), busy=busy, permanent=permanent) is None:
            self._bury(job, error)

    def _crashed(self, job: _Job, error: BaseException) -> None:
        """No function of a service may raise this; what is not a stray cancellation ends the manager."""
        rest: BaseException | None = error
        if isinstance(error, BaseExceptionGroup):
            rest = error.split(trio.Cancelled)[1]
        elif isinstance(error, trio.Cancelled):
            rest = None
        if rest is None or isinstance(rest, Exception):
            # Nothing but its own scope reaches into the shield, so this one came from nowhere.
            stray = RuntimeError("the service raised trio.Cancelled although nobody cancelled it")
            stray.__cause__ = error
            self._failed(job, stray)
            return
        job.queue.fail(job, self._now(), 0.0, permanent=True)
        self._bury(job, error)
        raise error

    def _bury(self, job: _Job, error: BaseException) -> None:
        letter = self._books.bury_item(
            job.service.name, job.data, job.source, Priority(job.priority), job.attempt, error, self._now()
        )
        failure = HandlerFailed(letter)
        failure.__cause__ = error
        self._tell(job, error=failure)

    def _cancelled(self, job: _Job) -> None:
        job.queue.cancel(job, self._now())
        self._tell(job, error=self._closed_error(job.service))

    @staticmethod
    def _closed_error(service: Service) -> trio.ClosedResourceError:
        return trio.ClosedResourceError(f"service {service.name!r} is closed, as is its manager")

    # -- time ------------------------------------------------------------------------------------

    def _remind(self, deadline: float) -> None:
        """Have the alarm ring at `deadline` at the latest."""
        if self._alarm is None:
            self._alarm = trio.CancelScope(deadline=deadline)
            self._context.run(
                partial(self._nursery.start_soon, self._keep_time, name="ccm service timekeeper")
            )
        elif deadline < self._alarm.deadline:
            self._alarm.deadline = deadline

    async def _keep_time(self) -> None:  # noqa: ASYNC910 - a task of its own
        """While items wait for their next attempt; shielded, because they do so during the drain, too."""
        with trio.CancelScope(shield=True):  # noqa: ASYNC912 - ends by itself when nothing is left
            while (deadline := min(s._queue.next_deadline() for s in self._services.values())) < INF:
                with trio.CancelScope(deadline=deadline) as self._alarm:
                    await trio.sleep_forever()
                now = self._now()
                for service in self._services.values():
                    self._advance(service, now)
        self._alarm = None

    # -- the end ---------------------------------------------------------------------------------

    async def wait_idle(self) -> None:
        """Wait until no item is in hand and no sender waits."""
        await checkpoint()
        while self.busy:
            event = trio.Event()
            self._idlers.append(event)
            try:
                await event.wait()
            finally:
                if event in self._idlers:
                    self._idlers.remove(event)

    async def close(self, until: float) -> None:
        """Law G12 for services: the turns have ended; drain until then, cancel what is left, and say so."""
        self._closing = True
        with trio.CancelScope(shield=True, deadline=until):
            await self.wait_idle()
        self.abort()
        with trio.CancelScope(shield=True, deadline=self._now() + GRACE):
            await self.wait_idle()
        for service in self._services.values():
            if service._queue.busy:
                log.warning(
                    "service %r does not end: its items were cancelled %.3g s ago; its function swallows "
                    "trio.Cancelled or shields itself. The manager waits for it.", service.name, GRACE,
                )  # fmt: skip

    def abort(self) -> None:
        """End everything: what waits at once, what runs as soon as it has cleaned up. O(items)."""
        self._closing = self._closed = True
        now = self._now()
        for service in self._services.values():
            for job in service._queue.left():
                assert isinstance(job, _Job)
                self._cancelled(job)
            for job in service._queue.running.values():
                assert isinstance(job, _Job)
                assert job.scope is not None
                job.scope.cancel()
            self._advance(service, now)
        if self._alarm is not None:
            self._alarm.cancel()
