"""What clients send that mean harm, or are broken: each gets a status or a close, and the server goes on."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import attrs
import pytest
import trio

from ccm.http import Settings

from . import endpoints
from .live import Live, in_thread
from .raw import closes, connect, frame, post, read_all, request, statuses, talk, upgrade

SETTINGS = Settings(rate=None, header_timeout=0.3, body_timeout=0.3, write_timeout=1, max_body=65536)
CL, TE = "Content-Length: 2", "Transfer-Encoding: chunked"
SLOW_HEADERS: list[bytes | float] = [0.1, b"X: 1\r\n"] * 20
SLOW_BODY: list[bytes | float] = [0.05, b" "] * 20
SMUGGLED = b"GET /api/test/caller HTTP/1.1\r\nHost: localhost\r\n\r\n"
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
NO_KEY = request("GET", "/api/test/ws", "Upgrade: websocket", "Connection: upgrade")
TEXT = request("POST", "/api/test/echo", CL, "Content-Type: text/plain", body=b"{}")
FOREIGN = upgrade("/api/test/ws", "Origin: https://evil.example")
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


def bomb() -> bytes:
    """10 MB of zeros, compressed as a WebSocket frame would be."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(b"0" * 10_000_000) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


@attrs.frozen
class Case:
    """Pieces that are sent; the statuses that may come back, in order; () is a close without a word."""

    name: str
    pieces: tuple[bytes | float, ...]
    answers: tuple[tuple[int, ...], ...]
    half_close: bool = False


def to_echo(*lines: str, body: bytes = b"") -> bytes:
    return request("POST", "/api/test/echo", "Content-Type: application/json", *lines, body=body)


CHUNKED = to_echo(TE)


def case(
    name: str, *pieces: bytes | float, to: tuple[int, ...] | list[tuple[int, ...]], **more: bool
) -> Case:
    return Case(name, pieces, tuple(to) if isinstance(to, list) else (to,), **more)


