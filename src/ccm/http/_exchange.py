"""A message from a front end: whose it is, where it belongs, what is told of it."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from typing import Any, final

import attrs
import trio
from starlette.requests import HTTPConnection

from .._errors import CcmError, Outcome, StorageError
from .._message import Message
from .._outcome import Merged, Replied
from .._receipt import Receipt
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
        resumed: whether its conversation was there before.
        began: when the request came.
    """

    message: Message
    resumed: bool
    began: float

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
class Exchanges:
    """Takes messages of front ends in, and remembers their receipts.

    Invariant: a conversation is used by the tenant of its first message only.
    """

    def __init__(self, front: Front) -> None:
        self.front = front
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._receipts: OrderedDict[int, tuple[Receipt, Message]] = OrderedDict()
        try:
            self.conversations = front.manager.conversations
        except StorageError:
            self.conversations = None  # type: ignore[assignment]

    async def begin(self, caller: Caller, body: ChatIn, connection: HTTPConnection) -> Exchange:
        """Make the message of a request.

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
        # Meanwhile another request may have begun it.
        if self._owners.setdefault(key, tenant) != tenant:
            raise missing("conversation")
        self._owners.move_to_end(key)
        while len(self._owners) > _KNOWN:
            self._owners.popitem(last=False)
        metadata = dict(body.metadata)
        if (trace := headers.get("traceparent")) is not None:
            metadata.setdefault("traceparent", trace)
        message = Message(
            key, body.user, body.text, id=id, tenant=tenant, channel=body.channel, priority=body.klass,
            metadata=metadata,
        )  # fmt: skip
        return Exchange(message, resumed, began)

    async def owner(self, conversation: str) -> str | None:
        """The tenant of a conversation; None: there is none. Looks into the storage at most once each."""
        known = self._owners.get(conversation)
        if known is not None:
            return known
        session = self.front.manager.session(conversation)
        if session is not None:
            return session.tenant
        stored = None if self.conversations is None else await self.conversations.get(conversation)
        return None if stored is None else stored.tenant

    async def check(self, caller: Caller, conversation: str) -> None:
        """404 unless there is such a conversation, and the caller may see it."""
        owner = await self.owner(conversation)
        if owner is None or not visible(caller, owner):
            raise missing("conversation")

    def forget(self) -> None:
        """Nothing of conversations and receipts stays here. O(known)."""
        self._owners.clear()
        self._receipts.clear()

    # -- receipts --------------------------------------------------------------------------------

    def keep(self, receipt: Receipt, message: Message) -> None:
        """Remember a receipt for those who ask by its number. O(1)."""
        self._receipts[receipt.turn_id] = (receipt, message)
        while len(self._receipts) > _KNOWN:
            self._receipts.popitem(last=False)

    def kept(self, turn: int) -> tuple[Receipt, Message] | None:
        """A receipt by its turn's number. O(1)."""
        return self._receipts.get(turn)

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
        if self.conversations is not None and (stored := await self._stored(message.conversation)):
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


def refusal(error: CcmError | ValueError | TypeError) -> dict[str, Any]:
    """The problem of a message that was not accepted, as a body."""
    problem = problem_of(error)
    if problem is not None:
        return problem.body()
    return ProblemError(
        422, "the message holds a value that is not allowed.", reason="invalid"
    ).problem.body()
