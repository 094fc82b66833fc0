"""Every endpoint, with no key, a wrong one, each scope, and the key of another tenant.

The endpoints are asked for, not listed: one that is not in the table fails here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import ccm
from ccm.http import Keys, Settings

from .live import Live, in_thread
from .raw import connect, request, statuses, upgrade

# What one must hold a key for, and what the key of another tenant gets: "404"; "403"; "hidden", an answer
# without anything of this tenant; "own", an answer about its own.
TABLE = {
    "GET /": ("open", None),
    "GET /docs": ("open", None),
    "GET /docs/style.css": ("open", None),
    "GET /static/{name:path}": ("open", None),
    "GET /static/{path:path}": ("open", None),
    "GET /static/{name}": ("open", None),
    "GET /favicon.ico": ("open", None),
    "GET /openapi.json": ("open", None),
    "GET /healthz": ("open", None),
    "GET /readyz": ("open", None),
    "GET /metrics": ("read", "403"),
    "POST /api/v1/chat": ("chat", "403"),
    "WS /api/v1/ws": ("chat", "own"),
    "GET /api/v1/turns/{turn}": ("chat", "404"),
    "DELETE /api/v1/turns/{turn}": ("chat", "404"),
    "POST /api/v1/conversations/{id}/stop": ("chat", "404"),
    "GET /api/v1/conversations": ("read", "hidden"),
    "GET /api/v1/users/{user}/conversations": ("read", "hidden"),
    "GET /api/v1/search": ("read", "hidden"),
    "GET /api/v1/conversations/{id}": ("read", "404"),
    "GET /api/v1/conversations/{id}/messages": ("read", "404"),
    "GET /api/v1/analytics": ("read", "403"),
    "GET /api/v1/export": ("admin", "403"),
    "GET /api/v1/events": ("read", "hidden"),
    "GET /api/v1/statistics": ("read", "403"),
    "GET /api/v1/trends": ("read", "403"),
    "GET /api/v1/alerts": ("read", "403"),
    "GET /api/v1/services": ("read", "403"),
    "GET /api/v1/settings": ("read", "403"),
    "GET /api/v1/dead-letters": ("read", "hidden"),
    "PATCH /api/v1/conversations/{id}": ("admin", "404"),
    "DELETE /api/v1/conversations/{id}": ("admin", "404"),
    "DELETE /api/v1/users/{user}": ("admin", "403"),
    "POST /api/v1/dead-letters/{id}/replay": ("admin", "404"),
    "DELETE /api/v1/dead-letters/{id}": ("admin", "404"),
}
BODIES: dict[str, Any] = {
    "POST /api/v1/chat": {"user": "ada", "text": "hello", "tenant": "acme"},
    "PATCH /api/v1/conversations/{id}": {"stage": "lead"},
}
QUERIES = {"GET /api/v1/search": "?q=hemlock"}
TEXT = "hemlock and other secrets"
IMPLIED = {"chat": {"chat", "admin"}, "read": {"read", "admin"}, "admin": {"admin"}, "open": set()}


async def handler(turn: ccm.Turn) -> str:
    if turn.message.text.startswith("fail"):
        raise ccm.Permanent(TEXT)
    return f"about {turn.message.text}"


@attrs.frozen
class World:
    """A front end with data of the tenant "acme", and keys."""

    server: Live
    secrets: dict[str, str]
    ids: dict[str, str]

    def paths(self) -> Iterator[tuple[str, str, str]]:
        """Each endpoint: its line in the table, method, and path with ids of acme in it."""
        for route in walk(self.server.app.inner.routes):
            for method in sorted(getattr(route, "methods", None) or ["WS"]):
                if method != "HEAD":
                    line = f"{method} {route.path}"
                    letter = "letter" if "dead-letters" in route.path else "id"
                    path = route.path.replace("{id}", self.ids[letter]).replace("{path:path}", "{name}")
                    path = path.replace("{turn}", self.ids["turn"]).replace("{user}", "ada")
                    yield line, method, path.replace("{name}", "style.css") + QUERIES.get(line, "")

    def ask(self, line: str, method: str, path: str, key: str | None) -> tuple[int, bytes]:
        """Status, and the body as far as it comes at once."""
        lines = [] if key is None else [f"Authorization: Bearer {key}"]
        body = json.dumps(BODIES[line]).encode() if line in BODIES else b""
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        with connect(self.server.port) as sock:
            sock.sendall(
                upgrade(path, *lines) if method == "WS" else request(method, path, *lines, body=body)
            )
            data = sock.recv(65536)
            if line not in ("GET /api/v1/events", "WS /api/v1/ws"):
                while more := sock.recv(65536):
                    data += more
        (status,) = statuses(data)
        return status, data


def walk(routes: Any) -> Iterator[Any]:
    for route in routes:
        if hasattr(route, "path"):
            yield route
        else:
            yield from walk(route.original_router.routes)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    secrets, keys = {}, Keys()
    for name, scopes, tenant in [
        ("chat", ["chat"], None), ("read", ["read"], None), ("admin", ["admin"], None),
        ("acme", ["admin"], "acme"), ("other", ["admin"], "other"),
    ]:  # fmt: skip
        secrets[name], key = Keys.make(name, scopes, tenant)
        keys = keys.with_key(key)
    path: Path = tmp_path_factory.mktemp("auth") / "bot.db"
    config = ccm.Config(rate_limit=None, retry=ccm.RetryPolicy(attempts=1))
    with in_thread(handler, Settings(keys=keys, rate=None), storage=path, config=config) as server:
        yield World(server, secrets, make_data(server, secrets["acme"]))


def make_data(server: Live, key: str) -> dict[str, str]:
    """A conversation of acme, a turn, and a dead letter."""
    if not any(getattr(route, "path", "") == "/api/v1/chat" for route in walk(server.app.inner.routes)):
        return {"id": "c", "turn": "1", "letter": "1"}
    answer = server.post("/api/v1/chat", {"user": "ada", "text": TEXT}, key=key)
    assert answer.status == 200, answer.body
    assert server.post("/api/v1/chat", {"user": "ada", "text": f"fail {TEXT}"}, key=key).status == 502
    letters = server.get("/api/v1/dead-letters", key=key).json["items"]
    return {
        "id": answer.json["conversation"],
        "turn": str(answer.json["turn"]),
        "letter": str(letters[0]["id"]),
    }


def test_every_endpoint_has_its_scope_in_the_table(world: World) -> None:
    lines = [line for line, _, _ in world.paths()]
    assert lines
    assert [line for line in lines if line not in TABLE] == [], "what may they be used for, and by whom?"


def almost(secret: str) -> str:
    """A key that differs from this one in its last character, whatever that is."""
    return secret[:-1] + ("B" if secret[-1] == "A" else "A")


@pytest.mark.parametrize("last", ["AA", "AB", "BA", "Aw"])
def test_a_wrong_key_is_never_the_right_one(last: str) -> None:
    secret = Keys.make("chat", ["chat"])[0][:-2] + last
    assert almost(secret) != secret
    assert len(almost(secret)) == len(secret)


def test_no_key_a_wrong_key_and_each_scope(world: World) -> None:
    """What changes anything comes last in the table, and is asked with keys that may not, first."""
    wrong = almost(world.secrets["admin"])
    order = list(TABLE)
    for line, method, path in sorted(world.paths(), key=lambda entry: order.index(entry[0])):
        scope, _ = TABLE[line]
        for key in (None, wrong, ""):
            status, data = world.ask(line, method, path, key)
            assert (status in (401, 403)) != (scope == "open"), (line, status)
            assert scope == "open" or status == 401, (line, status)
            assert TEXT.encode() not in data
        if scope != "admin":  # those are tried by the tests of what they do
            for name in ("chat", "read", "admin"):
                status, _ = world.ask(line, method, path, world.secrets[name])
                assert (status == 403) == (scope != "open" and name not in IMPLIED[scope]), (
                    line,
                    name,
                    status,
                )
                assert status < 500 or status == 503, (line, name, status)
        else:
            for name in ("chat", "read"):
                assert world.ask(line, method, path, world.secrets[name])[0] == 403, (line, name)


def test_the_data_of_another_tenant(world: World) -> None:
    if world.ids["id"] == "c":
        return
    other, acme = world.secrets["other"], world.secrets["acme"]
    for line, method, path in world.paths():
        _, expected = TABLE[line]
        if expected is None:
            continue
        status, data = world.ask(line, method, path, other)
        if expected in ("404", "403"):
            assert status == int(expected), (line, status, data)
        else:
            assert status < 300 or status == 101, (line, status, data)
        _, _, body = data.partition(b"\r\n\r\n")
        assert b"hemlock" not in body, (line, body)
        assert b'"acme"' not in body, (line, body)
        assert world.ids["id"].encode() not in body.replace(path.encode(), b""), (line, body)
    # Nothing of it was changed either.
    read = world.server.get(f"/api/v1/conversations/{world.ids['id']}/messages", key=acme)
    assert read.status == 200
    assert TEXT in read.body.decode()
    assert world.server.get(f"/api/v1/conversations/{world.ids['id']}", key=acme).json["stage"] == ""
    letters = world.server.get("/api/v1/dead-letters", key=acme).json["items"]
    assert [str(letter["id"]) for letter in letters] == [world.ids["letter"]]


def test_a_message_cannot_be_put_into_a_conversation_of_another_tenant(world: World) -> None:
    if world.ids["id"] == "c":
        return
    body = {"user": "eve", "text": "hello", "conversation": world.ids["id"]}
    answer = world.server.post("/api/v1/chat", body, key=world.secrets["other"])
    assert answer.status == 404
    read = world.server.get(f"/api/v1/conversations/{world.ids['id']}/messages", key=world.secrets["acme"])
    assert b"eve" not in read.body


def test_no_log_and_no_response_holds_a_key_or_a_text(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """All of it again, with all loggers at their most talkative."""
    heard = b""
    with caplog.at_level(logging.DEBUG):
        for line, method, path in world.paths():
            if TABLE[line][0] != "admin":
                for name in ("chat", "read", "acme"):
                    heard += world.ask(line, method, path, world.secrets[name])[1]
        world.ask("", "POST", "/api/v1/dead-letters/1/none", world.secrets["admin"])
    fingerprints = [key.sha256 for key in world.server.front.settings.keys]
    for secret in (
        *world.secrets.values(),
        *(secret[13:33] for secret in world.secrets.values()),
        *fingerprints,
    ):
        assert secret not in caplog.text
        assert secret.encode() not in heard
    assert "hemlock" not in caplog.text
    assert b"Traceback" not in heard
    assert len(caplog.records) > 50
