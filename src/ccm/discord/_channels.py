"""What was heard last in each channel: from there on to backfill. Without I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, final

import attrs

__all__ = ["Behind", "Channels"]

MOST: Final = 10_000
AT_ONCE: Final = 100
"""Channels that are backfilled after one gap, those where something was said last."""


@final
@attrs.frozen
class Behind:
    """A channel in which something may have been said that was not heard: ask for what came after `after`."""

    channel: str
    guild: str
    after: str


@final
class Channels:
    """The channels that are known.

    Args:
        since: an id; what was said before then is not asked for, unless more is known of its channel.
    """

    __slots__ = ("_last", "_lost", "_newest", "_since")

    # _last    channel -> (guild, id heard last), in the order in which they were heard; at most MOST
    # _newest  guild -> the highest id heard in any of its channels
    # _lost    guild -> the highest id heard in any of its channels before something was missed

    def __init__(self, since: str) -> None:
        self._since = int(since)
        self._last: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self._newest: dict[str, int] = {}
        self._lost: dict[str, int] = {}

    def recall(self, channel: str, guild: str, id: str) -> None:
        """A message of a channel was heard by an earlier process; says nothing of other channels. O(1)."""
        if channel not in self._last:
            self._last[channel] = (guild, int(id))

    def unheard(self, since: str) -> None:
        """What was said after an id, which is from before this process, was not all heard. O(1)."""
        self._since = min(self._since, int(since))

    def lost(self, guild: str) -> None:
        """From now on something of a guild is missing, until `compare`. O(1)."""
        self._lost.setdefault(guild, self._newest.get(guild, self._since))

    def heard(self, channel: str, guild: str, id: str) -> None:
        """A message of a channel has come. O(1)."""
        number = max(int(id), self._last.get(channel, ("", 0))[1])
        self._last[channel] = (guild, number)
        self._last.move_to_end(channel)
        self._newest[guild] = max(self._newest.get(guild, 0), number)
        if len(self._last) > MOST:
            self._last.popitem(last=False)

    def behind(self, of: Callable[[str], bool], oldest: str) -> list[Behind]:
        """The channels to backfill, those heard last first. O(channels).

        Args:
            of: whether a guild is concerned.
            oldest: an id; what was said before then is of no interest any more.
        """
        found = [
            Behind(channel, guild, str(max(last, int(oldest))))
            for channel, (guild, last) in reversed(self._last.items())
            if of(guild)
        ]
        return found[:AT_ONCE]

    def compare(self, guild: str, channels: tuple[tuple[str, str], ...], oldest: str) -> list[Behind]:
        """The channels of a guild in which more was said than was heard, the latest first. O(n log n).

        None of a guild that is not lost. Of a channel that is not known, what was said before the last
        message of its guild that was heard before it was lost, is taken as heard.

        Args:
            guild: which.
            channels: its channels, each with the id of its last message.
            oldest: as in `behind`.
        """
        if guild not in self._lost:
            return []
        before = self._lost.pop(guild)
        found = []
        for channel, last in channels:
            known = self._last[channel][1] if channel in self._last else before
            after = max(known, int(oldest))
            if int(last) > after:
                found.append((int(last), Behind(channel, guild, str(after))))
        found.sort(key=lambda pair: pair[0], reverse=True)
        return [behind for _, behind in found[:AT_ONCE]]
