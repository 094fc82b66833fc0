"""GET and DELETE /api/v1/turns/{turn}: what became of a message."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from .._errors import Outcome
from .._outcome import Merged, Replied
from .._receipt import Receipt
from ..storage._codec import decode_outcome  # the storage's own words for an outcome; there is no public name
from ._access import needs, visible
from ._front import Front
from ._keys import Caller
from ._models import TurnOut, problems
from ._problems import missing, problem_of

Number = Annotated[int, Path(ge=-(2**53), le=2**53, description="the turn's number, from the receipt")]


def router(front: Front) -> APIRouter:
    """The endpoints."""
    routes = APIRouter(prefix="/api/v1/turns", tags=["chat"])

    @routes.get(
        "/{turn}", summary="What became of a message", response_model=TurnOut, responses=problems(404)
    )
    async def look(turn: Number, caller: Annotated[Caller, Depends(needs("chat"))]) -> Any:
        """Where the message is, or its outcome; with a storage also after a restart."""
        return await _look(front, caller, turn)

    @routes.delete("/{turn}", summary="Cancel a message", response_model=TurnOut, responses=problems(404))
    async def cancel(turn: Number, caller: Annotated[Caller, Depends(needs("chat"))]) -> Any:
        """Take the message back: it is cancelled where it waits or runs. What is done stays done."""
        found = await _look(front, caller, turn)
        if found["state"] != "done" and found["id"] is not None:
            kept = front.exchanges.kept(turn)
            tenant = "" if kept is None else kept[1].tenant
            await front.manager.retract(found["id"], tenant=tenant)
            found = await _look(front, caller, turn)
        return found

    return routes


async def _look(front: Front, caller: Caller, turn: int) -> dict[str, Any]:
    kept = front.exchanges.kept(turn)
    if kept is not None:
        receipt, message = kept
        if visible(caller, message.tenant):
            return await _told(receipt, message.id, message.conversation)
    live = front.manager.receipt(turn)
    if live is not None and visible(caller, live.message.tenant):
        await front.exchanges.note(live)
        return await _told(live, live.message.id, live.message.conversation)
    conversations = front.exchanges.conversations
    ended = None if conversations is None or turn <= 0 else await conversations.turn(turn)
    if ended is None or not visible(caller, ended.tenant):
        raise missing("turn")
    outcome = decode_outcome(ended.outcome, ended.detail)
    return _done(turn, ended.message_id or None, ended.conversation, outcome)


async def _told(receipt: Receipt, id: str, conversation: str) -> dict[str, Any]:
    state = receipt.state
    if state == "done":
        return _done(receipt.turn_id, id, conversation, await receipt.outcome())
    return {
        "turn": receipt.turn_id, "id": id, "conversation": conversation, "state": state,
        "position": receipt.position,
    }  # fmt: skip


def _done(turn: int, id: str | None, conversation: str, outcome: Outcome) -> dict[str, Any]:
    problem = problem_of(outcome)
    return {
        "turn": turn, "id": id, "conversation": conversation, "state": "done", "position": 0,
        "outcome": outcome.name,
        "reply": outcome.reply.text if isinstance(outcome, (Replied, Merged)) else None,
        "problem": None if problem is None else problem.body(),
    }  # fmt: skip
