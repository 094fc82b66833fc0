"""Whether a client is still there: told by the connection's reader, so that no task has to wait for it."""

from __future__ import annotations

from typing import final

import trio

KEY = "ccm.presence"  # where it stands in the ASGI scope's state


@final
class Presence:
    """The client of one connection.

    Attributes:
        gone: set when it has left.
        request: scope of the request that runs for it, cancelled when it leaves.
    """

    __slots__ = ("gone", "request")

    def __init__(self) -> None:
        self.gone = trio.Event()
        self.request: trio.CancelScope | None = None

    def leave(self) -> None:
        """It has left: nobody reads the answer."""
        self.gone.set()
        if self.request is not None:
            self.request.cancel()
