"""What all endpoints of one front end share."""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING, final

import trio

# The same sliding window as for messages; there is no public name for it.
from .._core.ratelimit import RateLimiter
from .._manager import ConversationManager
from ._keys import Caller, Keys
from ._models import iso
from ._settings import Settings

if TYPE_CHECKING:
    from ._exchange import Exchanges

AUDIT = logging.getLogger("ccm.audit")


@final
class Front:
    """The manager, the settings, and how far the shutdown is.

    Attributes:
        manager: answers the messages.
        settings: what is let in.
        keys: who may ask, now: `settings.keys`, or what was read later from their file.
        draining: whether the shutdown has begun: `/readyz` says so, new messages are refused.
        shift: what turns Trio's time into seconds since 1970.
        exchanges: the messages that came this way.
        drained: set when streams are to say farewell and end: no turn runs any more, or time is up.
    """

    __slots__ = (
        "_limiter", "_new_keys", "drained", "draining", "exchanges", "keys", "manager", "settings", "shift",
    )  # fmt: skip

    exchanges: Exchanges

    def __init__(self, manager: ConversationManager, settings: Settings) -> None:
        self.manager = manager
        self.settings = settings
        self.keys = settings.keys
        self._new_keys = trio.Event()
        self.shift = time.time() - trio.current_time()
        self.draining = False
        self.drained = trio.Event()
        self._limiter = RateLimiter(default=settings.rate)

    def take(self, who: str) -> float:
        """Count one request, or one message of a WebSocket, of `who` if the rate limit allows it.

        Args:
            who: `scope["ccm.limited"]` of the connection.

        Returns:
            0.0 when it is allowed, else the seconds to wait; then nothing was counted.
        """
        return self._limiter.take("", who, trio.current_time())

    def replace_keys(self, keys: Keys) -> None:
        """From now on these keys count; streams of keys that are gone end."""
        self.keys = keys
        self._new_keys.set()
        self._new_keys = trio.Event()

    def admits(self, caller: Caller) -> bool:
        """Whether the key with which somebody came still gives what it gave then. O(1)."""
        return self.keys is None or self.keys.still(caller)

    async def revoked(self, caller: Caller) -> None:
        """Wait until the key of this caller is revoked, or may do something else."""
        await trio.lowlevel.checkpoint()
        while self.admits(caller):
            await self._new_keys.wait()

    def wall(self, at: float) -> str:
        """A time of Trio's clock as ISO 8601 in UTC. O(1)."""
        return iso(at + self.shift)

    def begin_draining(self) -> None:
        """Be ready for nothing new. Streams go on."""
        self.draining = True

    def begin_farewell(self) -> None:
        """Let every stream say farewell and end within `settings.farewell` seconds."""
        self.draining = True
        self.drained.set()

    def audit(self, caller: Caller, action: str, **fields: object) -> None:
        """Note in the log `ccm.audit` what an administrator did: never texts, never keys.

        Args:
            caller: who.
            action: what, like "forget" or "replay".
            fields: to whom or what: ids.
        """
        if AUDIT.isEnabledFor(logging.INFO):
            record = {"caller": caller.name, "tenant": caller.tenant, "action": action, **fields}
            AUDIT.info("%s", json.dumps(record, default=str))
