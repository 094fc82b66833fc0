"""Where the bot is shown as typing, and when to say so again. Without I/O."""

from __future__ import annotations

from typing import Final, final

__all__ = ["TypingIndicator"]

AFTER: Final = 0.25
"""Seconds before it is shown at all: many replies are there sooner."""
EVERY: Final = 8.0
"""Seconds between two requests: Discord shows it for ten."""
PAUSE: Final = 600.0
"""Seconds for which a channel that refused it is left alone."""


@final
class TypingIndicator:
    """Channels in which somebody waits for a reply."""

    __slots__ = ("_due", "_refused", "_waiting")

    # _waiting  channel -> how many messages wait there, 1 or more
    # _due      channel -> when to say it (again); the keys of _waiting
    # _refused  channel -> until when it is left alone

    def __init__(self) -> None:
        self._waiting: dict[str, int] = {}
        self._due: dict[str, float] = {}
        self._refused: dict[str, float] = {}

    def start(self, channel: str, now: float) -> None:
        """One more waits. O(1)."""
        self._waiting[channel] = self._waiting.get(channel, 0) + 1
        self._due.setdefault(channel, max(now + AFTER, self._refused.get(channel, 0.0)))

    def stop(self, channel: str) -> None:
        """One fewer waits. O(1)."""
        left = self._waiting.get(channel, 0) - 1
        if left > 0:
            self._waiting[channel] = left
        else:
            self._waiting.pop(channel, None)
            self._due.pop(channel, None)

    def refused(self, channel: str, now: float) -> None:
        """The channel does not want it. O(channels that refused)."""
        self._refused = {key: until for key, until in self._refused.items() if until > now}
        self._refused[channel] = now + PAUSE
        if channel in self._due:
            self._due[channel] = now + PAUSE

    def due(self, now: float) -> list[str]:
        """The channels to say it in now; they are due again later. O(channels)."""
        found = [channel for channel, at in self._due.items() if at <= now]
        for channel in found:
            self._due[channel] = now + EVERY
        return found

    def next_deadline(self) -> float:
        """When a channel is due; infinite: none is. O(channels)."""
        return min(self._due.values(), default=float("inf"))

    def _check(self) -> None:
        """Assert every invariant. O(channels)."""
        assert self._waiting.keys() == self._due.keys()
        assert all(count > 0 for count in self._waiting.values())
