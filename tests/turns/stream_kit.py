"""What the tests of streams share: a reader that notes what came when, and handlers that speak."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import trio

from ccm import CcmError, ConversationManager, Message, ReplyStream, Turn

PATIENT: dict[str, Any] = {"drain": 1000, "timeout": 500}


class Reader:
    """Reads a stream, `pause` seconds for each piece, and notes what came when."""

    def __init__(self, pause: float = 0.0, most: int = 1000) -> None:
        self.pieces: list[str] = []
        self.times: list[float] = []
        self.error: CcmError | None = None
        self.stream: ReplyStream | None = None
        self._pause, self._most = pause, most

    async def __call__(self, manager: ConversationManager, message: Message) -> None:
        async with manager.stream(message) as self.stream:
            try:
                async for piece in self.stream:
                    self.pieces.append(piece)
                    self.times.append(trio.current_time())
                    if len(self.pieces) == self._most:
                        return
                    await trio.sleep(self._pause)
            except CcmError as error:
                self.error = error

    @property
    def text(self) -> str:
        assert self.stream is not None
        return self.stream.text


def speaks(*pieces: str, every: float = 1.0, returns: str | None = None) -> Callable[[Turn], Any]:
    """A handler that sends these pieces, each after so many seconds."""

    async def handler(turn: Turn) -> str | None:
        for piece in pieces:
            await trio.sleep(every)
            await turn.send(piece)
        return returns

    return handler
