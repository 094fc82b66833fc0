"""Conversations over HTTP: what was said, found, changed, exported, erased."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import Response as RawResponse

from .._conversations import Conversations as Kept
from .._conversations import changed_metadata
from ._access import check_unbound, needs, visible
from ._front import Front
from ._history_json import conversation_json, entry_json, hit_json
from ._keys import Caller
from ._models import ConversationOut, Conversations, Entries, Forgotten, Hits, Key, PatchIn, Stopped, problems
from ._problems import ProblemError, missing

Read = Annotated[Caller, Depends(needs("read"))]
Admin = Annotated[Caller, Depends(needs("admin"))]
Chat = Annotated[Caller, Depends(needs("chat"))]
Limit = Annotated[int, Query(ge=1, le=200, description="items at most")]
Cursor = Annotated[str | None, Query(max_length=500, description="of the page before")]
_DAY = 86400.0
_ERASES = "a key of one tenant cannot erase in all of them."
_DEEPEST = 10_000
"""Hits that a search leads through: who wants more needs other words."""
_PIECE = 100
"""Lines of an export that are sent at a time."""


def stored(front: Front) -> Kept:
    """What keeps conversations; 409 where nothing does."""
    found = front.exchanges.conversations
    if found is None:
        raise ProblemError(
            409, "conversations are not kept: open the manager with a storage (storage='bot.db').",
            reason="storage_missing",
        )  # fmt: skip
    return found


def router(front: Front) -> APIRouter:
    """The endpoints."""
    routes = APIRouter(prefix="/api/v1", tags=["conversations"], responses=problems(404, 409))
    _lists(front, routes)
    _one(front, routes)
    _change(front, routes)
    _forget(front, routes)
    _all(front, routes)
    return routes


def _page_number(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        raise _bad_cursor()
    return int(cursor)


def _bad_cursor() -> ProblemError:
    return ProblemError(422, "the cursor must be one that an answer has named.", reason="cursor")


def _lists(front: Front, routes: APIRouter) -> None:
    async def listed(caller: Caller, user: str | None, limit: int, cursor: str | None, **more: Any) -> Any:
        try:
            page = await stored(front).list(
                user=user, tenant=caller.tenant, limit=limit, cursor=cursor, **more
            )
        except ValueError:
            raise _bad_cursor() from None
        return {"items": [conversation_json(one) for one in page.items], "cursor": page.cursor}

    @routes.get(
        "/conversations", summary="Conversations, the last changed first", response_model=Conversations
    )
    async def conversations(
        caller: Read, limit: Limit = 50, cursor: Cursor = None,
        stage: Annotated[str | None, Query(max_length=1000)] = None,
        status: Annotated[str | None, Query(pattern="^(open|archived)$")] = None, paused: bool | None = None,
    ) -> Any:  # fmt: skip
        """All conversations of the caller's tenant, or of all."""
        return await listed(caller, None, limit, cursor, stage=stage, status=status, paused=paused)

    @routes.get("/users/{user}/conversations", summary="Those of a user", response_model=Conversations)
    async def of_user(user: Key, caller: Read, limit: Limit = 50, cursor: Cursor = None) -> Any:
        """Conversations in which the user has spoken, the last changed first."""
        return await listed(caller, user, limit, cursor)

    @routes.get("/search", summary="Find what was said", response_model=Hits)
    async def search(
        caller: Read, q: Annotated[str, Query(min_length=1, max_length=500, description="words")],
        user: Annotated[str | None, Query(max_length=200)] = None,
        conversation: Annotated[str | None, Query(max_length=200)] = None,
        limit: Limit = 20, cursor: Cursor = None,
    ) -> Any:  # fmt: skip
        """Lines with all these words, the best first; the last word may be a beginning."""
        kept, offset = stored(front), _page_number(cursor)
        if offset > _DEEPEST:
            raise _bad_cursor()
        try:
            hits = await kept.search(
                q, user=user, conversation=conversation, tenant=caller.tenant, limit=limit + 1, offset=offset
            )
        except ValueError:
            raise ProblemError(422, "there is no word to look for.", reason="query") from None
        following = offset + limit
        more = len(hits) > limit and following <= _DEEPEST
        return {"items": [hit_json(hit) for hit in hits[:limit]], "cursor": str(following) if more else None}


def _one(front: Front, routes: APIRouter) -> None:
    @routes.get("/conversations/{id}", summary="One conversation", response_model=ConversationOut)
    async def conversation(id: Key, caller: Read) -> Any:
        """What is kept of it."""
        found = await stored(front).get(id)
        if found is None or not visible(caller, found.tenant):
            raise missing("conversation")
        return conversation_json(found)

    @routes.get("/conversations/{id}/messages", summary="What was said", response_model=Entries)
    async def messages(id: Key, caller: Read, limit: Limit = 50, cursor: Cursor = None) -> Any:
        """Lines, oldest first; the first page has the last ones, and the cursor leads to older ones."""
        kept = stored(front)
        await front.exchanges.check(caller, id)
        before = _page_number(cursor) or None
        try:
            page = await kept.history(id, limit=limit, before=before)
        except KeyError:  # it is live, and nothing of it has been kept yet
            return {"items": [], "cursor": None}
        return {"items": [entry_json(entry) for entry in page.items], "cursor": page.cursor}

    @routes.post("/conversations/{id}/stop", summary="End its turns", response_model=Stopped)
    async def stop(id: Key, caller: Chat) -> Any:
        """End what waits and what runs; later messages are handled as usual."""
        await front.exchanges.check(caller, id)
        stopped = await front.manager.stop(id)
        return {"waiting": stopped.waiting, "running": stopped.running}


