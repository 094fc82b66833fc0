"""The guard: pages of strangers, limits, headers, errors; what it lets in and what it refuses."""

from __future__ import annotations

import http.client
import logging
import re
import socket
import time
from collections.abc import Iterator

import pytest
import trio
import trio.testing

import ccm
from ccm.http import Keys, Settings, create_app, serve
from ccm.http._origins import loopback_address, loopback_name

from . import endpoints
from .live import Live, here, in_thread
from .raw import READ, connect, read_all, request, statuses, talk, upgrade

PAGE = "https://chat.example"
SETTINGS = Settings(rate=None, origins=PAGE, max_streams=2, max_connections=6, header_timeout=1)


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with in_thread(settings=SETTINGS, routes=endpoints.router) as live:
        yield live


# -- browsers ------------------------------------------------------------------------------------


def test_every_response_has_the_headers_that_protect_a_page(server: Live) -> None:
    for path in ("/openapi.json", "/api/test/caller", "/none", "/api/test/boom"):
        headers = server.get(path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Server"] is None
    assert server.get("/api/test/caller").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost.evil.example", "https://chat.example.evil", "x"],
)
def test_a_page_of_a_stranger_may_nothing(server: Live, origin: str) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        answer = server.request(method, "/api/test/caller", Origin=origin)
        assert answer.status == 403
        assert answer.json["reason"] == "origin"
        assert answer.headers["Access-Control-Allow-Origin"] is None
    assert statuses(talk(server.port, upgrade("/api/test/ws", f"Origin: {origin}"), 0.3)) == [403]


