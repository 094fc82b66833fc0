"""What a manager tells whoever listens to `ConversationManager.events()`: small frozen values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ._errors import Outcome, Reason
from ._message import Priority

if TYPE_CHECKING:
    from ._core.alerts import Alert


@attrs.frozen
class Event:
    """Base of all events; `at` is the time on Trio's clock."""

    at: float


@attrs.frozen
class Accepted(Event):
    """A turn was accepted."""

    turn_id: int
    conversation: str
    tenant: str
    route: str
    priority: Priority


@attrs.frozen
class StorageFailed(Event):
    """The storage has failed; `unknown`: whether its last commit is there cannot be told."""

    error: str
    unknown: bool


@attrs.frozen
class StorageRecovered(Event):
    """The storage works again."""


@attrs.frozen
class Refused(Event):
    """A message, or one of its side turns, was not accepted."""

    message_id: str
    conversation: str
    tenant: str
    reason: Reason


@attrs.frozen
class Started(Event):
    """An attempt of a turn began after `waited` seconds (since its arrival, or since the last attempt)."""

    turn_id: int
    conversation: str
    attempt: int
    waited: float


@attrs.frozen
class Retrying(Event):
    """An attempt failed with `error`; the next one starts in `delay` seconds."""

    turn_id: int
    conversation: str
    attempt: int
    delay: float
    error: str


@attrs.frozen
class Ended(Event):
    """A turn got its outcome; `waited` and `served` are seconds of waiting and of the last attempt."""

    turn_id: int
    conversation: str
    route: str
    priority: Priority
    outcome: Outcome
    waited: float
    served: float


@attrs.frozen
class Stuck(Event):
    """A turn that began `since` seconds ago was told to end and still runs.

    Its slot and its conversation stay taken until it ends. `by` is who told it ("timeout", "stop", ...),
    `where` is where its handler waits, and `advice` what its author can do.
    """

    turn_id: int
    conversation: str
    route: str
    since: float
    by: str = ""
    where: str = ""

    @property
    def advice(self) -> str:
        """What the handler's author can do."""
        return (
            "Its handler swallows trio.Cancelled or shields itself; its slot stays taken until it ends. Run "
            "what cannot be cancelled in `await turn.in_thread(...)`, which is abandoned when the turn is "
            "cancelled, or in `turn.in_process(...)`, which is killed."
        )


@attrs.frozen
class Retracted(Event):
    """An answered message was taken back; whoever shows the reply should take it back too."""

    turn_id: int
    conversation: str
    message_id: str


@attrs.frozen
class SessionStarted(Event):
    """A conversation became live."""

    conversation: str


@attrs.frozen
class SessionEnded(Event):
    """An idle conversation was forgotten: `reason` is "expired" or "evicted"."""

    conversation: str
    reason: str


@attrs.frozen
class DrainStarted(Event):
    """The manager takes no new messages."""


@attrs.frozen
class SheddingChanged(Event):
    """From now on the `low` and `normal` messages of these parts of the users are given up, 0 to 1."""

    low: float
    normal: float


@attrs.frozen
class LimitChanged(Event):
    """A limit that adapts was `before` and is now `limit`; `key` is the provider, "" the manager's slots.

    `refused_share` is the share of attempts that were refused; 0 when it grew, or when it is not known.
    """

    key: str
    limit: int
    before: int
    refused_share: float


@attrs.frozen
class ProviderPaused(Event):
    """A provider said that it is busy: nobody asks it `until` then, on Trio's clock."""

    key: str
    until: float


@attrs.frozen
class AlertRaised(Event):
    """A value has reached a threshold: the alert is new, or its level is."""

    alert: Alert


@attrs.frozen
class AlertCleared(Event):
    """An alert has ended; `alert` is as it was at last."""

    alert: Alert


@attrs.frozen
class Lagged(Event):
    """This reader was too slow: `missed` events were not kept for it."""

    missed: int
