"""Goodput and waits against offered load: `python -m benchmarks.loadcurve --out FILE.svg`.

Both systems get the same arrivals and the same handling times on virtual time, so that the curves are the
same on every machine: no figure here depends on how fast anything runs. Drawing needs the extra `plot`.
"""

from __future__ import annotations

import argparse
import heapq
import importlib
import json
import random
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import trio

import ccm
from ccm.testing import Arrival, simulate, traffic

LOADS = (0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0)
LIMIT = 50
QUEUE = 1000
LEAST, MOST = 0.05, 0.5
SENDERS = 1_000_000
"""So many that hardly any message waits for the one before it in its conversation: that is not overload."""
CAPACITY = LIMIT / ((LEAST + MOST) / 2)
"""Messages per second that 50 slots can answer."""
DURATION = 60.0
MIX = {ccm.CRITICAL: 0.02, ccm.HIGH: 0.18, ccm.NORMAL: 0.60, ccm.LOW: 0.20}
TARGET = {ccm.CRITICAL: 0.1, ccm.HIGH: 0.5, ccm.NORMAL: 1.0, ccm.LOW: float("inf")}
"""Seconds a message of a class should wait at most."""
FLOOR = 1e-3
"""Seconds below which a wait is drawn as this: a wait of nothing has no place on a log scale."""
LABELS = {"ccm": "ccm", "seed": "queue + semaphore"}


class Log:
    """What happened to the messages of one run."""

    def __init__(self, duration: float) -> None:
        self.start = trio.current_time()
        self.duration = duration
        self.waits: dict[ccm.Priority, list[float]] = {priority: [] for priority in ccm.Priority}
        self.answered = self.in_time = 0

    async def handle(self, arrival: Arrival, seconds: float) -> None:
        """Answer a message; what is answered after the load has ended is no goodput."""
        priority = arrival.message.priority
        assert priority is not None
        wait = trio.current_time() - self.start - arrival.at
        self.waits[priority].append(wait)
        await trio.sleep(seconds)
        if trio.current_time() - self.start <= self.duration:
            self.answered += 1
            self.in_time += wait <= TARGET[priority]


@attrs.frozen(kw_only=True)
class Point:
    """One load: goodput as shares of the capacity, waits in seconds, and what became of the rest.

    Attributes:
        load: offered load over the capacity.
        goodput: answers while the load lasted.
        in_time: those that had waited no longer than their class should.
        p99: the wait of which 1 % of the answered messages of a class exceeded, by class.
        told: share of the messages that got no answer but an outcome that says so.
        silent: share of the messages of which nobody heard again.
    """

    load: float
    goodput: float
    in_time: float
    p99: dict[str, float]
    told: float
    silent: float


Program = Callable[[Sequence[Arrival], Sequence[float], Log], Awaitable[int]]
"""Handles the arrivals with the given handling times; returns how many were refused with an outcome."""


async def run_ccm(arrivals: Sequence[Arrival], seconds: Sequence[float], log: Log) -> int:
    """ccm; at the queue bound it sheds what is least urgent. No rate limit: the load is the load."""
    number = {arrival.message.id: i for i, arrival in enumerate(arrivals)}

    async def handler(turn: ccm.Turn) -> None:
        i = number[turn.message.id]
        await log.handle(arrivals[i], seconds[i])

    config = ccm.Config(
        limit=LIMIT,
        queue_limit=QUEUE,
        overflow=ccm.Overflow.SHED_LOWEST,
        rate_limit=None,
        max_sessions=10_000,
    )
    async with ccm.open_manager(handler, config=config) as manager:
        for arrival in arrivals:
            await trio.sleep_until(log.start + arrival.at)
            with suppress(ccm.Rejected):  # counted below
                manager.submit_nowait(arrival.message)
        await manager.wait_idle()
        statistics = manager.statistics()
    statistics.check()
    return statistics.received - statistics.outcomes["replied"]


async def run_seed(arrivals: Sequence[Arrival], seconds: Sequence[float], log: Log) -> int:
    """A bounded priority queue, a dispatcher, and a task per message behind a semaphore of 50."""
    queue = PriorityQueue(QUEUE)
    slots = trio.Semaphore(LIMIT)

    async def process(i: int) -> None:
        async with slots:
            await log.handle(arrivals[i], seconds[i])

    async def dispatch() -> None:
        while (i := await queue.get()) is not None:
            nursery.start_soon(process, i)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dispatch)
        for i, arrival in enumerate(arrivals):
            await trio.sleep_until(log.start + arrival.at)
            assert arrival.message.priority is not None
            queue.put(arrival.message.priority, i)  # what does not fit is dropped, and nobody is told
        queue.close()
    return 0