def test_a_request_that_a_foreign_page_made_without_an_origin_is_refused(server: Live) -> None:
    assert server.get("/api/test/caller", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403
    assert server.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status != 403
    assert server.get("/api/test/caller", Sec_Fetch_Site="same-origin").status == 200


def test_our_own_page_and_those_on_the_list_may(server: Live) -> None:
    own = f"http://127.0.0.1:{server.port}"
    assert server.get("/api/test/caller", Origin=own).status == 200
    answer = server.get("/api/test/caller", Origin=PAGE)
    assert answer.status == 200
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Origin" in answer.headers["Vary"]
    asked = server.request("OPTIONS", "/api/test/echo", Origin=PAGE, Access_Control_Request_Method="POST")
    assert asked.status == 204
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
    assert asked.headers["Access-Control-Allow-Credentials"] is None


def test_head_is_get_without_a_body(server: Live) -> None:
    answer = server.request("HEAD", "/openapi.json")
    assert answer.status == 200
    assert answer.body == b""
    assert int(answer.headers["Content-Length"]) > 0
    assert (
        server.request("HEAD", "/api/test/stream", Accept="text/event-stream").status == 200
    )  # and does not wait for its end
    wait_until(lambda: server.app.streams == 0)


# -- addresses -----------------------------------------------------------------------------------


async def refused(host: str) -> None:
    async with ccm.open_manager(endpoints_handler) as manager:
        with trio.fail_after(2), pytest.raises(ccm.ConfigError, match=r"loopback address.*no keys"):
            await serve(manager, Settings(host=host, port=0))


async def endpoints_handler(turn: ccm.Turn) -> str:
    return ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_keys_it_refuses_to_listen_to_others(host: str) -> None:
    trio.run(refused, host)


def test_with_keys_it_listens_to_others() -> None:
    secret, key = Keys.make("a", ["read"])
    settings = Settings(host="0.0.0.0", keys=Keys([key]), rate=None)
    with in_thread(settings=settings, routes=endpoints.router) as server:
        assert server.get("/api/test/caller", key=secret).status == 200
        assert server.get("/api/test/caller", key=secret, Host="chat.example").status == 200
        assert server.get("/api/test/caller").status == 401


def test_without_keys_a_client_from_elsewhere_is_refused() -> None:
    """Also when another program serves the application."""

    async def main() -> int:
        async with ccm.open_manager(endpoints_handler) as manager:
            sent: list[dict[str, object]] = []

            async def send(message: dict[str, object]) -> None:
                sent.append(message)

            scope = {
                "type": "http", "http_version": "1.1", "method": "GET", "path": "/openapi.json",
                "query_string": b"", "headers": [(b"host", b"localhost")], "client": ("192.0.2.1", 5),
            }  # fmt: skip
            await create_app(manager)(scope, trio.sleep_forever, send)
            return int(str(sent[0]["status"]))

    assert trio.run(main) == 403


def test_which_names_and_addresses_are_this_machine() -> None:
    for good in (b"localhost", b"LOCALHOST:80", b"127.0.0.1:8000", b"127.9.9.9", b"[::1]:1", b"a.localhost"):
        assert loopback_name(good), good
    for bad in (
        None,
        b"",
        b"localhost.",
        b"localhost:x",
        b"127.0.0.1.nip.io",
        b"128.0.0.1",
        b"[::2]",
        b"localhost\n",
    ):
        assert not loopback_name(bad), bad
    assert all(map(loopback_address, ("127.0.0.1", "::1", "::ffff:127.0.0.1", "127.8.8.8", "testclient")))
    assert not any(map(loopback_address, ("0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0")))


# -- limits --------------------------------------------------------------------------------------


def test_a_key_has_its_rate_and_is_told_when_to_come_back() -> None:
    (one, a), (two, b) = Keys.make("one", ["read"]), Keys.make("two", ["read"])
    settings = Settings(keys=Keys([a, b]), rate=ccm.RateLimit(3, per=60))
    with in_thread(settings=settings, routes=endpoints.router) as server:
        assert [server.get("/api/test/caller", key=one).status for _ in range(4)] == [200, 200, 200, 429]
        answer = server.get("/api/test/caller", key=one)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json["reason"] == "rate_limited"
        assert 50 < answer.json["retry_after"] <= 60
        assert int(answer.headers["Retry-After"]) >= answer.json["retry_after"]
        assert server.get("/api/test/caller", key=two).status == 200  # everybody has their own
        assert [server.get("/api/test/caller", key="x").status for _ in range(4)] == [401, 401, 401, 429]
        assert server.get("/api/test/caller", key=two).status == 200  # strangers take nothing from it
        assert statuses(talk(server.port, upgrade("/api/test/ws", f"X-Api-Key: {one}"), 0.2)) == [429]
        assert server.get("/openapi.json").status == 200


def test_streams_are_limited_and_others_get_through(server: Live) -> None:
    with connect(server.port) as first, connect(server.port) as second:
        first.sendall(request("GET", "/api/test/stream", "Accept: text/event-stream"))
        second.sendall(upgrade())
        assert statuses(first.recv(4096) + second.recv(4096)) == [200, 101]
        answer = server.get("/api/v1/none", Accept="text/event-stream")
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert server.get("/api/test/caller").status == 200
    wait_until(lambda: server.app.streams == 0)
    assert server.get("/api/v1/none", Accept="text/event-stream").status == 404


def test_connections_are_limited(server: Live) -> None:
    wait_until(lambda: server.app.requests == 0)
    time.sleep(0.1)
    idle = [connect(server.port) for _ in range(SETTINGS.max_connections + 3)]
    try:
        idle[-1].settimeout(READ)
        assert statuses(read_all(idle[-1])) == [503]
    finally:
        for sock in idle:
            sock.close()
    wait_until(lambda: server.get("/api/test/caller").status == 200)


def test_an_abandoned_request_is_cancelled(server: Live) -> None:
    endpoints.LOG.events.clear()
    with connect(server.port) as sock:
        sock.sendall(request("GET", "/api/test/hang"))
        wait_until(lambda: endpoints.LOG.events == ["hang began"])
    wait_until(lambda: endpoints.LOG.events == ["hang began", "hang ended"])
    wait_until(lambda: server.app.requests == 0)


def test_an_abandoned_request_is_cancelled_behind_another_server_too() -> None:
    endpoints.LOG.events.clear()

    async def main() -> None:
        async def receive() -> dict[str, object]:
            await trio.testing.wait_all_tasks_blocked()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, object]) -> None:
            raise AssertionError(message)

        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "path": "/api/test/hang",
            "query_string": b"", "headers": [(b"host", b"localhost")], "client": None, "root_path": "",
        }  # fmt: skip
        async with ccm.open_manager(endpoints_handler) as manager:
            app = create_app(manager)
            app.inner.include_router(endpoints.router(app.front))
            with trio.fail_after(READ):
                await app(scope, receive, send)
            assert app.requests == 0

    trio.run(main)
    assert endpoints.LOG.events == ["hang began", "hang ended"]