def _change(front: Front, routes: APIRouter) -> None:
    @routes.patch("/conversations/{id}", summary="Change it", response_model=ConversationOut)
    async def patch(id: Key, body: PatchIn, caller: Admin) -> Any:
        """Move it to another stage, hand it over, pause or resume the bot, note what is met or known."""
        kept, by, why = stored(front), caller.name, body.reason
        await front.exchanges.check(caller, id)
        if body.metadata is not None and (current := await kept.get(id)) is not None:
            with _told_as_invalid():  # before anything else is changed
                changed_metadata(current.metadata, body.metadata)
        try:
            if body.stage is not None:
                await kept.set_stage(id, body.stage, by=by, why=why)
            if body.hand_off is not None:
                await kept.hand_off(id, body.hand_off.to, reason=body.hand_off.reason or why, by=by)
            if body.pause is not None:
                await (kept.pause if body.pause else kept.resume)(id, by=by, reason=why)
            for name, one in (body.qualification or {}).items():
                await kept.qualify(id, name, met=one.met, confidence=one.confidence, notes=one.notes, by=by)
            if body.summary is not None:
                await kept.set_summary(id, body.summary, by=by)
            if body.metadata is not None:
                with _told_as_invalid():
                    await kept.set_metadata(id, body.metadata, by=by)
        except KeyError:
            raise missing("conversation") from None
        except ValueError as error:  # a move that the stages do not allow: names of the application's own
            raise ProblemError(409, str(error), reason="stage") from None
        front.audit(caller, "change", conversation=id, fields=sorted(body.model_fields_set))
        found = await kept.get(id)
        if found is None:
            raise missing("conversation")
        return conversation_json(found)


def _forget(front: Front, routes: APIRouter) -> None:
    async def erase(caller: Caller, user: str) -> int:
        erased = await stored(front).forget(user)
        front.exchanges.forget()
        front.audit(caller, "forget", user=user, erased=erased)
        return erased

    @routes.delete("/users/{user}", summary="Forget a user", response_model=Forgotten)
    async def forget(user: Key, caller: Admin) -> Any:
        """Erase all that the user said, and the replies to it; conversations of nobody else go as a whole."""
        check_unbound(caller, _ERASES)
        return {"erased": await erase(caller, user)}

    @routes.delete("/conversations/{id}", summary="Forget its users", response_model=Forgotten)
    async def forget_all(id: Key, caller: Admin) -> Any:
        """Erase everybody who has spoken in it, here and elsewhere: what a person asks for is to be
        forgotten, not to be forgotten in one place."""
        kept, users, cursor = stored(front), set[str](), None
        await front.exchanges.check(caller, id)
        check_unbound(caller, _ERASES)
        while True:
            try:
                page = await kept.history(id, limit=1000, before=cursor)
            except KeyError:  # nothing of it is kept
                break
            users |= {entry.user for entry in page.items if entry.role == "user" and entry.user}
            if page.cursor is None:
                break
            cursor = int(page.cursor)
        return {"erased": sum([await erase(caller, user) for user in sorted(users)])}


@contextmanager
def _told_as_invalid() -> Iterator[None]:
    """What is wrong with metadata is a 422; its values are not told."""
    try:
        yield
    except ValueError as error:
        raise ProblemError(422, str(error), reason="invalid") from None
    except TypeError:
        raise ProblemError(
            422, "metadata must be JSON, and its numbers finite; send others.", reason="invalid"
        ) from None


def _all(front: Front, routes: APIRouter) -> None:
    @routes.get("/analytics", summary="Figures of turns")
    async def analytics(
        caller: Read, days: Annotated[float, Query(gt=0, le=3660, description="up to now")] = 7.0
    ) -> dict[str, Any]:
        """Turns, users, outcomes and waits of the last days."""
        check_unbound(caller, "figures are of all tenants together.")
        kept = stored(front)
        until = kept._now()
        found = await kept.analytics(until - days * _DAY, until)
        return {
            "turns": found.turns, "conversations": found.conversations, "users": found.users,
            **{
                name: dict(getattr(found, name))
                for name in ("outcomes", "days", "routes", "stages", "agents", "waited", "served")
            },
        }  # fmt: skip

    @routes.get(
        "/export", summary="Everything, as JSON Lines",
        responses={
            200: {"content": {"application/jsonl": {"schema": {"type": "string"}}}, "description": "lines"}
        },
    )  # fmt: skip
    async def export(
        request: Request, caller: Admin, conversation: Annotated[str | None, Query(max_length=200)] = None
    ) -> Response:
        """Conversations and their lines, as they are when it begins; of one, or of all."""
        kept = stored(front)
        if conversation is not None:
            await front.exchanges.check(caller, conversation)
        else:
            check_unbound(caller, "an export of everything is of all tenants.")
        front.audit(caller, "export", conversation=conversation)
        return _Lines(lambda: kept.export(conversation))


class _Lines(RawResponse):
    """The response: written as it is read, cancelled with the request."""

    def __init__(self, opening: Callable[[], Any]) -> None:
        super().__init__()
        self._opening = opening

    async def __call__(self, scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        async with self._opening() as lines:
            headers = [
                (b"content-type", b"application/jsonl"),
                (b"content-disposition", b'attachment; filename="ccm.jsonl"'),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            piece: list[str] = []
            async for line in lines:
                piece.append(json.dumps(line, default=str) + "\n")
                if len(piece) == _PIECE:
                    await send(_body(piece))
                    piece = []
            if piece:
                await send(_body(piece))
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _body(lines: list[str]) -> dict[str, Any]:
    return {"type": "http.response.body", "body": "".join(lines).encode(), "more_body": True}
