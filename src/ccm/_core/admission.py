"""May this message come in? The checks in their fixed order, all synchronous, none changing anything."""

from __future__ import annotations

from typing import Any, final

import attrs

from .._errors import Reason
from .._message import Message
from .._policies import Overflow
from .dedupe import DedupeWindow
from .lanes import Entry
from .ratelimit import RateLimiter
from .scheduler import Scheduler
from .sessions import SessionTable
from .tenants import Tenants


@attrs.frozen
class Refuse:
    """The message does not come in."""

    reason: Reason
    retry_after: float | None = None


@attrs.frozen
class Displace:
    """The message comes in once `victim` is shed."""

    victim: Entry


@attrs.frozen
class Wait:
    """The sender has to wait until there is room."""


@attrs.frozen
class Repeat:
    """The message is a repetition of `first`."""

    first: Any


_WAIT = Wait()
Verdict = Refuse | Displace | Wait | None
"""What admission says of a turn; None lets it in."""


@final
@attrs.define(eq=False, kw_only=True)
class Admission:
    """Applies the bounds in this order: draining, valid, duplicate, rate, conversation, sessions, queue.

    A refused message leaves no trace.
    """

    scheduler: Scheduler
    sessions: SessionTable
    limiter: RateLimiter
    window: DedupeWindow[Any] | None
    overflow: Overflow
    max_text: int
    tenants: Tenants | None = None
    draining: bool = False
    senders: int = 0

    def message(self, message: Message, now: float) -> Refuse | Repeat | None:
        """The checks that concern the message as a whole. O(1).

        Raises:
            ValueError: the text is longer than `max_text` bytes.
        """
        if self.draining:
            return Refuse(Reason.DRAINING)
        if len(message.text) * 4 > self.max_text:
            self.check_size(message.text)
        if not message.generated_id and self.window is not None:
            first = self.window.get((message.tenant, message.id), now)
            if first is not None:
                return Repeat(first)
        return None

    def check_size(self, text: str) -> None:
        """Raise ValueError if `text` is longer than `max_text` bytes. O(length)."""
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > self.max_text:
            raise ValueError(
                f"text must be at most {self.max_text} bytes of UTF-8, got {size}: "
                f"{text[:40]!r}...; shorten it or raise Config.max_text"
            )

    def turn(
        self, message: Message, priority: int, ordered: bool, limited: bool, now: float, own: bool = True
    ) -> Verdict:
        """The checks that concern one turn of the message. O(1).

        With `limited`, a turn that comes in is counted in its user's rate; nothing else is ever changed. If
        it is not accepted after all, that has to be given back (`give_back`).
        Without `own`, the message joins a turn that is there already, or takes the place of one that waits:
        the bounds on waiting turns do not concern it.
        """
        verdict: Verdict = None
        scheduler, key = self.scheduler, message.conversation
        known = scheduler.lane(key) is not None or scheduler.loose
        if known and own and not scheduler.conversation_has_room(key):
            verdict = Refuse(Reason.CONVERSATION_FULL)
        elif not self.sessions.has_room(key):
            verdict = Refuse(Reason.TOO_MANY_SESSIONS)
        elif own and self.tenants is not None and self.crowded(message.tenant):
            verdict = self._own_share(message, priority, ordered)
        elif own and (self.senders or scheduler.waiting >= scheduler.queue_limit):
            verdict = self._full(message, priority, ordered)
        if limited:
            # The rate comes first among the reasons, but only what comes in is counted: so it is asked last.
            comes_in = verdict is None or isinstance(verdict, Displace)
            ask = self.limiter.take if comes_in else self.limiter.check
            wait = ask(message.tenant, message.user, now)
            if wait:
                return Refuse(Reason.RATE_LIMITED, wait)
        return verdict

    def give_back(self, message: Message, at: float) -> None:
        """A turn that `turn` let in and counted when it was `at` is not accepted after all.

        The rate of its user is as if it had never come. O(count of the limit).
        """
        self.limiter.give_back(message.tenant, message.user, at)

    def barred(self, message: Message, now: float) -> bool:
        """Whether the user has used up the rate. O(1)."""
        return self.limiter.check(message.tenant, message.user, now) > 0.0

    def crowded(self, tenant: str, more: int = 0) -> bool:
        """Whether the tenant, with `more` turns, has its share of the queue, if that is not all. O(1)."""
        if self.tenants is None:
            return False
        waiting, places = (self.scheduler.waiting_of or {}).get(tenant, 0), self.tenants.places(tenant)
        return waiting + more >= places and places < self.scheduler.queue_limit

    def _own_share(self, message: Message, priority: int, ordered: bool) -> Verdict:
        """The tenant has its share of the queue: others' places, and others' senders, are not its to use.

        So it is refused where others would wait: in the one line of senders it would hold up everybody.
        """
        if not self.senders and self.scheduler.may_start(
            message.conversation, message.tenant, priority, ordered=ordered
        ):
            return None
        if self.overflow is Overflow.SHED_LOWEST:
            victim = self.scheduler.victim(priority, message.tenant)
            if victim is not None:
                return Displace(victim)
        return Refuse(Reason.QUEUE_SHARE)

    def _full(self, message: Message, priority: int, ordered: bool) -> Verdict:
        if self.senders:
            return _WAIT
        if self.scheduler.may_start(message.conversation, message.tenant, priority, ordered=ordered):
            return None
        if self.overflow is Overflow.WAIT:
            return _WAIT
        if self.overflow is Overflow.SHED_LOWEST:
            victim = self.scheduler.victim(priority)
            if victim is not None:
                return Displace(victim)
        return Refuse(Reason.OVERLOADED)
