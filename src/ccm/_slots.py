"""`Slots`: the manager's own limit that adapts (`Config.adaptive`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from . import _events as events
from ._core.adaptive import controller
from ._errors import Busy
from ._message import Priority

if TYPE_CHECKING:
    from ._dispatcher import Dispatcher
    from ._record import TurnRecord


@final
class Slots:
    """Tells the controller how attempts end, and the scheduler what it says.

    Invariant: the scheduler's limit is the controller's.
    """

    __slots__ = ("_controller", "_dispatcher", "_open")

    def __init__(self, dispatcher: Dispatcher) -> None:
        config = dispatcher.config
        assert config.adaptive is not None
        self._dispatcher = dispatcher
        self._controller = controller(config.adaptive, config.limit)
        self._set(self._controller.limit)

    def ended(self, record: TurnRecord, error: BaseException | None, now: float) -> None:
        """An attempt is about to end, with `error` if it failed. O(1), more when turns can start now.

        What a provider's own limit has taken note of is none of the slots' business: else one provider's
        outage would take the slots from those who need another.
        """
        if record.degraded is not None:
            return
        if record.cancel_by == "timeout" and now < record.useless:
            overloaded = True
            if record.extras is not None and record.extras.judged == record.attempt:
                return
        elif isinstance(error, Busy):
            overloaded = True
            if error._judged:
                return
        elif error is not None:
            return
        else:
            overloaded = False
        dispatcher = self._dispatcher
        used, before = dispatcher.scheduler.used, dispatcher.scheduler.limit
        limit = self._controller.observe(now, used, overloaded=overloaded, full=used >= self._open)
        if limit == before:
            return
        dispatcher.recorder.close(now)
        self._set(limit)
        if dispatcher.bus.active:
            share = self._controller.share
            dispatcher.bus.publish(events.LimitChanged(now, "", limit, before, share))
        # More than one turn may start; the worker that ends this attempt would take only one (law G7). So it
        # is after some decreases: of 49 slots 8 are reserved, of 50 it was 10, and LOW may use one more.
        dispatcher.dispatch(now)

    def _set(self, limit: int) -> None:
        config = self._dispatcher.config
        headroom = [config.headroom_of(priority, limit) for priority in Priority]
        self._open = limit - headroom[Priority.LOW]
        self._dispatcher.scheduler.set_limit(limit, headroom)
