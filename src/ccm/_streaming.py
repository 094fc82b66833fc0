"""The reply as it is written: `ReplyStream` and `Restarted`."""

from __future__ import annotations

from typing import Any, final

import trio

from ._record import TurnRecord


@final
class Restarted(str):
    """In a stream: forget the text so far, another attempt begins. Itself an empty string.

    Attributes:
        attempt: the number of the attempt that begins.
    """

    __slots__ = ("attempt",)

    def __new__(cls, attempt: int) -> Restarted:
        marker = super().__new__(cls, "")
        marker.attempt = attempt
        return marker

    attempt: int

    def __repr__(self) -> str:
        return f"Restarted({self.attempt})"


@final
class ReplyStream:
    """Async iterator over the pieces of a reply; made by `ConversationManager.stream`.

    The pieces are strings; a `Restarted` among them says that the text so far is void. The iteration ends
    when the turn has its outcome; unless that is a reply, it ends with the matching error (`Superseded`,
    ...), and `text` still has what came before. The handler waits for its reader, and for nobody else's.
    """

    def __init__(self, record: TurnRecord) -> None:
        self._record = record
        self._send, self._receive = trio.open_memory_channel[str](0)
        self._attempt = 0
        self._sent: list[str] = []
        self._seen: list[str] = []
        self._tail: list[str] = []
        self._error: BaseException | None = None

    @property
    def text(self) -> str:
        """What has been read so far of the attempt that counts."""
        return "".join(self._seen)

    @property
    def turn_id(self) -> int:
        """The turn that writes the reply."""
        return self._record.id

    def __aiter__(self) -> ReplyStream:
        return self

    async def __anext__(self) -> str:
        """The next piece.

        Raises:
            StopAsyncIteration: the reply is complete.
            CcmError: the turn ended without one.
        """
        try:
            piece = await self._receive.receive()
        except trio.EndOfChannel:
            if not self._tail:
                error, self._error = self._error, None
                raise error or StopAsyncIteration from None
            await trio.lowlevel.checkpoint()
            piece = self._tail.pop(0)
        if isinstance(piece, Restarted):
            self._seen.clear()
        else:
            self._seen.append(piece)
        return piece

    async def put(self, attempt: int, piece: str) -> None:
        """The handler's side: hand over a piece and wait until it is read."""
        if attempt != self._attempt:
            if self._sent:
                await self._send.send(Restarted(attempt))
                self._sent.clear()
            self._attempt = attempt
        await self._send.send(piece)
        self._sent.append(piece)

    def finish(self, answer: str | None, attempt: int, error: BaseException | None) -> None:
        """The turn has its outcome; what the reader has not had of the answer comes as the last piece."""
        self._error = error
        if answer is not None:
            said = "".join(self._sent)
            if (attempt != self._attempt and said) or not answer.startswith(said):
                self._tail = [Restarted(attempt), answer] if answer else [Restarted(attempt)]
            elif answer != said:
                self._tail = [answer[len(said) :]]
        self._send.close()

    def ended(self, record: TurnRecord) -> None:
        """The turn had its outcome before anybody could read along."""
        outcome = record.outcome
        error = None if outcome is None else outcome.error()
        self.finish(record.answer().text if error is None else None, record.attempt, error)

    def close(self) -> None:
        """The reader left."""
        self._receive.close()

    def __repr__(self) -> str:
        return f"<ReplyStream of turn {self._record.id}>"


def check_piece(text: Any) -> str:
    """`text`, or TypeError when it is no string."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {text!r}; convert it first")
    return text