def test_a_connection_is_used_again(server: Live) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=READ)
    used = set()
    for _ in range(5):
        connection.request("GET", "/api/test/caller")
        assert connection.getresponse().read()
        assert isinstance(connection.sock, socket.socket)
        used.add(connection.sock.getsockname())
    connection.close()
    assert len(used) == 1


# -- errors --------------------------------------------------------------------------------------


def test_an_error_is_told_as_a_problem_without_its_text(
    server: Live, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = server.get("/api/test/boom")
        wait_until(lambda: "KeyError" in caplog.text)  # it is logged when the answer is out
    assert answer.status == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert endpoints.SECRET_TEXT not in answer.body.decode()
    assert "endpoints.py" in caplog.text  # where it happened is told
    assert endpoints.SECRET_TEXT not in caplog.text


def test_error_texts_are_logged_when_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with in_thread(settings=Settings(rate=None, log_text=True), routes=endpoints.router) as server:
        server.get("/api/test/boom")
        wait_until(lambda: endpoints.SECRET_TEXT in caplog.text)


def test_the_log_has_routes_and_no_keys_ids_or_queries(caplog: pytest.LogCaptureFixture) -> None:
    secret, key = Keys.make("reader", ["read"])
    settings = Settings(keys=Keys([key]), rate=None)
    with (
        caplog.at_level(logging.DEBUG),
        in_thread(settings=settings, routes=endpoints.router) as server,
    ):
        server.get("/api/test/caller?q=hidden-words", key=secret)
        server.get(f"/{secret}", key=secret)
        server.get("/api/test/caller", key=secret[:-1])
        talk(server.port, request("GET", "/api/test/caller", f"Authorization : Bearer {secret}"))
        talk(server.port, upgrade("/api/test/ws", f"X-Api-Key: {secret}"), b"\xff\xff" + secret.encode(), 0.2)
    assert re.search(r"GET /api/test/caller 200 by 'reader' in [0-9.]+ ms", caplog.text)
    assert secret[:-1] not in caplog.text
    assert secret[13:33] not in caplog.text
    assert "hidden-words" not in caplog.text


def test_the_application_tells_what_is_wrong_with_its_arguments() -> None:
    async def main() -> None:
        async with here() as live:
            with pytest.raises(TypeError, match="settings must be"):
                create_app(live.manager, {"port": 3})  # type: ignore[arg-type]

    trio.run(main)


def wait_until(done: object, seconds: float = READ) -> None:
    """Until it is true; what happens in the server's thread takes real time."""
    assert callable(done)
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def test_the_documentation_is_one_page_of_ours(server: Live) -> None:
    page = server.get("/docs")
    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/html")
    text = page.body.decode()
    assert "/api/test/echo" in text
    assert "<script" not in text
    assert "style=" not in text
    assert re.findall(r'(?:href|src)="(?!/)', text) == []  # nothing from elsewhere
    assert server.get("/docs/style.css").headers["Content-Type"].startswith("text/css")
