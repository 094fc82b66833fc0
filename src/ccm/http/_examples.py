"""What stands in the OpenAPI description besides what the code says: scopes, examples, errors."""

from __future__ import annotations

from typing import Any

import attrs

from .._config import Config
from . import _schemas
from ._plain import plain
from ._settings import Settings

_AT = _schemas.AT
_RECEIPT = {
    "id": "m-17", "turn": 4711, "conversation": "channel-1", "event": "resumed", "position": 2,
    "estimated_wait": 1.5, "url": "/api/v1/turns/4711",
}  # fmt: skip
_ANSWER = {
    "id": "m-17", "turn": 4711, "conversation": "channel-1", "event": "resumed", "stage": "lead",
    "is_qualified": None, "reply": "Good day, Ada.", "outcome": "replied",
    "timings": {"waited": 0.02, "served": 1.3, "total": 1.32},
}  # fmt: skip
_DONE = {
    "turn": 4711, "id": "m-17", "conversation": "channel-1", "state": "done", "position": 0,
    "outcome": "replied", "reply": "Good day, Ada.", "problem": None,
}  # fmt: skip
_CANCELLED = _DONE | {
    "outcome": "cancelled", "reply": None,
    "problem": {
        "type": "urn:ccm:problem:cancelled", "title": "Conflict", "status": 409,
        "detail": "the turn was cancelled by 'retract'.", "reason": "cancelled", "by": "retract",
    },
}  # fmt: skip
_CONVERSATION = {
    "id": "channel-1", "tenant": "acme", "channel": "web", "stage": "lead", "status": "open", "created": _AT,
    "updated": _AT, "messages": 3, "replies": 3, "failures": 0, "paused": False, "agent": "",
    "is_qualified": True, "score": 1.0,
    "criteria": {"budget": {"met": True, "confidence": 0.9, "notes": "asked for an offer"}},
    "summary": "Ada wants to know about chairs.", "metadata": {"crm": "lead-12"},
}  # fmt: skip
_LINE = {
    "id": 12, "turn": 4711, "role": "user", "user": "ada", "text": "Hello!", "at": _AT, "message_id": "m-17",
    "partial": False, "handled": True, "kind": "message", "data": {},
}  # fmt: skip
_HIT = {
    "conversation": "channel-1", "turn": 4711, "user": "ada", "role": "user", "at": _AT, "text": "Hello!",
    "snippet": "[Hello]!", "rank": -1.2,
}  # fmt: skip
_LETTER = {
    "id": 3, "route": "default", "service": "", "attempts": 3, "error": "TimeoutError()", "at": _AT,
    "conversation": "channel-1", "user": "ada", "text": "Hello!",
}  # fmt: skip
_STREAM = (
    'event: receipt\ndata: {"id":"m-17","turn":4711}\n\nevent: piece\ndata: {"text":"Good "}\n\n'
    'event: outcome\ndata: {"outcome":"replied","reply":"Good day, Ada."}\n\n'
)
_EVENTS = (
    f': listening\n\nevent: Started\ndata: {{"at":"{_AT}","turn_id":4711,"conversation":"channel-1",'
    '"attempt":1,"waited":0.02}\n\n'
)
_EXPORT = '{"kind": "conversation", "key": "channel-1"}\n{"kind": "entry", "text": "Hello!"}\n'

_NO_STORAGE = "`storage_missing`: nothing is kept, because the manager has no storage"
_NO_CONVERSATION = "there is no such conversation, or it is another tenant's"
_NO_LETTER = "there is no such dead letter, or it is another tenant's"
_STATUS = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}


@attrs.frozen
class About:
    """What is said of one operation.

    Attributes:
        scope: what a key must be good for; None: no key is needed.
        examples: of the bodies of its responses, by status, then by media type.
        problems: what the status of an error means here, where it is not what it means everywhere.
        schemas: of JSON bodies that have no model, by status.
        body: an example of the request's body.
    """

    scope: str | None
    examples: dict[int, dict[str, Any]]
    problems: dict[int, str] = attrs.field(factory=dict)
    schemas: dict[int, dict[str, Any]] = attrs.field(factory=dict)
    body: Any = None


def _json(example: Any, status: int = 200) -> dict[int, dict[str, Any]]:
    return {status: {"application/json": example}}


def _items(example: Any, **more: Any) -> dict[int, dict[str, Any]]:
    return _json({"items": [example], **more})


def _figures(name: str, **some: Any) -> About:
    """Said of a picture of all tenants; `some` of its figures are not those of a manager just opened."""
    schema: dict[str, Any] = getattr(_schemas, name)()
    return About("read", _json(_schemas.example(schema) | some), _ALL, {200: schema})


_KEPT = {409: _NO_STORAGE}
_ONE = {404: _NO_CONVERSATION, 409: _NO_STORAGE}
_NO_TURN = {404: "there is no such turn, or it is another tenant's"}
_SERVICE = _schemas.example(_schemas.services()["properties"]["items"]["items"]) | {
    "name": "mailer", "received": 9, "done": 9, "concurrency": 1, "capacity": 100,
}  # fmt: skip
_ALL = {403: "`tenant`: it concerns all tenants, and the key is bound to one; `scope`; `origin`"}

