"""Judges a manager from outside: by what was sent, what handlers see, what is delivered, and its events.

Nothing here asks the scheduler. The order of a conversation is checked against the order in which its
messages were handed in, noted before the manager saw them; the number of outcomes against the messages
sent; running turns are counted inside the handlers.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import final

import attrs
import trio

import ccm
from ccm import _events as events
from ccm._core.histogram import LatencyHistogram

Handler = Callable[[ccm.Turn], Awaitable[str | None]]

BUFFER = 100_000
"""Events that may be unread; a run whose reader falls further behind says so and fails."""
SHOWN = 3
"""Examples kept of each kind of finding."""


@attrs.frozen
class Check:
    """Whether a law held, and the figures that show it."""

    law: str
    promise: str
    ok: bool
    detail: str


@attrs.frozen
class Answered:
    """One answer, for the live display."""

    message: ccm.Message
    priority: ccm.Priority | None
    seconds: float


@attrs.define(eq=False)
class ClassFigures:
    """What the events told of one class: turns by place and outcome, wait and response in seconds."""

    waiting: int = 0
    running: int = 0
    outcomes: Counter[str] = attrs.field(factory=Counter)
    wait: LatencyHistogram = attrs.field(factory=LatencyHistogram)
    response: LatencyHistogram = attrs.field(factory=LatencyHistogram)


@attrs.define(eq=False)
class _Sent:
    """One message: its place in its conversation, when it was sent, and what became of it."""

    place: int
    at: float
    turn: int | None = None
    rejections: int = 0
    replies: int = 0
    ordered: bool = False


@attrs.define(eq=False)
class _Conversation:
    """How far a conversation is: places handed out, the last one started and replied to, turns running."""

    sent: int = 0
    started: int = 0
    replied: int = 0
    running: int = 0


@attrs.define(eq=False)
class _Open:
    """A turn without an outcome."""

    at: float
    priority: ccm.Priority
    running: bool = False


@final
class Witness:
    """Watches one manager; bounded by the number of messages sent, latencies by constant memory."""

    def __init__(self, *, limit: int) -> None:
        self.sent = 0
        self.peak = 0
        self.missed = 0
        self.looks = 0
        self.rejections: Counter[str] = Counter()
        self.classes = {priority: ClassFigures() for priority in ccm.Priority}
        self.recent: deque[Answered] = deque(maxlen=8)
        self.listening = trio.Event()
        self._limit = limit
        self._running = 0
        self._messages: dict[str, _Sent] = {}
        self._conversations: dict[str, _Conversation] = {}
        self._open: dict[int, _Open] = {}
        self._ends: dict[int, str] = {}
        self._findings: dict[str, list[str]] = {}
        self._found: Counter[str] = Counter()

    # -- what the sender does --------------------------------------------------------------------

    def sending(self, message: ccm.Message, now: float) -> None:
        """`message` is about to be handed in: this is its place in the order."""
        conversation = self._conversations.setdefault(message.conversation, _Conversation())
        conversation.sent += 1
        self.sent += 1
        self._messages[message.id] = _Sent(conversation.sent, now)

    def accepted(self, message: ccm.Message, receipt: ccm.Receipt) -> None:
        """The manager took it in."""
        self._messages[message.id].turn = receipt.turn_id

    def rejected(self, message: ccm.Message, reason: str) -> None:
        """The manager did not."""
        self._messages[message.id].rejections += 1
        self.rejections[reason] += 1

    # -- what handlers and receivers see ---------------------------------------------------------

    def watch(self, handler: Handler, *, ordered: bool) -> Handler:
        """`handler`, watched; `ordered`: the turns of one conversation must come in order, one by one."""

        async def watched(turn: ccm.Turn) -> str | None:
            with self._handling(turn, ordered):
                return await handler(turn)

        return watched

    @contextmanager
    def _handling(self, turn: ccm.Turn, ordered: bool) -> Iterator[None]:
        self._running += 1
        self.peak = max(self.peak, self._running)
        if self._running > self._limit:
            self._find("G3", f"{self._running} turns at once")
        conversation = self._conversations[turn.message.conversation]
        if ordered:
            self._start(turn, conversation)
        try:
            yield
        finally:
            self._running -= 1
            conversation.running -= ordered

    def _start(self, turn: ccm.Turn, conversation: _Conversation) -> None:
        message = self._messages[turn.message.id]
        message.ordered = True
        if conversation.running:
            self._find("G2", f"{turn.message.id} started beside another turn of its conversation")
        again = turn.attempt > 1 and message.place == conversation.started
        if message.place <= conversation.started and not again:
            self._find("G2", f"{turn.message.id} started after a later message of its conversation")
        conversation.running += 1
        conversation.started = message.place

    async def deliver(self, reply: ccm.Reply, message: ccm.Message) -> None:
        """Receives every reply, as a front end would."""
        await trio.lowlevel.checkpoint()
        sent = self._messages[message.id]
        sent.replies += 1
        turn = self._open.get(reply.turn_id)
        seconds = trio.current_time() - sent.at
        self.recent.append(Answered(message, turn.priority if turn else None, seconds))
        if sent.ordered:
            conversation = self._conversations[message.conversation]
            if sent.place <= conversation.replied:
                self._find("G2", f"the reply to {message.id} came after that to a later message")
            conversation.replied = sent.place

    # -- what the manager tells ------------------------------------------------------------------

    async def read(self, manager: ccm.ConversationManager) -> None:
        """Read the manager's events until it closes; `listening` is set once none can be missed."""
        async with manager.events(BUFFER) as stream:
            self.listening.set()
            async for event in stream:
                self.note(event)

    def note(self, event: ccm.Event) -> None:
        """Take one event into account."""
        if isinstance(event, events.Accepted):
            self._open[event.turn_id] = _Open(event.at, event.priority)
            self.classes[event.priority].waiting += 1
        elif isinstance(event, events.Started):
            self._started(event)
        elif isinstance(event, events.Retrying):
            self._move(self._open.get(event.turn_id), running=False)
        elif isinstance(event, events.Ended):
            self._ended(event)
        elif isinstance(event, events.Lagged):
            self.missed += event.missed

    def _move(self, turn: _Open | None, *, running: bool) -> None:
        if turn is not None and turn.running != running:
            turn.running = running
            step = 1 if running else -1
            figures = self.classes[turn.priority]
            figures.running += step
            figures.waiting -= step

    def _started(self, event: events.Started) -> None:
        turn = self._open.get(event.turn_id)
        self._move(turn, running=True)
        if turn is not None and event.attempt == 1:
            self.classes[turn.priority].wait.record(event.at - turn.at)

    def _ended(self, event: events.Ended) -> None:
        turn = self._open.pop(event.turn_id, None)
        if turn is None:
            known = self._ends.get(event.turn_id)
            what = f"after {known}" if known else "without having been accepted"
            self._find("outcome", f"turn {event.turn_id} got {event.outcome.name} {what}")
            return
        self._move(turn, running=False)
        figures = self.classes[turn.priority]
        figures.waiting -= 1
        figures.outcomes[event.outcome.name] += 1
        if event.outcome.name == "replied":
            figures.response.record(event.at - turn.at)
        self._ends[event.turn_id] = event.outcome.name

    def look(self, statistics: ccm.Statistics) -> None:
        """Law G1 at this instant."""
        self.looks += 1
        try:
            statistics.check()
        except AssertionError as error:
            self._find("G1", str(error))

    # -- the verdict -----------------------------------------------------------------------------

    def _find(self, law: str, what: str) -> None:
        self._found[law] += 1
        if self._found[law] <= SHOWN:
            self._findings.setdefault(law, []).append(what)

    def checks(self, statistics: ccm.Statistics) -> list[Check]:
        """All verdicts, from the statistics after the last message; call it once."""
        self._conservation(statistics)
        self._outcomes()
        ordered = sum(message.ordered for message in self._messages.values())
        if self.missed:
            self._find("events", f"{self.missed} events were not read; the checks are not complete")
        return [
            self._check("G1", "conservation", f"exact at {self.looks} instants, the end among them"),
            self._check("outcome", "one outcome for every message", f"{self.sent} of {self.sent}"),
            self._check("G2", "order inside conversations",
                        f"{ordered} messages, {len(self._conversations)} conversations"),
            self._check("G3", "capacity", f"at most {self.peak} turns at once, limit {self._limit}"),
            self._check("events", "every event was read", "none missed"),
        ]  # fmt: skip

    def _check(self, law: str, promise: str, detail: str) -> Check:
        found = self._found[law]
        if found:
            more = f" (and {found - SHOWN} more)" if found > SHOWN else ""
            detail = "; ".join(self._findings[law]) + more
        return Check(law, promise, not found, detail)

    def _conservation(self, statistics: ccm.Statistics) -> None:
        self.look(statistics)
        if statistics.received != self.sent:
            self._find("G1", f"{self.sent} sent, {statistics.received} received")
        live = statistics.waiting + statistics.running + statistics.retrying
        sides = statistics.side_received - sum(statistics.side_outcomes.values())
        if live or sides:
            self._find("G1", f"at the end {live} messages and {sides} side turns have no outcome")

    def _outcomes(self) -> None:
        for id, message in self._messages.items():
            end = self._ends.get(message.turn) if message.turn is not None else None
            outcomes = message.rejections + (end is not None)
            if outcomes != 1:
                self._find("outcome", f"{id} got {outcomes} outcomes")
            elif message.replies != (end == "replied"):
                self._find(
                    "outcome", f"{id} got {message.replies} replies, its outcome is {end or 'rejected'}"
                )
