"""A message from a front end: whose it is, where it belongs, what is told of it."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import attrs
import trio
from starlette.requests import HTTPConnection

from .._errors import CcmError, Duplicate, Outcome, StorageError
from .._message import Message
from .._outcome import Merged, Replied
from .._receipt import Receipt
from .._streaming import ReplyStream
from ..storage import Conversation
from ._access import tenant_of, visible
from ._front import Front
from ._history_json import qualified
from ._keys import Caller
from ._models import ChatIn
from ._problems import ProblemError, missing, problem_of

_KNOWN = 10_000
"""Receipts, and owners of conversations, that are remembered."""


@final
@attrs.frozen
class Exchange:
    """One message, and what the front end knows of it.

    Attributes:
        message: to be handed to the manager.
        resumed: whether its conversation was there before; until it is accepted, as far as is known.
        began: when the request came.
        named: whether the request names the conversation.
    """

    message: Message
    resumed: bool
    began: float
    named: bool = True

    def receipt(self, receipt: Receipt) -> dict[str, Any]:
        """The body of a receipt."""
        return {
            "id": self.message.id, "turn": receipt.turn_id, "conversation": self.message.conversation,
            "event": self.event, "position": receipt.position, "estimated_wait": receipt.estimated_wait,
            "url": f"/api/v1/turns/{receipt.turn_id}",
        }  # fmt: skip

    @property
    def event(self) -> str:
        """In a word, whether the conversation is new."""
        return "resumed" if self.resumed else "created"


@final
@attrs.frozen
class Taken:
    """A message that was accepted, or that repeats one that was.

    Attributes:
        exchange: what is told of it: of a repetition, the first one's conversation and event.
        receipt: of a repetition, the first one's.
        pieces: the reply as it is written, where that was asked for and it is no repetition.
        replayed: whether it is a repetition.
    """

    exchange: Exchange
    receipt: Receipt
    pieces: ReplyStream | None = None
    replayed: bool = False

    def body(self) -> dict[str, Any]:
        """The body of its receipt."""
        body = self.exchange.receipt(self.receipt)
        return body | {"replayed": True} if self.replayed else body


@final
class Exchanges:
    """Takes messages of front ends in, and remembers their receipts.

    Invariant: a conversation is used by the tenant of its first accepted message only; while messages are
    being handed in to one that nobody has, it is claimed by the tenant of the first of them, `_claims`.
    """

    def __init__(self, front: Front) -> None:
        self.front = front
        self._owners: OrderedDict[str, tuple[str, int]] = OrderedDict()  # and the first turn known here
        self._claims: dict[str, tuple[str, int]] = {}
        self._receipts: OrderedDict[int, tuple[Receipt, Exchange]] = OrderedDict()
        try:
            self.conversations = front.manager.conversations
        except StorageError:
            self.conversations = None  # type: ignore[assignment]

    async def begin(self, caller: Caller, body: ChatIn, connection: HTTPConnection) -> Exchange:
        """Make the message of a request. Nothing is known of it here until it is handed in.

        Raises:
            ProblemError: the caller may not use this tenant, or the conversation is another tenant's.
        """
        began = trio.current_time()
        tenant = tenant_of(caller, body.tenant)
        headers = connection.headers
        id = body.id if body.id is not None else headers.get("idempotency-key")
        if id is not None and not (0 < len(id) <= 200 and id.isprintable()):
            raise ProblemError(422, "the idempotency key must be 1 to 200 printable characters.", reason="id")
        resumed, key = False, body.conversation
        if key is None:
            key = str(uuid.uuid4())
        else:
            owner = await self.owner(key)
            resumed = owner is not None
            if owner is not None and owner != tenant:
                if caller.tenant is not None or body.tenant is not None:
                    raise missing("conversation")
                tenant = owner
        metadata = dict(body.metadata)
        if (trace := headers.get("traceparent")) is not None:
            metadata.setdefault("traceparent", trace)
        message = Message(
            key, body.user, body.text, id=id, tenant=tenant, channel=body.channel, priority=body.klass,
            metadata=metadata,
        )  # fmt: skip
        return Exchange(message, resumed, began, body.conversation is not None)

    async def owner(self, conversation: str) -> str | None:
        """The tenant of a conversation; None: there is none. Asks the storage only where nothing is live."""
        known = self._holder(conversation)
        if known is not None or self.conversations is None:
            return known
        stored = await self.conversations.get(conversation)
        return None if stored is None else stored.tenant

    def _holder(self, conversation: str) -> str | None:
        """The tenant of a conversation, as far as is known here. O(1)."""
        known = self._owners.get(conversation)
        if known is not None:
            return known[0]
        session = self.front.manager.session(conversation)
        return None if session is None else session.tenant

    async def check(self, caller: Caller, conversation: str) -> None:
        """404 unless there is such a conversation, and the caller may see it."""
        owner = await self.owner(conversation)
        if owner is None or not visible(caller, owner):
            raise missing("conversation")

    def forget(self) -> None:
        """Nothing of conversations and receipts stays here. O(known)."""
        self._owners.clear()
        self._receipts.clear()

    # -- handing in ------------------------------------------------------------------------------

    async def hand_in(
        self, exchange: Exchange, opening: Callable[[], Awaitable[Receipt | ReplyStream]]
    ) -> Taken:
        """Wait until `opening`, which hands the message to the manager, has it accepted.

        A message that is refused leaves nothing behind. When cancelled before it is accepted, neither.

        Raises:
            ProblemError: meanwhile the conversation became another tenant's; or the message has the id of
                another one: it says something else, or names another conversation.
            CcmError: it is refused, or what it repeats cannot be found.
        """
        with self._claimed(exchange.message):
            try:
                opened = await opening()
            except Duplicate as error:
                repetition = error
            else:
                pieces = None if isinstance(opened, Receipt) else opened
                receipt = opened if isinstance(opened, Receipt) else opened.receipt
                return Taken(self.keep(receipt, exchange), receipt, pieces)
        return Taken(await self._first(exchange, repetition), repetition.receipt, replayed=True)

    @contextmanager
    def _claimed(self, message: Message) -> Iterator[None]:
        """Meanwhile no other tenant begins this conversation."""
        key, tenant = message.conversation, message.tenant
        holder, count = self._claims.get(key, (self._holder(key), 0))
        if holder not in (None, tenant):
            raise missing("conversation")
        self._claims[key] = (tenant, count + 1)
        try:
            yield
        finally:
            _, count = self._claims.pop(key)
            if count > 1:
                self._claims[key] = (tenant, count - 1)

    async def _first(self, exchange: Exchange, repetition: Duplicate) -> Exchange:
        """What is told of a message that repeats another: where that one is, and what it began."""
        if repetition.differs:
            raise _reused(exchange.message.id)
        receipt: Receipt = repetition.receipt
        first = await self.note(receipt)
        if first is None:  # it is of an earlier process
            ended = None if self.conversations is None else await self.conversations.turn(receipt.turn_id)
            if ended is None:
                raise StorageError(f"turn {receipt.turn_id} has not been taken up yet; try again later")
            key, resumed = ended.conversation, await self._was_there(ended.conversation, receipt.turn_id)
        else:
            key, resumed = first.message.conversation, first.resumed
        if exchange.named and exchange.message.conversation != key:
            raise _reused(exchange.message.id)
        return attrs.evolve(exchange, message=exchange.message.replace(conversation=key), resumed=resumed)

    # -- receipts --------------------------------------------------------------------------------

    def keep(self, receipt: Receipt, exchange: Exchange) -> Exchange:
        """Remember an accepted message: its conversation is its tenant's, its receipt is found by number.

        Returns:
            The exchange, now with whether the conversation was there before. O(1).
        """
        resumed = exchange.resumed or exchange.message.conversation in self._owners
        return self._remember(receipt, attrs.evolve(exchange, resumed=resumed))

    async def note(self, receipt: Receipt) -> Exchange | None:
        """Remember a message that was handed in elsewhere, or taken up after a restart.

        Returns:
            What is known of it; None: only the storage knows of it.
        """
        turn = receipt.turn_id
        if turn in self._receipts:
            return self._receipts[turn][1]
        try:
            message = receipt.message
        except AttributeError:
            return None
        resumed = await self._was_there(message.conversation, turn)
        return self._remember(receipt, Exchange(message, resumed, trio.current_time()))

    def _remember(self, receipt: Receipt, exchange: Exchange) -> Exchange:
        turn, message = receipt.turn_id, exchange.message
        if turn in self._receipts:  # a repetition of it was quicker
            return attrs.evolve(exchange, resumed=self._receipts[turn][1].resumed)
        self._receipts[turn] = (receipt, exchange)
        _, first = self._owners.pop(message.conversation, ("", turn))
        self._owners[message.conversation] = (message.tenant, min(first, turn))
        for each in (self._receipts, self._owners):
            while len(each) > _KNOWN:
                each.popitem(last=False)
        return exchange

    async def _was_there(self, conversation: str, turn: int) -> bool:
        """Whether a conversation was there before the message of this turn."""
        stored = await self._stored(conversation)
        if stored is not None:
            ended = await self.conversations.turn(turn)
            return ended is None or ended.accepted > stored.created
        # Nothing of it has ended; what was taken up after a restart may have begun it.
        return conversation in self._owners and self._owners[conversation][1] < turn

    def kept(self, turn: int) -> tuple[Receipt, Message] | None:
        """A receipt by its turn's number. O(1)."""
        known = self._receipts.get(turn)
        return None if known is None else (known[0], known[1].message)

    # -- answers ---------------------------------------------------------------------------------

    async def answer(self, exchange: Exchange, receipt: Receipt, outcome: Outcome) -> dict[str, Any]:
        """The body that tells an answer.

        Raises:
            ProblemError: the outcome is none.
        """
        if not isinstance(outcome, (Replied, Merged)):
            problem = problem_of(outcome)
            assert problem is not None, outcome
            raise ProblemError.of(problem)
        message, total = exchange.message, trio.current_time() - exchange.began
        stage = qualification = None
        if (stored := await self._stored(message.conversation)) is not None:
            stage, qualification = stored.stage, qualified(stored)
        waited = receipt.waited
        served = None if waited is None else max(0.0, total - waited)
        return {
            "id": message.id, "turn": receipt.turn_id, "conversation": message.conversation,
            "event": exchange.event, "stage": stage, "is_qualified": qualification,
            "reply": outcome.reply.text, "outcome": outcome.name,
            "timings": {"waited": waited, "served": served, "total": total},
        }  # fmt: skip

    async def _stored(self, conversation: str) -> Conversation | None:
        if self.conversations is None:
            return None
        try:
            return await self.conversations.get(conversation)
        except StorageError:  # the answer counts, not what is known besides
            return None

    async def fate(self, exchange: Exchange, receipt: Receipt, outcome: Outcome) -> dict[str, Any]:
        """The last event of a stream: the answer, or the problem that there is instead."""
        try:
            return await self.answer(exchange, receipt, outcome)
        except ProblemError as error:
            return {
                "id": exchange.message.id, "turn": receipt.turn_id,
                "conversation": exchange.message.conversation, "outcome": outcome.name,
                "problem": error.problem.body(),
            }  # fmt: skip


def _reused(id: str) -> ProblemError:
    return ProblemError(
        422, f"the id {id!r} belongs to another message; give this one an id of its own.", reason="id_reused",
        id=id,
    )  # fmt: skip


def refusal(error: ProblemError | CcmError | ValueError | TypeError) -> dict[str, Any]:
    """The problem of a message that was not accepted, as a body."""
    if isinstance(error, ProblemError):
        return error.problem.body()
    problem = problem_of(error)
    if problem is not None:
        return problem.body()
    return ProblemError(
        422, "the message holds a value that is not allowed.", reason="invalid"
    ).problem.body()
