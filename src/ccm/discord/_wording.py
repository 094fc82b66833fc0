"""What people are told when there is no answer, and how often. Without I/O."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final, final

from ccm._errors import Expired, Outcome, Reason, Rejected, Shed, Superseded
from ccm._message import Message
from ccm._outcome import Cancelled, Failed

__all__ = ["WENT_WRONG", "Notices", "friendly"]

SILENT: Final = (Reason.NO_ROUTE, Reason.DUPLICATE, Reason.DRAINING)
"""Not meant for the bot, answered already, or taken up by the next process."""
WENT_WRONG: Final = "Something went wrong on my side; it has been noted."
_REASONS: Final = {
    Reason.RATE_LIMITED: "You are faster than I am.",
    Reason.CONVERSATION_FULL: "I have not got to the earlier messages here yet.",
    Reason.BUSY: "I am still busy with an earlier message here.",
    Reason.STORAGE: "I cannot note anything down at the moment.",
}


def friendly(outcome: Outcome, message: Message) -> str:
    """What a person is told of an outcome that is no reply, in English; "" for nothing.

    For a turn that was superseded or stopped it is what is put below the part of the reply that was shown.
    To say it in another language, hand a function of your own to `Bridge(wording=...)`.
    """
    if isinstance(outcome, Rejected):
        if outcome.reason in SILENT:
            return ""
        why = _REASONS.get(outcome.reason, "So many people are asking at the moment that I cannot take more.")
        return f"{why} {_again(outcome.retry_after)}"
    if isinstance(outcome, Shed):
        return f"I had to drop this one, there is too much to do. {_again(outcome.retry_after)}"
    if isinstance(outcome, Expired):
        return "I did not get to this in time, sorry. Please ask again."
    if isinstance(outcome, Failed):
        return WENT_WRONG
    if isinstance(outcome, Superseded):
        return "*(interrupted by a newer message)*"
    if isinstance(outcome, Cancelled):
        return "*(stopped)*"
    return ""


def _again(seconds: float | None) -> str:
    if seconds is None or not math.isfinite(seconds):
        return "Please try again later."
    whole = max(1, math.ceil(seconds))
    return f"Please try again in {whole} second{'s' if whole > 1 else ''}."


@final
class Notices:
    """Whom a refusal has been explained to lately: who floods the bot must not make it flood the channel.

    Args:
        every: seconds between two explanations to one user, > 0.
        most: users remembered at most.
    """

    __slots__ = ("_every", "_most", "_until")

    # _until  (tenant, user) -> when the next one may be given, in the order in which they were given

    def __init__(self, every: float = 10.0, most: int = 10_000) -> None:
        self._every = every
        self._most = most
        self._until: OrderedDict[tuple[str, str], float] = OrderedDict()

    def may_tell(self, message: Message, now: float) -> bool:
        """Whether to explain it; if so, the next ones are not explained for a while. O(1)."""
        key = (message.tenant, message.user)
        if self._until.get(key, now) > now:
            return False
        self._until[key] = now + self._every
        self._until.move_to_end(key)
        if len(self._until) > self._most:
            self._until.popitem(last=False)
        return True
