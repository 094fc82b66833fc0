"""What all endpoints of one front end share."""

from __future__ import annotations

import json
import logging
from typing import final

import trio

from .._manager import ConversationManager
from ._keys import Caller
from ._settings import Settings

AUDIT = logging.getLogger("ccm.audit")


@final
class Front:
    """The manager, the settings, and how far the shutdown is.

    Attributes:
        manager: answers the messages.
        settings: what is let in.
        draining: whether the shutdown has begun: `/readyz` says so, new messages are refused.
        drained: set when streams are to say farewell and end: no turn runs any more, or time is up.
    """

    __slots__ = ("drained", "draining", "manager", "settings")

    def __init__(self, manager: ConversationManager, settings: Settings) -> None:
        self.manager = manager
        self.settings = settings
        self.draining = False
        self.drained = trio.Event()

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
