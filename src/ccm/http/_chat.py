"""POST /api/v1/chat: a message, and its answer now, later or as it is written."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from .._errors import CcmError
from .._streaming import Restarted
from ._access import check_scope
from ._events import Channel, EventStream
from ._exchange import Exchange, Exchanges, Taken, refusal
from ._front import Front
from ._models import ChatIn, ChatOut, ReceiptOut, problems
from ._problems import ProblemError

_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}
_REPLAYED = {"Idempotent-Replayed": "true"}


def _header(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name, "in": "header", "required": False, "description": description,
        "schema": {"type": "string"},
    }  # fmt: skip


_HEADERS = [
    _header("Idempotency-Key", "the message's id, when the body has none"),
    _header("Prefer", "`respond-async`: do not wait"),
]


def router(front: Front) -> APIRouter:
    """The endpoint."""
    routes = APIRouter(prefix="/api/v1", tags=["chat"])
    exchanges = front.exchanges

    @routes.post(
        "/chat", summary="Say something", openapi_extra={"parameters": _HEADERS},
        responses={
            **problems(404, 409, 502, 504),
            200: {"model": ChatOut, "content": _STREAM, "description": "the answer, or a stream of events"},
            202: {"model": ReceiptOut, "description": "accepted (`Prefer: respond-async`)"},
        },
    )  # fmt: skip
    async def chat(request: Request, body: ChatIn) -> Response:
        """Hand in a message.

        The answer comes when it is there; or, with `Accept: text/event-stream`, piece by piece (events
        `receipt`, `piece`, `restarted`, `outcome`); or, with `Prefer: respond-async`, at the URL of the
        receipt. The same `id` again gives the first one's answer; with another message, or in another
        conversation, it is refused. A client that goes away before its answer cancels the turn, unless it
        wanted a receipt.
        """
        # Not by FastAPI's dependencies: they would cost as much as all the rest of ccm here.
        exchange = await exchanges.begin(check_scope(request, "chat"), body, request)
        if "respond-async" in request.headers.get("prefer", ""):
            return await _later(exchanges, exchange)
        if "text/event-stream" in request.headers.get("accept", ""):
            return EventStream(front, partial(_as_written, exchanges, exchange))
        return await _now(exchanges, exchange)

    return routes


async def _later(exchanges: Exchanges, exchange: Exchange) -> Response:
    taken = await exchanges.hand_in(exchange, partial(exchanges.front.manager.submit, exchange.message))
    body = taken.exchange.receipt(taken.receipt)
    headers = {"Location": body["url"], "Preference-Applied": "respond-async"}
    return JSONResponse(body, 202, headers | (_REPLAYED if taken.replayed else {}))


async def _now(exchanges: Exchanges, exchange: Exchange) -> Response:
    async with AsyncExitStack() as stack:
        expected = exchanges.front.manager.expect(exchange.message)
        taken = await exchanges.hand_in(exchange, partial(stack.enter_async_context, expected))
        outcome = await taken.receipt.outcome()
    answer = await exchanges.answer(taken.exchange, taken.receipt, outcome)
    return JSONResponse(answer, headers=_REPLAYED if taken.replayed else None)


async def _as_written(exchanges: Exchanges, exchange: Exchange, channel: Channel) -> None:
    """Send a message's events; a client that reads slowly slows its own turn only."""
    taken: Taken | None = None
    try:
        async with AsyncExitStack() as stack:
            stream = exchanges.front.manager.stream(exchange.message)
            taken = await exchanges.hand_in(exchange, partial(stack.enter_async_context, stream))
            await channel.event("receipt", taken.body())
            if taken.pieces is not None:
                async for piece in taken.pieces:
                    if isinstance(piece, Restarted):
                        await channel.event("restarted", {"attempt": piece.attempt})
                    else:
                        await channel.event("piece", {"text": piece})
            outcome = await taken.receipt.outcome()
    except (ProblemError, CcmError, ValueError, TypeError) as error:
        if taken is None:
            await channel.event("outcome", {"outcome": "rejected", "problem": refusal(error)})
            return
        outcome = await taken.receipt.outcome()
    await channel.event("outcome", await exchanges.fate(taken.exchange, taken.receipt, outcome))
