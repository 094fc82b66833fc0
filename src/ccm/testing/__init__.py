"""Test programs that use ccm, the way ccm tests itself.

- `simulate` runs a program on virtual time with a schedule drawn from a seed; what can never end raises
  `Deadlock`, `Livelock` or `Overrun` instead of hanging.
- `CancelAt` cancels before the n-th step of the run loop; `WhenIdle` looks whenever every task is blocked.
- `FakeModel` answers slowly and unreliably, but the same every time; its profiles are `constant`,
  `uniform`, `lognormal` and `Failures`.
- `rehearse` sends a workload through a manager on virtual time and counts how each class and tenant fared:
  for hours of thousands of people, where `simulate` would take long.
- `check_storage` checks that a storage of your own keeps the promises of `ccm.storage.Storage`.
- `traffic` generates workloads; `irc_traffic` and `parse_irc` take them from chat logs.

A test of a bot, without a second of waiting::

    import trio
    from ccm import open_manager
    from ccm.testing import FakeModel, lognormal, simulate, traffic

    async def an_hour() -> None:
        model = FakeModel(latency=lognormal(0.8, 0.6), seed=7)
        async with open_manager(model) as manager:
            for arrival in traffic(rate=5, duration=3000, seed=7):
                await trio.sleep_until(arrival.at)
                await manager.submit(arrival.message)
            await manager.wait_idle()
            manager.statistics().check()

    simulate(an_hour, seed=7)

Needs neither pytest nor hypothesis and works with both. With Hypothesis, draw the seed with
`st.integers()`: it is what chooses the schedule.
"""

from __future__ import annotations

from types import FunctionType as _FunctionType

from ccm._core.histogram import LatencyHistogram
from ccm.testing._conformance import check_storage
from ccm.testing._figures import GroupFigures, Timeline
from ccm.testing._instruments import CancelAt, WhenIdle
from ccm.testing._model import Failures, FakeModel, Latency, ModelError, constant, lognormal, uniform
from ccm.testing._rehearsal import Rehearsal, rehearse
from ccm.testing._simulate import Deadlock, Livelock, Overrun, Stuck, simulate
from ccm.testing._traffic import Arrival, IrcLine, MalformedLine, irc_traffic, parse_irc, traffic
from ccm.testing._verdicts import Check

__all__ = [
    "Arrival",
    "CancelAt",
    "Check",
    "Deadlock",
    "Failures",
    "FakeModel",
    "GroupFigures",
    "IrcLine",
    "Latency",
    "LatencyHistogram",
    "Livelock",
    "MalformedLine",
    "ModelError",
    "Overrun",
    "Rehearsal",
    "Stuck",
    "Timeline",
    "WhenIdle",
    "check_storage",
    "constant",
    "irc_traffic",
    "lognormal",
    "parse_irc",
    "rehearse",
    "simulate",
    "traffic",
    "uniform",
]

_public = globals().copy()
for _name in __all__:
    _object = _public[_name]
    # As in `ccm`: shown where it is public.
    if isinstance(_object, (type, _FunctionType)):
        _object.__module__ = __name__
del _public, _name, _object