CASES = [
    # Two readers, two opinions where a request ends.
    case("length and chunks", to_echo(CL, TE, body=b"0\r\n\r\n"), to=(400,)),
    case("chunks and length", to_echo(TE, CL, body=b"0\r\n\r\n"), to=(400,)),
    case(
        "a request inside of a body",
        to_echo(CL, TE, body=b"0\r\n\r\n" + SMUGGLED).replace(b"close", b"Keep"),
        to=[(), (400,)],
    ),
    case("a request after the last one", request() + SMUGGLED, to=[(), (200,), (400,)]),
    case("two lengths", to_echo(CL, "Content-Length: 5", body=b"{}"), to=(400,)),
    case("two lengths in one", to_echo("Content-Length: 2, 5", body=b"{}"), to=(400,)),
    case("a negative length", to_echo("Content-Length: -2"), to=(400,)),
    case("a length with a plus", to_echo("Content-Length: +2", body=b"{}"), to=(400,)),
    case("a length in hexadecimal", to_echo("Content-Length: 0x2"), to=(400,)),
    case("an endless length", to_echo("Content-Length: " + "9" * 30), to=(400, 413)),
    case("chunks, twice", to_echo(TE, TE, body=b"0\r\n\r\n"), to=(400, 501)),
    case("chunks, misspelled", to_echo("Transfer-Encoding: xchunked"), to=(400, 501)),
    case("chunks with a space", to_echo("Transfer-Encoding : chunked"), to=(400,)),
    case("a chunk without a size", CHUNKED, b"zz\r\n{}\r\n0\r\n\r\n", to=(400,)),
    case("a negative chunk", CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n", to=(400,)),
    case("a chunk longer than it says", CHUNKED, b"2\r\n{}garbage\r\n0\r\n\r\n", to=(400,)),
    case("a chunk of 2^64", CHUNKED, b"ffffffffffffffffff\r\n{}", to=(400, 408, 413)),
    # Lines.
    case("bare LF", b"GET /openapi.json HTTP/1.1\nHost: localhost\nConnection: close\n\n", to=(200, 400)),
    case("bare CR", b"GET /openapi.json HTTP/1.1\rHost: localhost\r\r", to=[(), (400,)]),
    case("a folded header", request("GET", "/openapi.json", "X-A: 1\r\n 2"), to=(200, 400)),
    case("a folded host", b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n .evil\r\n\r\n", to=(400, 421)),
    case("a header without a colon", request("GET", "/openapi.json", "garbage"), to=(400,)),
    case("a header without a name", request("GET", "/openapi.json", ": x"), to=(400,)),
    case("NUL in a header", request("GET", "/openapi.json", "X-A: a\0b"), to=(400,)),
    case("NUL in the path", request("GET", "/open\0api"), to=(400,)),
    case("NUL in the path, in percent", request("GET", "/%00"), to=(400,)),
    case("bad UTF-8 in the path", request("GET", "/%ff%fe"), to=(400,)),
    case("half a percent in the path", request("GET", "/%f"), to=(400,)),
    case("bad UTF-8 in the query", request("GET", "/api/test/caller?kind=%ff%fe&%f"), to=(200,)),
    case("a space in the target", request("GET", "/a b"), to=(400,)),
    case("nothing but new lines", b"\r\n" * 4, to=[(), (400,)]),
    case("nothing", b"", to=(), half_close=True),
    case("garbage", bytes(range(128, 256)) * 3 + b"\r\n\r\n", to=(400,)),
    case("a TLS hello", bytes.fromhex("16030100750100007103") + b"\0" * 112, to=[(), (400,)]),
    # Methods, versions, targets, hosts.
    case("an unknown method", request("BREW", "/openapi.json"), to=(405,)),
    case("TRACE", request("TRACE", "/openapi.json", "Cookie: secret"), to=(405,)),
    case("CONNECT", b"CONNECT evil:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", to=(400, 405)),
    case("a target of elsewhere", request("GET", "http://evil.example/"), to=(400,)),
    case("HTTP/0.9", b"GET /\r\n\r\n", to=(400,)),
    case("HTTP/9.9", b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", to=(400, 505)),
    case("HTTP/1.0 without a host", b"GET /openapi.json HTTP/1.0\r\n\r\n", to=(421,)),
    case("no host", request(host=None), to=(400,)),
    case("two hosts", request("GET", "/openapi.json", "Host: evil.example"), to=(400,)),
    case("a foreign host", request(host="evil.example"), to=(421,)),
    case("a host that begins like ours", request(host="localhost.evil.example"), to=(421,)),
    case("a host with a user", request(host="localhost@evil.example"), to=(400, 421)),
    case("a host that looks like ours", request(host="127.0.0.1.evil.example"), to=(421,)),
    case("HTTP/2 at once", HTTP2, 0.1, to=(), half_close=True),
    # Too much.
    case("a huge header", request("GET", "/openapi.json", "X-A: " + "a" * 20_000), to=(431,)),
    case("an endless header", b"GET / HTTP/1.1\r\nX-A: " + b"a" * 200_000, to=(431,)),
    case("an endless target", b"GET /" + b"a" * 200_000, to=(431,)),
    case("many headers", request("GET", "/openapi.json", *[f"X-{n}: 1" for n in range(150)]), to=(431,)),
    case("a huge body", post(b'"' + b"a" * 70_000 + b'"'), to=(413,)),
    case("a huge body in chunks", CHUNKED, (b"8000\r\n" + b" " * 0x8000 + b"\r\n") * 4, to=(413,)),
    case("deep JSON", post(b"[" * 30_000 + b"]" * 30_000), to=(400,)),
    case("deep JSON in a string is none", post(b'"' + b"[" * 30_000 + b'"'), to=(200,)),
    case("deep JSON behind a quote", post(b'["\\"",' + b"[" * 40 + b"]" * 41), to=(400,)),
    case("a number of 60,000 digits", post(b"1" * 60_000), to=(400, 422)),
    case("not a number", post(b'{"a": NaN}'), to=(400,)),
    case("half of a character", post(b'{"a": "\\ud800"}'), to=(400,)),
    case("bad UTF-8", post(b'{"a": "\xff"}'), to=(400, 422)),
    case("JSON that is none", post(b"{"), to=(422,)),
    case("a body of another type", TEXT, to=(415,)),
    case("a compressed body", post(zlib.compress(b"{}"), "Content-Encoding: deflate"), to=(415,)),
    # Too slow.
    case("no request", 3.0, to=()),
    case("slow headers", b"GET / HTTP/1.1\r\n", *SLOW_HEADERS, to=()),
    case("a slow body", post(b"{}")[:-1], 3.0, to=(408,)),
    case("a trickling body", post(b"{" + b" " * 40)[:-40], *SLOW_BODY, to=(408,)),
    case("half a body, then an end", post(b'{"a": 1}')[:-4], to=[(), (400,)], half_close=True),
    case("a request, then an end", request(), to=[(), (200,)], half_close=True),
    case("half a header, then an end", b"GET / HTTP/1.1\r\nHo", to=[(), (400,)], half_close=True),
    case("pipelined", SMUGGLED * 2 + request(), to=[(200, 200, 200)]),
    # WebSockets.
    case("an upgrade of another version", upgrade(version=12), 0.2, to=(400,)),
    case("an upgrade without a key", NO_KEY, 0.2, to=(400, 404)),
    case("an upgrade to nothing", upgrade("/api/test/none"), 0.2, to=(403, 404)),
    case("an upgrade of a foreign page", FOREIGN, 0.2, to=(403,)),
    case("an upgrade by POST", request("POST", "/api/test/ws", "Upgrade: websocket"), 0.2, to=(404, 405)),
]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    with in_thread(settings=SETTINGS, routes=endpoints.router) as live:
        yield live


def healthy(server: Live) -> None:
    """It answers, and nothing was left inside."""
    assert statuses(talk(server.port, request("GET", "/api/test/caller"))) == [200]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_it_is_refused_and_the_server_goes_on(server: Live, case: Case) -> None:
    data = talk(server.port, *case.pieces, half_close=case.half_close)
    found = tuple(statuses(data))
    assert found in case.answers or (
        len(found) == 1 and any(found[0] in allowed for allowed in case.answers)
    ), data
    assert b"evil" not in data
    healthy(server)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


WEBSOCKET = [
    ("a big frame", "", frame(b"x" * 70_000), 1009),
    ("a big message in small frames", "", frame(b"x" * 40_000, fin=False) + frame(b"x" * 40_000, 0), 1009),
    ("a compressed bomb", DEFLATE, frame(bomb(), rsv1=True), 1002),
    ("bad UTF-8", "", frame(b"\xff\xfe"), 1007),
    ("no mask", "", frame(b"hello", masked=False), 1002),
    ("an unknown opcode", "", frame(b"hello", 5), 1002),
    ("a long ping", "", frame(b"x" * 200, 9), 1002),
    ("a continuation of nothing", "", frame(b"x", 0), 1002),
]


@pytest.mark.parametrize(("name", "line", "data", "code"), WEBSOCKET, ids=lambda value: str(value)[:30])
def test_a_bad_frame_closes_the_websocket(server: Live, name: str, line: str, data: bytes, code: int) -> None:
    with connect(server.port) as sock:
        sock.sendall(upgrade("/api/test/ws", *filter(None, [line])))
        head = sock.recv(4096)
        assert statuses(head) == [101], head
        assert b"permessage" not in head
        sock.sendall(data)
        assert closes(b"\r\n\r\n" + read_all(sock)) in ([code], [])  # or the connection is cut
    healthy(server)


@pytest.mark.parametrize(
    ("hello", "word"),
    [(request("GET", "/api/test/stream?kind=flood"), "stream"), (upgrade("/api/test/ws?kind=flood"), "ws")],
    ids=["stream", "websocket"],
)
def test_a_client_that_never_reads_is_cut_off(server: Live, hello: bytes, word: str) -> None:
    endpoints.LOG.events.clear()
    with connect(server.port, receive_buffer=4096) as sock:
        sock.sendall(hello)
        for _ in range(400):
            if f"{word} ended" in endpoints.LOG.events:
                break
            server.call(pause)
        assert endpoints.LOG.events == [f"{word} began", f"{word} ended"]
    healthy(server)


def test_an_endpoint_that_only_sends_does_not_keep_the_others_from_running() -> None:
    endpoints.LOG.events.clear()
    with in_thread(settings=SETTINGS, routes=endpoints.router) as server:
        with connect(server.port) as sock:
            sock.sendall(upgrade("/api/test/ws?kind=rude"))
            assert sock.recv(65536)
        for _ in range(3):
            healthy(server)
    assert endpoints.LOG.events == ["ws began", "ws ended"]


async def pause() -> None:
    await trio.sleep(0.01)
