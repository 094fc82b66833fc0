"""What the manager counts: ledgers, latencies per route and class, rates, channels, dead letters."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, final

import attrs

from ._core.histogram import LatencyHistogram
from ._core.lanes import CLASSES
from ._core.ledger import Ledger
from ._core.meter import RateMeter
from ._core.routes import Route
from ._message import Message, Priority
from ._outcome import OUTCOMES
from ._tools import Tools

MAX_CHANNELS = 1000
MAX_DEAD_LETTERS = 1000
OTHER_CHANNELS = "(other)"


@attrs.frozen(kw_only=True)
class DeadLetter:
    """A message, or an item of a service, whose handling failed for good.

    Attributes:
        id: number to `replay` or `discard` it by.
        message: what was said; None for an item of a service.
        route: the route that failed; "" for an item of a service.
        service: the service that failed; "" for a message.
        data, source, priority: the service's item, who sent it, and its class.
        attempts: how often it was tried.
        error: the last error, as text.
        at: when it was given up, on Trio's clock.
    """

    id: int
    attempts: int
    error: str
    at: float
    message: Message | None = None
    route: str = ""
    service: str = ""
    data: Any = None
    source: str = ""
    priority: Priority = Priority.NORMAL

    @property
    def text(self) -> str:
        """What was said; for an item of a service, its data as text."""
        return repr(self.data) if self.message is None else self.message.text


@final
class RouteBook:
    """Latencies and ends of one route's turns, per class; and the tools its handlers reach."""

    __slots__ = ("ended", "failed_attempts", "retries", "route", "service", "timeouts", "tools", "wait")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.tools: Tools
        self.wait = [LatencyHistogram() for _ in range(CLASSES)]
        self.service = [LatencyHistogram() for _ in range(CLASSES)]
        self.ended = dict.fromkeys(OUTCOMES, 0)
        self.failed_attempts = 0
        self.retries = 0
        self.timeouts = 0


@final
class Books:
    """All counters of one manager; plain numbers, no lock: one thread, no await between two of them.

    Invariants: `channels` has at most `MAX_CHANNELS` names and one for the rest; `dead` at most
    `MAX_DEAD_LETTERS` letters, of which the oldest goes first (`dead_dropped` counts them).
    """

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.tools: Tools
        self.messages = Ledger()
        self.sides = Ledger()
        self.routes = {route.name: RouteBook(route) for route in routes}
        self.arrivals = RateMeter()
        self.ends = RateMeter()
        self.channels: dict[str, int] = {}
        self.dead: OrderedDict[int, DeadLetter] = OrderedDict()
        self.dead_count = 0
        self.dead_dropped = 0
        self.peak_running = 0
        self.stuck = 0
        self.fallbacks = 0
        self.mean_service = 0.0

    def count_channel(self, channel: str) -> None:
        """One more message of `channel`. O(1)."""
        channels = self.channels
        if channel not in channels and len(channels) >= MAX_CHANNELS:
            channel = OTHER_CHANNELS
        channels[channel] = channels.get(channel, 0) + 1

    def bury(
        self, message: Message | None, route: str, attempts: int, error: BaseException | None, at: float
    ) -> int:
        """Keep a message that failed for good; returns its number. O(1)."""
        return self._keep(message=message, route=route, attempts=attempts, error=repr(error), at=at)

    def bury_item(
        self, service: str, data: Any, source: str, priority: Priority, attempts: int, error: BaseException,
        at: float,
    ) -> int:  # fmt: skip
        """Keep a service's item that failed for good; returns its number. O(1)."""
        return self._keep(
            service=service, data=data, source=source, priority=priority, attempts=attempts,
            error=repr(error), at=at,
        )  # fmt: skip

    def restore(
        self, id: int, message: Message, route: str, attempts: int, error: str, at: float
    ) -> None:  # fmt: skip
        """A dead letter that was kept elsewhere, under its number; oldest first. O(1)."""
        self.dead_count = max(self.dead_count, id)
        self.dead[id] = DeadLetter(
            id=id, message=message, route=route, attempts=attempts, error=error, at=at
        )  # fmt: skip

    def take_letter(self, id: int) -> DeadLetter:
        """Take a dead letter out. O(1).

        Raises:
            KeyError: there is none of this number; the text names those there are.
        """
        letter = self.dead.pop(id, None)
        if letter is None:
            known = ", ".join(map(str, self.dead)) or "none"
            raise KeyError(f"no dead letter {id!r}; known: {known}")
        return letter

    def put_back(self, letter: DeadLetter) -> None:
        """A dead letter that was taken is kept after all, in its place. O(n log n)."""
        self.dead = OrderedDict(sorted([*self.dead.items(), (letter.id, letter)]))

    def _keep(self, **what: Any) -> int:
        self.dead_count += 1
        letter = DeadLetter(id=self.dead_count, **what)
        self.dead[letter.id] = letter
        if len(self.dead) > MAX_DEAD_LETTERS:
            self.dead.popitem(last=False)
            self.dead_dropped += 1
        return letter.id