ABOUT = {
    "POST /api/v1/chat": About(
        "chat",
        {200: {"application/json": _ANSWER, "text/event-stream": _STREAM}, **_json(_RECEIPT, 202)},
        {
            404: _NO_CONVERSATION,
            409: "`busy`: the conversation answers another message; `superseded` by a newer one; `cancelled`",
            429: "`rate_limited`: too much from this key, or from this user",
            502: "`handler_failed`: the handler failed for good; `dead_letter` is its number",
            504: "`expired`: it was not answered within its time",
        },
        body={"user": "ada", "text": "Hello!", "conversation": "channel-1", "id": "m-17"},
    ),
    "GET /api/v1/turns/{turn}": About("chat", _json(_DONE), _NO_TURN),
    "DELETE /api/v1/turns/{turn}": About("chat", _json(_CANCELLED), _NO_TURN),
    "GET /api/v1/conversations": About("read", _items(_CONVERSATION, cursor="17"), _KEPT),
    "GET /api/v1/users/{user}/conversations": About("read", _items(_CONVERSATION, cursor=None), _KEPT),
    "GET /api/v1/search": About("read", _items(_HIT, cursor=None), _KEPT),
    "GET /api/v1/conversations/{id}": About("read", _json(_CONVERSATION), _ONE),
    "PATCH /api/v1/conversations/{id}": About(
        "admin", _json(_CONVERSATION | {"stage": "customer", "paused": True}),
        {404: _NO_CONVERSATION, 409: f"`stage`: its stage does not lead there; {_NO_STORAGE}"},
        body={"stage": "customer", "pause": True},
    ),
    "DELETE /api/v1/conversations/{id}": About("admin", _json({"erased": 6}), _ONE | _ALL),
    "GET /api/v1/conversations/{id}/messages": About("read", _items(_LINE, cursor="12"), _ONE),
    "POST /api/v1/conversations/{id}/stop": About(
        "chat", _json({"waiting": 2, "running": 1}), {404: _NO_CONVERSATION}
    ),
    "DELETE /api/v1/users/{user}": About("admin", _json({"erased": 6}), _KEPT | _ALL),
    "GET /api/v1/analytics": About(
        "read",
        _json({
            "turns": 120, "conversations": 30, "users": 25, "outcomes": {"replied": 118, "failed": 2},
            "days": {"2026-01-31": 120}, "routes": {"default": 120}, "stages": {"lead": 30}, "agents": {},
            "waited": {"replied": 0.02}, "served": {"replied": 1.1},
        }),
        _KEPT | _ALL,
        {200: _schemas.analytics()},
    ),
    "GET /api/v1/export": About("admin", {200: {"application/jsonl": _EXPORT}}, _ONE | _ALL),
    "GET /api/v1/events": About(
        "read", {200: {"text/event-stream": _EVENTS}},
        {422: "`kinds`: there is no such event; `kinds` of the problem are those there are"},
    ),
    "GET /api/v1/statistics": _figures(
        "statistics", uptime=60.0, received=120, running=3, limit=8, outcomes={"replied": 115, "failed": 2}
    ),
    "GET /api/v1/trends": _figures("trends"),
    "GET /api/v1/alerts": About(
        "read",
        _items({
            "kind": "wait", "subject": "HIGH", "level": "warning", "value": 3.1, "threshold": 2.0,
            "since": _AT,
        }),
        _ALL,
        {200: _schemas.alerts()},
    ),
    "GET /api/v1/services": _figures("services", items=[_SERVICE]),
    "GET /api/v1/settings": _figures(
        "settings", config=plain(Config()), http=plain(Settings()) | {"keys": False}, routes=["default"],
        version="0.1.0",
    ),
    "GET /api/v1/dead-letters": About("read", _items(_LETTER), schemas={200: _schemas.letters()}),
    "POST /api/v1/dead-letters/{id}/replay": About(
        "admin", _json({"turn": 4712}), {404: _NO_LETTER, 409: "`busy`: its conversation is"},
        {200: {
            "type": "object", "required": ["turn"],
            "properties": {"turn": {"type": ["integer", "null"], "description": "null for one of a service"}},
        }},
    ),
    "DELETE /api/v1/dead-letters/{id}": About("admin", {}, {404: _NO_LETTER}),
    "GET /healthz": About(None, _json({"status": "ok"}), schemas={200: _STATUS}),
    "GET /readyz": About(
        None, _json({"status": "ready"}) | _json({"status": "draining"}, 503),
        {503: "it should not get requests: `draining`, or its `storage` fails"},
        {200: _STATUS, 503: _STATUS},
    ),
    "GET /metrics": About("read", {200: {"text/plain": "ccm_running_turns 3.0\n"}}, _ALL),
}  # fmt: skip

PROBLEMS = {
    400: ("bad_json", "the body is no JSON that is accepted here, or the request is malformed"),
    401: ("unauthorised", "the key is missing or wrong; `WWW-Authenticate` says how to hand it in"),
    403: ("scope", "`scope` or `tenant`: the key may not do that; `origin`: a foreign page asks"),
    404: ("not_found", "there is no such thing, or it is another tenant's"),
    408: (None, "the body was not sent in time"),
    409: ("busy", "the state of things is against it"),
    413: (None, "the body is longer than `max_body`"),
    415: (None, "the body is not `application/json`, or is compressed"),
    421: ("host", "without keys, the `Host` must be this machine's own"),
    422: ("invalid", "a value is not what it must be; `errors` names the fields"),
    429: ("rate_limited", "too much from this key; `Retry-After` has the seconds"),
    502: ("handler_failed", "the handler failed for good"),
    503: ("overloaded", "`overloaded`, `draining`, `storage`, ...: come back after `Retry-After` seconds"),
    504: ("expired", "it was not answered within its time"),
}
"""The reason in the example of each problem, and what its status means."""

PARAMETERS = {
    "user": "the user's id, percent-encoded in a path",
    "id": "the conversation's key, percent-encoded",
    "conversation": "only this conversation", "stage": "only those in this stage",
    "status": "only those that are open, or archived", "paused": "only those whose bot is paused, or is not",
    "step": "seconds", "limit": "items at most", "accept": "the media type that is wanted",
}  # fmt: skip
"""What parameters mean that have no description of their own."""