class PriorityQueue:
    """The most urgent number first, the oldest of those; for one reader."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._waiting: list[tuple[int, int]] = []
        self._filled = trio.Event()
        self._closed = False

    def put(self, priority: int, number: int) -> None:
        if len(self._waiting) < self._bound:
            heapq.heappush(self._waiting, (priority, number))
            self._filled.set()

    def close(self) -> None:
        self._closed = True
        self._filled.set()

    async def get(self) -> int | None:
        """The next number; None when there is none and will be none."""
        while not self._waiting:
            if self._closed:
                return None
            self._filled = trio.Event()
            await self._filled.wait()
        return heapq.heappop(self._waiting)[1]


PROGRAMS: dict[str, Program] = {"ccm": run_ccm, "seed": run_seed}


def measure(system: str, load: float, *, duration: float = DURATION, seed: int = 1) -> Point:
    """Run one system at one load for `duration` virtual seconds, and let it finish what it has."""
    arrivals = list(traffic(
        rate=load * CAPACITY, duration=duration, seed=seed, users=SENDERS, conversations=SENDERS, mix=MIX
    ))  # fmt: skip
    rng = random.Random(f"{seed}/seconds")
    seconds = [rng.uniform(LEAST, MOST) for _ in arrivals]

    async def program() -> tuple[Log, int]:
        log = Log(duration)
        return log, await PROGRAMS[system](arrivals, seconds, log)

    log, told = simulate(program, seed=seed)
    answered = sum(map(len, log.waits.values()))
    full = CAPACITY * duration
    return Point(
        load=load, goodput=log.answered / full, in_time=log.in_time / full,
        p99={priority.name: quantile(waits, 0.99) for priority, waits in log.waits.items()},
        told=told / len(arrivals), silent=(len(arrivals) - answered - told) / len(arrivals),
    )  # fmt: skip


def quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def curves(loads: Sequence[float] = LOADS, *, duration: float = DURATION) -> dict[str, list[Point]]:
    return {system: [measure(system, load, duration=duration) for load in loads] for system in PROGRAMS}


def draw(points: dict[str, list[Point]], path: Path) -> None:
    """Goodput on the left, waits on the right; the kind of picture follows from the file's name."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ImportError:
        raise SystemExit("drawing needs matplotlib; pip install '.[plot]'") from None
    matplotlib.use("Agg")
    # Same points, same file: no date, no random ids.
    matplotlib.rcParams.update({"svg.hashsalt": "ccm", "font.size": 10, "axes.grid": True, "grid.alpha": 0.3})
    plt: Any = importlib.import_module("matplotlib.pyplot")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    for axis in (left, right):
        axis.axvline(1, color="grey", linewidth=0.8, linestyle=":")
        axis.set(xlabel=f"offered load (× capacity, {CAPACITY:.0f} messages/s)", xlim=(0.4, 5.1))
    for system, color in (("ccm", "#0072b2"), ("seed", "#d55e00")):
        _draw_goodput(left, points[system], system, color)
        _draw_waits(right, points[system], system, color)
    left.set(title="Goodput", ylabel="answers (% of capacity)", ylim=(0, 108))
    right.set(title="Wait before the handler starts, p99", ylabel=f"seconds (log scale; none: {FLOOR:g})")
    right.set_yscale("log")
    for axis in (left, right):  # below: nowhere inside is it certain to cover no line
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2, fontsize=9, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _draw_goodput(axis: Any, points: list[Point], system: str, color: str) -> None:
    loads = [p.load for p in points]
    axis.plot(
        loads, [100 * p.goodput for p in points], "o-", color=color, label=f"{LABELS[system]}: all answers"
    )
    label = f"{LABELS[system]}: started within target"
    axis.plot(loads, [100 * p.in_time for p in points], "s--", color=color, markersize=4, label=label)


def _draw_waits(axis: Any, points: list[Point], system: str, color: str) -> None:
    for priority, style in (("CRITICAL", "o-"), ("NORMAL", "s--")):
        waits = [max(p.p99[priority], FLOOR) for p in points]
        label = f"{LABELS[system]}: {priority}"
        axis.plot([p.load for p in points], waits, style, color=color, label=label, fillstyle="none")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loadcurve", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help="the picture: .svg, .png or .pdf")
    parser.add_argument(
        "--duration", type=float, default=DURATION, metavar="S", help="virtual seconds per point"
    )
    options = parser.parse_args(arguments)
    points = curves(duration=options.duration)
    print(json.dumps({name: [attrs.asdict(p) for p in line] for name, line in points.items()}, indent=1))
    if options.out:
        draw(points, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
