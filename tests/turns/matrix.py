"""One row of the pairwise matrix: a bot with the row's features, and scenes that each need one of them.

Every scene says what becomes of its messages, worked out from the row alone; the messages are handed in
and watched from outside. Times are multiples of 1/16 s, so that instants compare exactly.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import attrs
import trio
import trio.testing

from ccm import (
    Busy,
    CcmError,
    Config,
    ConversationManager,
    Expired,
    HandlerFailed,
    HistoryEntry,
    Message,
    OnBusy,
    Overflow,
    Rejected,
    Restarted,
    RetryPolicy,
    Router,
    Shed,
    Superseded,
    Turn,
    TurnCancelled,
    open_manager,
)

LIMIT = 2
QUEUE = 3
SORRY = "sorry"
CLEANUP = 1 / 16
"""Seconds a cancelled handler takes to clean up: time enough for somebody to be too early."""
ERRORS: dict[str, type[CcmError]] = {
    "superseded": Superseded,
    "cancelled": TurnCancelled,
    "failed": HandlerFailed,
    "shed": Shed,
    "rejected": Rejected,
    "expired": Expired,
}
REPLACING = (OnBusy.INTERRUPT, OnBusy.ROLLBACK)


@attrs.frozen(kw_only=True)
class Row:
    """One value of each axis.

    Attributes:
        retry: how the handler fails: "never", "once", "always", or "busy" (once, and then not a failure).
        how: a message is handed in by "ask", "submit" or "stream".
        cancel: what hits a turn: "none", "caller", "stop", "retract" or "edit".
        drain: how the block is left: "idle", "busy" or "cancelled".
    """

    policy: OnBusy
    retry: str
    how: str
    cancel: str
    drain: str
    overflow: Overflow
    storage: str
    preempt: bool
    fallback: bool
    ordered: bool

    @property
    def meets(self) -> OnBusy:
        """What messages of a busy conversation meet: unordered ones meet nothing."""
        return self.policy if self.ordered else OnBusy.ENQUEUE

    @property
    def final(self) -> str:
        """The outcome of a turn that nothing keeps from its end."""
        return "failed" if self.retry == "always" and not self.fallback else "replied"

    @property
    def final_member(self) -> str:
        """The outcome of a message that shares such a turn."""
        return "failed" if self.final == "failed" else "merged"

    @property
    def steers(self) -> bool:
        """Whether a turn lives to read what it is handed: its handler looks when it is about to answer."""
        return self.retry != "always"

    @property
    def attempts(self) -> list[int]:
        """The attempts of a turn that nothing keeps from its end."""
        return [1] if self.retry == "never" else [1, 2]

    @property
    def seconds(self) -> float:
        """How long such a turn takes, pauses included."""
        return {"never": 2.0, "once": 3.0, "always": 2.0, "busy": 3.5}[self.retry]


@attrs.define(eq=False)
class Sent:
    """A message on its way, and what its sender was told.

    Attributes:
        expected: the outcome that the scene works out.
        says: what an answer must contain, or "" when it is a fallback's.
        seen: what the sender was told: "answered", the name of an error, or "gone" when it did not wait.
        parts: what a reader of the stream got; a new list for every `Restarted`.
    """

    message: Message
    expected: str = ""
    says: str = ""
    seen: str = ""
    text: str = ""
    error: CcmError | None = None
    parts: list[list[str]] = attrs.field(factory=lambda: [[]])
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    def told(self, seen: str, text: str = "", error: CcmError | None = None) -> None:
        assert not self.seen, f"{self.message.id} was told {self.seen} and then {seen}"
        self.seen, self.text, self.error = seen, text, error


@attrs.frozen
class Span:
    """One attempt: when it ran and what it was about."""

    conversation: str
    text: str
    attempt: int
    mark: str
    begun: float
    ended: float


class World:
    """The bot of one row, its senders, and what was seen of both."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.manager: ConversationManager
        self.senders: trio.Nursery
        self.sent: dict[str, Sent] = {}
        self.spans: list[Span] = []
        self.begun: list[tuple[float, str, str]] = []
        self.history: tuple[HistoryEntry, ...] = ()
        self.calls = self.running = self.peak = 0

    # -- the bot ---------------------------------------------------------------------------------

    def opening(self) -> Any:
        """The manager, still to be entered."""
        row = self.row
        assert row.storage == "memory"
        router = Router()
        fallback = self.apologise if row.fallback else None
        router.route("chat", ordered=row.ordered, busy=row.policy, fallback=fallback)(self.handle)
        config = Config(
            debug=True, rate_limit=None, limit=LIMIT, queue_limit=QUEUE, headroom={}, preempt=row.preempt,
            overflow=row.overflow, retry=RetryPolicy(attempts=2, base=0.0),
            drain={"idle": 5.0, "busy": 20.0, "cancelled": 0.25}[row.drain],
        )  # fmt: skip
        return open_manager(router, config=config)

    async def apologise(self, turn: Turn) -> str:
        return SORRY

    async def handle(self, turn: Turn) -> str:
        """Two seconds of work; what it sends names the call, so that doubled text is seen."""
        self.calls += 1
        self.running += 1
        self.peak = max(self.peak, self.running)
        mark, text, begun = f"<{self.calls}>", turn.text, trio.current_time()
        self.begun.append((begun, turn.message.conversation, text))
        try:
            await turn.send(mark)
            if turn.message.conversation == "r":
                self.history = await turn.history()
            await self._work(turn)
            await turn.send(" re: ")
            await trio.sleep(1)
            if turn.text == "p3":
                self.history = await turn.history()
            return f"{mark} re: {' '.join([turn.text, *self._steered(turn)])}"
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await trio.sleep(CLEANUP)
            raise
        finally:
            self.running -= 1
            key = turn.message.conversation
            self.spans.append(Span(key, text, turn.attempt, mark, begun, trio.current_time()))

    async def _work(self, turn: Turn) -> None:
        if turn.message.conversation == "u":
            async with turn.uninterruptible():
                await trio.sleep(1)
        else:
            await trio.sleep(1)
        self._fail(turn)

    def _fail(self, turn: Turn) -> None:
        if self.row.retry == "always" or (self.row.retry == "once" and turn.attempt == 1):
            raise ConnectionError("the model hung up")
        if self.row.retry == "busy" and turn.attempt == 1:
            raise Busy(retry_after=0.5)

    def _steered(self, turn: Turn) -> list[str]:
        read: list[str] = []
        if self.row.policy is OnBusy.STEER:
            with suppress(trio.WouldBlock):
                while True:
                    read.append(turn.steered.receive_nowait().text)
        return read

    # -- the senders -----------------------------------------------------------------------------

    def send(self, text: str, conversation: str, expected: str, **fields: Any) -> Sent:
        """Hand in a message the row's way, in a task of its own."""
        message = Message(conversation, f"user of {text}", text, id=text, **fields)
        sent = self.sent[text] = Sent(message, expected=expected, says=text)
        self.senders.start_soon(self._hand_in, sent, name=f"sender of {text}")
        return sent

    async def _hand_in(self, sent: Sent) -> None:
        with sent.scope:
            try:
                text = await getattr(self, f"_{self.row.how}")(sent)
            except CcmError as error:
                name = next(name for name, kind in ERRORS.items() if isinstance(error, kind))
                sent.told(name, error=error)
            else:
                sent.told("answered", text)
        if sent.scope.cancelled_caught:
            sent.told("gone")

    async def _ask(self, sent: Sent) -> str:
        return str(await self.manager.ask(sent.message))

    async def _submit(self, sent: Sent) -> str:
        receipt = await self.manager.submit(sent.message)
        outcome: Any = await receipt.outcome()
        assert await receipt.outcome() == outcome
        if (error := outcome.error()) is not None:
            raise error
        return str(outcome.reply)

    async def _stream(self, sent: Sent) -> str:
        async with self.manager.stream(sent.message) as chunks:
            try:
                async for piece in chunks:
                    if isinstance(piece, Restarted):
                        sent.parts.append([])
                    else:
                        sent.parts[-1].append(piece)
            finally:
                assert chunks.text == "".join(sent.parts[-1])
        return chunks.text

    async def at(self, time: float) -> None:
        """Wait until then, and until everything that happens at that instant has happened."""
        await trio.sleep_until(time)
        await trio.testing.wait_all_tasks_blocked()

    async def quiet(self) -> float:
        """Wait until every message has its outcome and every sender knows it; the time then."""
        await trio.testing.wait_all_tasks_blocked()  # what was sent just now is in
        await self.manager.wait_idle()
        await trio.testing.wait_all_tasks_blocked()
        return trio.current_time()

    # -- what must be so at the end ---------------------------------------------------------------

    def check(self) -> None:
        """G1, G2, G3 and the streams, from outside."""
        assert not self.running
        expected = Counter(sent.expected for sent in self.sent.values())
        statistics = self.manager.statistics()
        statistics.check()
        told = {sent.message.id: (sent.expected, sent.seen) for sent in self.sent.values()}
        assert {name: n for name, n in statistics.outcomes.items() if n} == expected, told
        assert statistics.received == len(self.sent)
        assert statistics.slots_in_use == statistics.senders == statistics.sessions.active == 0
        for sent in self.sent.values():
            self._check_sender(sent)
        self._check_order()
        assert self.peak <= LIMIT

    def _check_sender(self, sent: Sent) -> None:
        told = {"replied": "answered", "merged": "answered"}.get(sent.expected, sent.expected)
        gone = sent.seen == "gone"
        assert sent.seen == told or gone, (sent.message.id, sent.expected, sent.seen, sent.error)
        if sent.seen == "answered":
            degraded = self.row.retry == "always" or not sent.says
            assert sent.text == SORRY if degraded else sent.says in sent.text, (sent.message.id, sent.text)
        for part in sent.parts:
            assert "".join(part).count("<") <= 1, f"text of two attempts without Restarted: {sent.parts}"

    def _check_order(self) -> None:
        """Attempts of a conversation do not overlap, and none begins after that of a later message."""
        arrived = {text: number for number, text in enumerate(self.sent)}
        last: dict[str, tuple[float, int]] = {}
        for span in sorted(self.spans, key=lambda span: (span.begun, span.ended)) if self.row.ordered else ():
            number = arrived[span.text.split("\n")[0].removesuffix(" edited")]
            ended, before = last.get(span.conversation, (0.0, -1))
            assert ended <= span.begun, f"{span} overlaps with an earlier turn"
            assert before <= number, f"{span} begins after a later message's turn"
            last[span.conversation] = (span.ended, number)

    def starts(self, conversation: str) -> list[tuple[float, str]]:
        """When attempts of a conversation began, and their texts."""
        return [(begun, text) for begun, key, text in self.begun if key == conversation]
