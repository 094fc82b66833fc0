"""`Moderator`: a handler for a moderation route that deletes, warns and times out."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Final, final

import trio

from ccm._turn import Turn

from ._draft import nonce_of
from ._errors import RestError, held_back
from ._hearing import channel_of
from ._rest import Rest

__all__ = ["Moderator"]

MOST: Final = 10_000
log = logging.getLogger("ccm.discord")


@final
class Moderator:
    """Deletes a message, warns its author, and lets who goes on say nothing for a while.

    For a side route: `router.route("moderation", when=..., priority=ccm.CRITICAL, ordered=False,
    answers=False, rate_limited=False, edits=True)(discord.Moderator(gateway.rest))`. Without `edits` what
    was harmless can be edited into anything. What the bot has no right to do is logged and left out;
    everything else that fails is tried again by the route.

    Args:
        rest: for requests.
        warning: said to the author; "" says nothing.
        reason: for the guild's audit log.
        time_outs: seconds of silence for the first violation, the second, ...; the last one for all after it.
    """

    # _strikes  (guild, user) -> the ids of the messages, the user last struck last; at most MOST users

    def __init__(
        self, rest: Rest, *, warning: str = "Please do not post that here.",
        reason: str = "moderation by ccm",
        time_outs: tuple[float, ...] = (0.0, 60.0, 600.0, 3600.0),
    ) -> None:  # fmt: skip
        if not time_outs or any(not 0 <= seconds <= 28 * 86_400 for seconds in time_outs):
            raise ValueError(f"time_outs must be seconds from 0 to 28 days, at least one, got {time_outs!r}")
        self._rest = rest
        self._warning = warning
        self._reason = reason
        self._time_outs = time_outs
        self._strikes: OrderedDict[tuple[str, str], set[str]] = OrderedDict()

    async def __call__(self, turn: Turn) -> None:
        """Deal with one message; of other front ends' messages, nothing.

        Raises:
            Busy: requests are held back.
            RestError: Discord failed, or did not answer.
        """
        message, channel = turn.message, channel_of(turn.message)
        await trio.lowlevel.checkpoint()
        if channel is None:
            return
        seconds = self._strike(message.tenant, message.user, message.id)
        rest, reason = self._rest, self._reason
        try:
            await rest.delete_message(channel, message.id, reason=reason)
        except RestError as error:
            self._tolerate(error)
        if self._warning:
            try:
                await rest.create_message(channel, self._warning, nonce=nonce_of(message.id, "w"))
            except RestError as error:
                self._tolerate(error)
        if seconds and message.tenant:
            try:
                await rest.time_out(message.tenant, message.user, seconds, reason=reason)
            except RestError as error:
                self._tolerate(error)

    def _strike(self, guild: str, user: str, id: str) -> float:
        """Count a violation, each message once; how long its author is to be silent. O(1)."""
        ids = self._strikes.setdefault((guild, user), set())
        ids.add(id)
        self._strikes.move_to_end((guild, user))
        if len(self._strikes) > MOST:
            self._strikes.popitem(last=False)
        return self._time_outs[min(len(ids), len(self._time_outs)) - 1]

    @staticmethod
    def _tolerate(error: RestError) -> None:
        if error.status not in (403, 404):
            raise held_back(error) or error
        log.warning("%s", error)
