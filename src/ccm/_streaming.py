"""The reply as it is written: `ReplyStream` and `Restarted`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

import trio

from ._outcome import Merged, Replied
from ._record import TurnRecord

if TYPE_CHECKING:
    from ._receipt import Receipt


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

    Attributes:
        receipt: of the message: its place, and its outcome also after the end.
    """

    receipt: Receipt

    def __init__(self, record: TurnRecord) -> None:
        self._record = record
        self._send, self._receive = trio.open_memory_channel[str](0)
        self._attempt = 0
        self._sent: list[str] = []
        self._void = False
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
        return self._record.turn_id

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

    def void(self) -> None:
        """The attempt that said what was sent so far is over; another one follows."""
        self._void = True

    async def put(self, attempt: int, before: Sequence[str], piece: str) -> None:
        """The handler's side: hand over a piece and wait until it is read.

        First comes what was said `before` it in this attempt and this reader, who came later, has not had.
        """
        self._attempt = attempt
        try:
            if self._void and self._sent:
                await self._send.send(Restarted(attempt))
                self._sent.clear()
            self._void = False
            for text in (*before[len(self._sent) :], piece):
                await self._send.send(text)
                self._sent.append(text)
        except trio.BrokenResourceError:
            # The reader left, but others still want the answer.
            await trio.lowlevel.checkpoint()

    def ended(self, record: TurnRecord) -> None:
        """The message has its outcome; what the reader has not had of the answer comes as the last piece."""
        outcome = record.outcome
        if isinstance(outcome, (Replied, Merged)):
            answer, said = outcome.reply.text, "".join(self._sent)
            if said and (self._void or not answer.startswith(said)):
                again = Restarted(max(record.attempt, self._attempt))
                self._tail = [again, answer] if answer else [again]
            elif answer != said:
                self._tail = [answer[len(said) :]]
        elif outcome is not None:
            self._error = outcome.error()
        self._send.close()

    def close(self) -> None:
        """The reader left."""
        self._receive.close()

    def __repr__(self) -> str:
        return f"<ReplyStream of turn {self._record.turn_id}>"


def check_piece(text: Any) -> str:
    """`text`, or TypeError when it is no string."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {text!r}; convert it first")
    return text
