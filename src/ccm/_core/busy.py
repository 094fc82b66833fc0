"""What a new message does to a busy conversation: a decision, nothing more."""

from __future__ import annotations

import attrs

from .._message import OnBusy
from .lanes import WAITING, Entry


@attrs.frozen
class Proceed:
    """The message becomes a turn of its own, which starts at `not_before` at the earliest."""

    not_before: float = 0.0


@attrs.frozen
class Join:
    """The message joins the waiting turn `host`, which starts at `not_before` at the earliest."""

    host: Entry
    not_before: float


@attrs.frozen
class Supersede:
    """The message takes the place of these turns; with `rollback` the running one leaves no trace."""

    running: Entry | None
    waiting: tuple[Entry, ...]
    rollback: bool


@attrs.frozen
class Hand:
    """The message is handed to the running turn `host`."""

    host: Entry


@attrs.frozen
class Bounce:
    """The message is rejected because the conversation is busy."""


Decision = Proceed | Join | Supersede | Hand | Bounce


def decide(
    policy: OnBusy,
    running: Entry | None,
    waiting: tuple[Entry, ...],
    now: float,
    *,
    joinable: Entry | None = None,
    settle: float = 0.0,
    max_settle: float = 0.0,
) -> Decision:
    """What becomes of a message that arrives at `now`. Changes nothing. O(1).

    Args:
        policy: the route's, or the message's own.
        running: the turn of the conversation that runs, if any.
        waiting: the turns of the conversation that wait, in order.
        now: seconds.
        joinable: the turn of the conversation that may take in another message (`MERGE`); it has not started.
        settle: quiet seconds before a merged turn starts, >= 0.
        max_settle: seconds after its first message at which it starts anyway, so that nobody who goes on
            typing can postpone it for ever.
    """
    if policy is OnBusy.MERGE:
        if joinable is not None and joinable.state == WAITING:
            return Join(joinable, min(now + settle, joinable.arrived + max_settle))
        return Proceed(now + min(settle, max_settle))
    if policy is OnBusy.ENQUEUE or (running is None and not waiting):
        return Proceed()
    if policy is OnBusy.REJECT:
        return Bounce()
    if policy is OnBusy.STEER:
        # Behind a turn that waits already, the message must wait too: it may not be read before that one.
        return Hand(running) if running is not None and not waiting else Proceed()
    return Supersede(running, waiting, policy is OnBusy.ROLLBACK)
