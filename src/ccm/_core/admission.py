"""May this message come in? The checks in their fixed order, all synchronous, none changing anything."""

from __future__ import annotations

from typing import Any, final

import attrs

from .._config import Overflow
from .._errors import Reason
from .._message import Message
from .dedupe import DedupeWindow
from .lanes import Entry
from .ratelimit import RateLimiter
from .scheduler import Scheduler
from .sessions import SessionTable


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

    Nothing is changed by asking, so a refused message leaves no trace.
    """

    scheduler: Scheduler
    sessions: SessionTable
    limiter: RateLimiter
    window: DedupeWindow[Any] | None
    overflow: Overflow
    max_text: int
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
            size = len(message.text.encode("utf-8", "surrogatepass"))
            if size > self.max_text:
                raise ValueError(
                    f"text must be at most {self.max_text} bytes of UTF-8, got {size}: "
                    f"{message.text[:40]!r}...; shorten it or raise Config.max_text"
                )
        if not message.generated_id and self.window is not None:
            first = self.window.get((message.tenant, message.id), now)
            if first is not None:
                return Repeat(first)
        return None

    def turn(self, message: Message, priority: int, ordered: bool, limited: bool, now: float) -> Verdict:
        """The checks that concern one turn of the message. O(1)."""
        if limited:
            wait = self.limiter.check(message.tenant, message.user, now)
            if wait:
                return Refuse(Reason.RATE_LIMITED, wait)
        scheduler = self.scheduler
        if not scheduler.conversation_has_room(message.conversation):
            return Refuse(Reason.CONVERSATION_FULL)
        if not self.sessions.has_room(message.conversation):
            return Refuse(Reason.TOO_MANY_SESSIONS)
        if self.senders or scheduler.waiting >= scheduler.queue_limit:
            return self._full(message, priority, ordered)
        return None

    def _full(self, message: Message, priority: int, ordered: bool) -> Verdict:
        if self.senders:
            return _WAIT
        if self.scheduler.may_start(message.conversation, priority, ordered=ordered):
            return None
        if self.overflow is Overflow.WAIT:
            return _WAIT
        if self.overflow is Overflow.SHED_LOWEST:
            victim = self.scheduler.victim(priority)
            if victim is not None:
                return Displace(victim)
        return Refuse(Reason.OVERLOADED)
