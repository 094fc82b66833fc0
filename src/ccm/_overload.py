"""`LoadWatch`: has the load judged, and gives up what has to be given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from . import _events as events
from ._core.lanes import HIGH, LOW, NORMAL
from ._core.overload import Overload
from ._errors import Reason, Shed
from ._message import Message
from ._policies import Shedding
from ._record import TurnRecord

if TYPE_CHECKING:
    from ._dispatcher import Dispatcher


@final
class LoadWatch:
    """The Trio side of `Overload`: the dispatcher's timekeeper calls `judge` when it is due."""

    def __init__(self, policy: Shedding, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._scheduler = dispatcher.scheduler
        self.core = Overload(policy)
        self.started = self.core.started

    def arrives(self, message: Message, priority: int, ordered: bool, now: float) -> Shed | None:
        """The outcome of a turn that is given up as it arrives; None when it comes in. O(1).

        What finds a slot is never given up.
        """
        core = self.core
        core.arrived(priority)
        if self._scheduler.may_start(message.conversation, message.tenant, priority, ordered=ordered):
            return None
        core.waits(now)
        if core.next_deadline() < self._dispatcher.wake:
            self._dispatcher.wake_at(core.next_deadline())
        if not core.level or not core.gives_up(priority, message.tenant, message.user, now):
            return None
        return self._shed(now)

    def judge(self, now: float) -> None:
        """The interval is over: raise or lower what is given up. O(waiting of LOW and NORMAL)."""
        dispatcher, core = self._dispatcher, self.core
        ready, slots = self._scheduler.ready.counts, self._scheduler.slots(NORMAL)
        judgement = core.judge(now, ready, slots, dispatcher.books.mean_service)
        if judgement.level != judgement.before:
            dispatcher.bus.publish(events.SheddingChanged(now, core.share(LOW), core.share(NORMAL)))
        if judgement.over:
            for klass in (LOW, NORMAL):
                self._sweep(klass, now)

    def _sweep(self, klass: int, now: float) -> None:
        """Give up what has waited for too long already, of the users that are chosen now."""
        core, too_long = self.core, now - self.core.patience
        if not core.share(klass):
            return
        for entry in self._scheduler.waiting_in(klass):
            assert isinstance(entry, TurnRecord)
            lane, message = entry.lane, entry.message
            lifted = lane is not None and lane.group is not None and lane.klass <= HIGH
            if entry.arrived > too_long or lifted:
                continue
            if core.gives_up(klass, message.tenant, message.user, now):
                self._scheduler.cancel(entry, now)
                self._dispatcher.degrade(entry, self._shed(now), "shed", now)

    def _shed(self, now: float) -> Shed:
        return Shed(Reason.OVERLOADED, max(self._dispatcher.patience(), self.core.rotates_in(now)))
