"""Chat, streams and WebSockets through nginx and Caddy with the files of `examples/deploy`: `nox -s proxies`.

Not collected by the usual run, whose machine may have neither program.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio_websocket import ConnectionClosed, open_websocket_url

from ccm.http import Keys
from tests.http.process import Server, ask, serving

DEPLOY = Path(__file__).parent.parent.parent / "examples" / "deploy"
PATIENCE = 20.0
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1; user {user};
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {folder}/ccm.conf;
}}
"""


@attrs.frozen
class Site:
    """A server behind a proxy, and the key that it wants."""

    server: Server
    port: int
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def nginx(folder: Path, port: int, behind: int) -> list[str]:
    """The command; of the file, only the addresses and the certificate are not as shipped."""
    shipped = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    edited = shipped.replace("127.0.0.1:8000", f"127.0.0.1:{behind}")
    edited = edited.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};").replace("chat.example.org;", "_;")
    edited = re.sub(r"^\s*ssl_certificate.*\n", "", edited, flags=re.MULTILINE)
    (folder / "ccm.conf").write_text(edited, encoding="utf-8")
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, user=user), encoding="utf-8")
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert program, "needs the program nginx"
    return [program, "-e", str(folder / "early.log"), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, behind: int) -> list[str]:
    """The same for Caddy."""
    shipped = (DEPLOY / "Caddyfile").read_text(encoding="utf-8")
    edited = shipped.replace("127.0.0.1:8000", f"127.0.0.1:{behind}")
    edited = edited.replace("chat.example.org {", f"http://127.0.0.1:{port} {{")
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + edited, encoding="utf-8")
    program = shutil.which("caddy")
    assert program, "needs the program caddy"
    return [program, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)


@contextmanager
def proxied(make: Any, folder: Path, server: Server) -> Iterator[int]:
    """A proxy in front of the server; yields its port."""
    port, log = free_port(), folder / "proxy.log"
    with log.open("wb") as out:
        process = subprocess.Popen(make(folder, port, server.port), stdout=out, stderr=out, cwd=folder)
        try:
            wait_for(port, process, log)
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE)


@pytest.fixture(params=[nginx, caddy], ids=["nginx", "caddy"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    secret, key = Keys.make("tester", ["admin"])
    Keys([key]).save(tmp_path / "keys.toml")
    options = ("--keys", "keys.toml", "--pace", "0.05", "--rate", "0")
    with serving(tmp_path, *options) as server, proxied(request.param, tmp_path, server) as port:
        yield Site(server, port, secret)


def test_chat(site: Site) -> None:
    body = {"user": "ada", "text": "my name is Ada"}
    status, answer = ask(site.port, "POST", "/api/v1/chat", body, site.headers)
    assert status == 200
    assert "Ada" in answer["reply"]
    assert ask(site.port, "POST", "/api/v1/chat", body)[0] == 401
    assert ask(site.port, "GET", "/healthz")[0] == 200
    assert ask(site.port, "GET", "/")[0] == 200


def test_what_the_proxy_refuses(site: Site) -> None:
    assert ask(site.port, "GET", "/metrics", headers=site.headers)[0] == 403
    body = {"user": "ada", "text": "x" * 70_000}
    assert ask(site.port, "POST", "/api/v1/chat", body, site.headers)[0] == 413


def events(site: Site, text: str) -> Iterator[tuple[float, str, Any]]:
    """The events of a streamed reply, each with the time of its arrival."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE)
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"} | site.headers
    connection.request("POST", "/api/v1/chat", json.dumps({"user": "ada", "text": text}), headers)
    response = connection.getresponse()
    assert response.status == 200
    name = ""
    while line := response.readline().decode().rstrip("\n"):
        pass
    while raw := response.readline():
        line = raw.decode().rstrip("\r\n")
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            yield time.monotonic(), name, json.loads(line[5:])
    connection.close()


def test_a_streamed_reply_is_handed_on_piece_by_piece(site: Site) -> None:
    found = list(events(site, "count to 20"))
    pieces = [(at, data["text"]) for at, name, data in found if name == "piece"]
    _, name, outcome = found[-1]
    assert name == "outcome"
    assert outcome["reply"] == "".join(text for _, text in pieces)
    assert len(pieces) == 20
    # Written at 0.05 s a word: what is held back until the end comes all at once.
    assert pieces[-1][0] - pieces[0][0] > 0.5
    assert max(later - sooner for (sooner, _), (later, _) in itertools.pairwise(pieces)) < 0.5


async def chat_by_socket(site: Site, text: str, *, stop: bool = False) -> tuple[list[float], str, int | None]:
    """Say something over a WebSocket: when its pieces came, the reply, and how the socket was closed."""
    secret = base64.urlsafe_b64encode(site.key.encode()).decode().rstrip("=")
    times: list[float] = []
    reply, code = "", None
    with trio.fail_after(PATIENCE):
        async with open_websocket_url(
            f"ws://127.0.0.1:{site.port}/api/v1/ws", subprotocols=["ccm.v1", f"key.{secret}"],
            extra_headers=[(b"Origin", f"http://127.0.0.1:{site.port}".encode())],
        ) as ws:  # fmt: skip
            assert ws.subprotocol == "ccm.v1"
            await ws.send_message(json.dumps({"type": "hello"}))
            await ws.send_message(json.dumps({"type": "message", "ref": "1", "user": "ada", "text": text}))
            try:
                while True:
                    frame = json.loads(await ws.get_message())
                    if frame["type"] == "piece":
                        times.append(trio.current_time())
                        if stop and len(times) == 1:
                            site.server.process.terminate()
                    if frame["type"] == "outcome":
                        reply = frame["reply"]
                        if not stop:
                            break
            except ConnectionClosed as closed:
                code = closed.reason.code if closed.reason is not None else None
        # Closed by the other side, the library leaves its socket to the garbage collector.
        await ws._stream.aclose()
    return times, reply, code


def test_a_websocket(site: Site) -> None:
    times, reply, _ = trio.run(chat_by_socket, site, "count to 15")
    assert reply.endswith("14, 15.")
    assert len(times) == 15
    assert times[-1] - times[0] > 0.4


def test_a_shutdown_reaches_the_client_in_order(site: Site) -> None:
    async def program() -> tuple[list[float], str, int | None]:
        return await chat_by_socket(site, "count to 10", stop=True)

    times, reply, code = trio.run(program)
    assert reply.endswith("9, 10."), "what was running is answered"
    assert len(times) == 10
    assert code == 1001
    assert site.server.process.wait(PATIENCE) == 0


def test_the_unit_is_sound(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not there")
    unit = tmp_path / "ccm.service"
    shipped = (DEPLOY / "ccm.service").read_text(encoding="utf-8")
    unit.write_text(shipped.replace("/opt/ccm/bin/ccm serve", "/bin/true serve"), encoding="utf-8")
    done = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
