"""Sends a workload through a manager while a witness watches: the one program behind demo and replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import attrs
import trio

import ccm
from ccm.testing import Arrival

from ._witness import Handler, Witness

PICTURES = 0.2
"""Seconds between two looks at the statistics, and between two pictures on the terminal."""


@attrs.frozen(kw_only=True)
class View:
    """How a run stands now."""

    statistics: ccm.Statistics
    witness: Witness
    total: int
    elapsed: float


Show = Callable[[View], object]


@attrs.frozen(kw_only=True)
class Finished:
    """How a run ended: `late` is the most seconds by which the sender missed an arrival time."""

    statistics: ccm.Statistics
    seconds: float
    late: float
    failures: tuple[tuple[str, int], ...]


async def run(
    handler: Handler | ccm.Router, config: ccm.Config, arrivals: Sequence[Arrival], witness: Witness, *,
    paced: bool = True, show: Show | None = None, storage: str | None = None,
) -> Finished:  # fmt: skip
    """Hand in `arrivals`, wait until all have their outcomes, close the manager.

    Args:
        handler: whose handlers `witness` watches.
        paced: hand each in at its time; False means as fast as the manager takes them.
        storage: the file that keeps them; None is memory.
        show: is called with a `View` every `PICTURES` seconds and at the end.
    """
    start = trio.current_time()
    looking = trio.CancelScope()
    opened = ccm.open_manager(handler, config=config, deliver=witness.deliver, storage=storage)
    async with trio.open_nursery() as nursery, opened as manager:
        # The nursery is the outer one because the witness reads to the end, which closing makes.
        await _attach(witness, manager, nursery)

        def look() -> ccm.Statistics:
            statistics = manager.statistics()
            witness.look(statistics)
            if show is not None:
                elapsed = trio.current_time() - start
                show(View(statistics=statistics, witness=witness, total=len(arrivals), elapsed=elapsed))
            return statistics

        nursery.start_soon(_look_often, look, looking)
        late = await _send(arrivals, manager, witness, start if paced else None)
        await manager.drain()
        looking.cancel()
        seconds = trio.current_time() - start
        errors = Counter(letter.error for letter in manager.dead_letters())
    return Finished(
        statistics=look(), seconds=seconds, late=late, failures=tuple(errors.most_common(5))
    )  # fmt: skip


async def _attach(witness: Witness, manager: ccm.ConversationManager, nursery: trio.Nursery) -> None:
    nursery.start_soon(witness.read, manager)
    await witness.listening.wait()


async def _look_often(look: Callable[[], object], scope: trio.CancelScope) -> None:
    with scope:
        while True:
            look()
            await trio.sleep(PICTURES)


async def _send(
    arrivals: Sequence[Arrival], manager: ccm.ConversationManager, witness: Witness, start: float | None
) -> float:
    """Hand in everything; returns by how much it was late at most."""
    late = 0.0
    await trio.lowlevel.checkpoint()
    for arrival in arrivals:
        if start is not None:
            await trio.sleep_until(start + arrival.at)
            late = max(late, trio.current_time() - start - arrival.at)
        witness.sending(arrival.message, trio.current_time())
        try:
            receipt = await manager.submit(arrival.message)
        except ccm.Rejected as rejected:
            witness.rejected(arrival.message, rejected.reason)
        else:
            witness.accepted(arrival.message, receipt)
    return late
