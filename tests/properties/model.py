"""What the scheduler should have done, worked out from the trace alone, in the slowest and plainest way.

`Replay` goes through what `events()` told, in its order, and keeps the turns that wait in plain lists. It
knows the settings and the laws, and nothing of how ccm keeps its queues. Before each event it says which
lanes could start and in which class; between two events it looks at every instant at which time alone
could have changed something: a retry that comes due, a turn that ages.

What the events claim is checked against callers and handlers in `check_claims`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs

import ccm
from ccm import _events as events

from .interpreter import Trace


@attrs.define(eq=False)
class WaitingTurn:
    """A turn without an outcome, as anybody could know it."""

    id: int
    conversation: str
    tenant: str
    priority: ccm.Priority
    arrived: float
    not_before: float = 0.0
    running: bool = False
    retrying: bool = False


@attrs.define
class Lane:
    """The turns of one conversation without an outcome, in order of arrival."""

    turns: list[WaitingTurn] = attrs.Factory(list)

    @property
    def running(self) -> bool:
        return any(turn.running for turn in self.turns)

    @property
    def waiting(self) -> list[WaitingTurn]:
        return [turn for turn in self.turns if not turn.running]

    def effective(self, now: float, ageing: float) -> ccm.Priority:
        """The most urgent of all that wait, and of the head with its age."""
        head, inherited = self.waiting[0], min(turn.priority for turn in self.waiting)
        aged = head.priority
        while aged > ccm.HIGH and head.arrived + (head.priority - aged + 1) * ageing <= now:
            aged = ccm.Priority(aged - 1)
        return min(inherited, aged)


@attrs.frozen
class Instant:
    """The state just before `event`, or at a time at which nothing was told (`event` is None)."""

    now: float
    event: ccm.Event | None
    turn: WaitingTurn | None = None  # the event's


class Replay:
    """The state of the world along a trace; valid for programs without fallback and preemption."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.config = trace.program.config
        self.lanes: dict[str, Lane] = {}
        self.turns: dict[int, WaitingTurn] = {}

    # -- what the laws talk about ----------------------------------------------------------------

    @property
    def running(self) -> int:
        return sum(turn.running for turn in self.turns.values())

    @property
    def waiting(self) -> int:
        return sum(not (turn.running or turn.retrying) for turn in self.turns.values())

    def slots(self, klass: ccm.Priority) -> int:
        """Slots that `klass` may use: all but those reserved for more urgent ones, at least one."""
        # The default reserves nothing at the small limits that programs have.
        reserved = self.config.headroom or {}
        return max(1, self.config.limit - sum(n for p, n in reserved.items() if p < klass))

    def startable(self, now: float) -> dict[str, ccm.Priority]:
        """The conversations that could start a turn if they had a slot, with their effective class."""
        return {
            key: lane.effective(now, self.config.ageing)
            for key, lane in self.lanes.items()
            if lane.waiting
            and not lane.running
            and lane.waiting[0].not_before <= now
            and not self.full(lane.waiting[0].tenant)
        }

    def crowded(self, tenant: str) -> bool:
        """Whether as many turns of a tenant wait as may, and that is fewer than of all together."""
        limit = self.config.queue_limit
        places = math.ceil((self.config.policy_of(tenant).queue_share or 1.0) * limit)
        waiting = sum(not (t.running or t.retrying) and t.tenant == tenant for t in self.turns.values())
        return waiting >= places and places < limit

    def full(self, tenant: str) -> bool:
        """Whether the tenant uses all the slots that it may."""
        limit = self.config.policy_of(tenant).limit
        return limit is not None and limit <= sum(
            turn.running and turn.tenant == tenant for turn in self.turns.values()
        )

    def neglected(self, now: float) -> list[tuple[str, ccm.Priority]]:
        """Startable lanes with a free slot that they may use (law G7: none)."""
        running = self.running
        return [(key, klass) for key, klass in self.startable(now).items() if running < self.slots(klass)]

    def ready(self, now: float) -> dict[tuple[ccm.Priority, str], set[str]]:
        """By class and tenant, the conversations that could start."""
        found: dict[tuple[ccm.Priority, str], set[str]] = {}
        for key, klass in self.startable(now).items():
            found.setdefault((klass, self.lanes[key].waiting[0].tenant), set()).add(key)
        return found

    # -- going through it ------------------------------------------------------------------------

    def instants(self) -> Iterator[Instant]:
        """Every event with the state before it, and every quiet instant at which time changes something.

        A quiet instant is yielded when all that happened at its time is over: nothing may be startable.
        """
        told = self.trace.events
        for position, event in enumerate(told):
            turn = self._turn_of(event)
            yield Instant(event.at, event, turn)
            self._apply(event, turn)
            following = told[position + 1].at if position + 1 < len(told) else math.inf
            if following > event.at:
                for now in sorted({event.at, *self._changes(event.at, following)}):
                    yield Instant(now, None)

    def _changes(self, after: float, before: float) -> Iterator[float]:
        for turn in self.turns.values():
            yield from (t for t in (turn.not_before,) if after < t < before)
            for lifts in range(1, 3):
                if after < (aged := turn.arrived + lifts * self.config.ageing) < before:
                    yield aged

    def _turn_of(self, event: ccm.Event) -> WaitingTurn | None:
        if isinstance(event, events.Accepted):
            return WaitingTurn(event.turn_id, event.conversation, event.tenant, event.priority, event.at)
        return self.turns.get(getattr(event, "turn_id", 0))

    def _apply(self, event: ccm.Event, turn: WaitingTurn | None) -> None:
        if turn is None:
            return
        if isinstance(event, events.Accepted):
            self.turns[turn.id] = turn
            self.lanes.setdefault(turn.conversation, Lane()).turns.append(turn)
        elif isinstance(event, events.Started):
            turn.running, turn.retrying = True, False
        elif isinstance(event, events.Retrying):
            turn.running, turn.retrying, turn.not_before = False, True, event.at + event.delay
        elif isinstance(event, events.Ended):
            del self.turns[turn.id]
            lane = self.lanes[turn.conversation]
            lane.turns.remove(turn)
            if not lane.turns:
                del self.lanes[turn.conversation]


def check_claims(trace: Trace) -> None:
    """The events say of each turn what its sender and its handler know of it."""
    sent = {step.turn_id: trace.program.sends[step.call] for step in trace.steps}
    for event in trace.told(events.Accepted):
        if event.turn_id in sent:
            send = sent[event.turn_id]
            assert (event.conversation, event.tenant, event.priority) == (
                send.conversation, send.tenant, send.priority,
            )  # fmt: skip
    claimed = [(e.at, e.turn_id, e.attempt) for e in trace.told(events.Started)]
    entered = [(s.at, s.turn_id, s.attempt) for s in trace.steps if s.kind == "enter"]
    # A turn may be cancelled after its slot was taken and before its handler began.
    assert set(entered) <= set(claimed)
    assert len(set(entered)) == len(entered)
    assert len(set(claimed)) == len(claimed)
