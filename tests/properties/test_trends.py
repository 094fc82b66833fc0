"""The rows of `trends()` add up to `statistics()`, and agree with what `events()` told, second by second."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from math import floor, fsum

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import ccm
from ccm import _events as events

from . import turn_interpreter
from .interpreter import Interpreter, Trace, run, seeded
from .programs import Program, programs, ticks
from .test_conservation import ENDS
from .turn_programs import ENDS as TURN_ENDS
from .turn_programs import TurnProgram, turn_programs
from .turn_trace import Trace as TurnTrace

Rows = tuple[ccm.Trends, ccm.Trends]


async def in_the_end(manager: ccm.ConversationManager) -> Rows:
    """All rows of a second, and all of a minute, when nothing happens any more."""
    await trio.sleep(120)
    seconds, minutes = manager.trends(), manager.trends(60)
    assert len(seconds.at) < 300, "everything is still there"
    return seconds, minutes


class Historian(Interpreter):
    """Begins `late` seconds late, sends no probe, and notes the rows when all is over."""

    late = 0.0
    rows: Rows

    async def main(self) -> Trace:
        await trio.sleep(self.late)
        trace = await super().main()
        self.rows = await in_the_end(self.manager)
        return trace

    async def _probe(self) -> None:
        pass


class TurnHistorian(turn_interpreter.Interpreter):
    """The same for turns that meet turns."""

    rows: Rows

    async def main(self) -> TurnTrace:
        trace = await super().main()
        self.rows = await in_the_end(self.manager)
        return trace

    async def _probe(self) -> None:
        pass


class Eager(trio.abc.Instrument):
    """Looks at the trends before every step of every task: each row is closed before anything can follow."""

    def __init__(self, historian: Historian | TurnHistorian) -> None:
        self.historian = historian
        self.looks = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if hasattr(self.historian, "manager"):
            self.historian.manager.trends()
            self.looks += 1


def check_sums(rows: ccm.Trends, final: ccm.Statistics) -> None:
    """Law G1 over all rows, and at the end of each row of a second."""
    assert sum(rows.received) == final.received
    assert {name: sum(column) for name, column in rows.outcomes.items()} == final.outcomes
    for priority, wait in rows.wait.items():
        assert sum(wait.count) == final.wait[priority].count
        total = fsum(n * mean for n, mean in zip(wait.count, wait.mean, strict=True) if mean is not None)
        assert total == pytest.approx(final.wait[priority].mean * final.wait[priority].count, abs=1e-6)
    if rows.step == 1:
        ended = map(sum, zip(*rows.outcomes.values(), strict=True))
        held = map(sum, zip(rows.running, rows.waiting, rows.retrying, strict=True))
        owed = [got - gone for got, gone in zip(accumulate(rows.received), accumulate(ended), strict=True)]
        assert owed == list(held)
    assert all(slots <= final.peak_running for slots in rows.slots_in_use)


def check_seconds(rows: ccm.Trends, trace: Trace) -> None:
    """Each row has what was told of its second."""
    accepted, refused = trace.told(events.Accepted), trace.told(events.Refused)
    received = Counter(floor(event.at) for event in (*accepted, *refused))
    assert dict(zip(rows.at, rows.received, strict=True)) == {at: received[floor(at)] for at in rows.at}
    fates = Counter((floor(event.at), event.outcome.name) for event in trace.told(events.Ended))
    fates += Counter((floor(event.at), "rejected") for event in refused)
    for name, column in rows.outcomes.items():
        assert column == tuple(fates[floor(at), name] for at in rows.at), name
    classes = {event.turn_id: event.priority for event in accepted}
    begun: dict[int, events.Started] = {}
    for event in trace.told(events.Started):
        begun.setdefault(event.turn_id, event)
    starts = Counter((floor(event.at), classes[id]) for id, event in begun.items())
    for priority, wait in rows.wait.items():
        assert wait.count == tuple(starts[floor(at), priority] for at in rows.at)


def check_minutes(seconds: ccm.Trends, minutes: ccm.Trends) -> None:
    """Each minute is made of its seconds."""
    for index, begin in enumerate(minutes.at):
        own = [i for i, at in enumerate(seconds.at) if begin <= at < begin + 60]
        pairs = [(minutes.received, seconds.received)]
        pairs += [(minutes.outcomes[name], column) for name, column in seconds.outcomes.items()]
        pairs += [(minutes.wait[priority].count, wait.count) for priority, wait in seconds.wait.items()]
        for whole, parts in pairs:
            assert whole[index] == sum(parts[i] for i in own)
        for name in ("running", "waiting", "retrying", "slots_in_use", "limit"):
            assert getattr(minutes, name)[index] == max(getattr(seconds, name)[i] for i in own)


@given(program=programs(ends=ENDS), late=st.just(0.0) | ticks(0, 64))
def test_rows_add_up_and_are_what_was_told(program: Program, late: float) -> None:
    historian = Historian(program)
    historian.late = late
    trace = run(program, historian)
    seconds, minutes = historian.rows
    assert trace.final is not None
    for rows in (seconds, minutes):
        check_sums(rows, historian.manager.statistics())
    check_seconds(seconds, trace)
    check_minutes(seconds, minutes)


def plain(rows: Rows) -> list[ccm.Trends]:
    """Rows without what differs from run to run."""
    return [attrs.evolve(trends, epoch=0.0, memory=(), cpu=()) for trends in rows]


@given(program=programs(ends=ENDS))
def test_rows_do_not_depend_on_who_looks_when(program: Program) -> None:
    lazy, watched = Historian(program), Historian(program)
    eager = Eager(watched)
    run(program, lazy)
    run(program, watched, [eager])
    assert eager.looks
    assert plain(lazy.rows) == plain(watched.rows)


@given(program=turn_programs(ends=TURN_ENDS))
def test_nor_do_they_when_turns_meet_turns(program: TurnProgram) -> None:
    lazy, watched = TurnHistorian(program), TurnHistorian(program)
    eager = Eager(watched)
    with seeded(program.seed):
        turn_interpreter.run(program, lazy)
    with seeded(program.seed):
        turn_interpreter.run(program, watched, [eager])
    assert eager.looks
    assert plain(lazy.rows) == plain(watched.rows)
    for rows in lazy.rows:
        check_sums(rows, lazy.manager.statistics())
    check_minutes(*lazy.rows)
