"""Bytes to a server and bytes back, without a client library that would be too polite."""

from __future__ import annotations

import base64
import os
import re
import socket
import struct
from contextlib import suppress

READ = 5.0  # seconds until a test gives up


def request(
    method: str = "GET",
    path: str = "/openapi.json",
    *lines: str,
    body: bytes = b"",
    host: str | None = "localhost",
) -> bytes:
    """A request; `lines` are header lines. It asks the server to close."""
    head = [f"{method} {path} HTTP/1.1"]
    if host is not None:
        head.append(f"Host: {host}")
    head += [*lines, "Connection: close", "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def post(body: bytes, *lines: str, path: str = "/api/test/echo") -> bytes:
    """A POST of JSON with its length."""
    return request(
        "POST", path, "Content-Type: application/json", f"Content-Length: {len(body)}", *lines, body=body
    )


def upgrade(path: str = "/api/test/ws", *lines: str, version: int = 13) -> bytes:
    """A WebSocket's handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    head = [
        f"GET {path} HTTP/1.1", "Host: localhost", "Upgrade: websocket", "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}", f"Sec-WebSocket-Version: {version}", *lines, "", "",
    ]  # fmt: skip
    return "\r\n".join(head).encode()


def frame(
    data: bytes, opcode: int = 1, *, fin: bool = True, rsv1: bool = False, masked: bool = True
) -> bytes:
    """A WebSocket frame as a client sends it."""
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    bit = 0x80 if masked else 0
    if len(data) < 126:
        head = struct.pack("!BB", first, bit | len(data))
    elif len(data) < 65536:
        head = struct.pack("!BBH", first, bit | 126, len(data))
    else:
        head = struct.pack("!BBQ", first, bit | 127, len(data))
    return head + (b"\0\0\0\0" if masked else b"") + data  # a mask of zeros leaves the data as it is


def connect(port: int, *, receive_buffer: int | None = None) -> socket.socket:
    """A connection; with a small `receive_buffer` one that is soon full."""
    sock = socket.socket()
    sock.settimeout(READ)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(("127.0.0.1", port))
    return sock


def read_all(sock: socket.socket) -> bytes:
    """Everything until the server closes, or resets. TimeoutError when it does neither."""
    data = b""
    with suppress(ConnectionError):
        while piece := sock.recv(65536):
            data += piece
    return data


def talk(port: int, *pieces: bytes | float, half_close: bool = False) -> bytes:
    """Send pieces (a number is a pause in seconds) and read until the server closes."""
    with connect(port) as sock:
        with suppress(ConnectionError):  # it may refuse before it has read everything
            for piece in pieces:
                if isinstance(piece, bytes):
                    sock.sendall(piece)
                else:
                    sock.settimeout(piece)
                    with suppress(TimeoutError):
                        if first := sock.recv(65536):
                            return first + read_all(sock)
                        return b""
                    sock.settimeout(READ)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
        sock.settimeout(READ)
        return read_all(sock)


def statuses(data: bytes) -> list[int]:
    """The status of each response in it; 100 Continue is none."""
    return [int(code) for code in re.findall(rb"HTTP/1\.1 ([2-5]\d\d|101) ", data)]


def closes(data: bytes) -> list[int]:
    """The codes of the close frames in what a WebSocket received after its handshake."""
    _, _, rest = data.partition(b"\r\n\r\n")
    codes = []
    while len(rest) >= 2:
        opcode, size, start = rest[0] & 0x0F, rest[1] & 0x7F, 2
        if size == 126:
            size, start = struct.unpack("!H", rest[2:4])[0], 4
        elif size == 127:
            size, start = struct.unpack("!Q", rest[2:10])[0], 10
        if opcode == 8:
            codes.append(struct.unpack("!H", rest[start : start + 2])[0] if size >= 2 else 1005)
        rest = rest[start + size :]
    return codes
