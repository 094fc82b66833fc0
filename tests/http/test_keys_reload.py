"""Keys that change while a server runs: new ones work, revoked ones stop, a broken file changes nothing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from ccm.http import Keys, Settings
from ccm.http._events import KEEP_ALIVE
from ccm.http._reload import _look

from .live import Live, here
from .process import TIMEOUT, Server, serving
from .raw import connect, request
from .test_socket import CONFIG, hang


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def status(server: Server, secret: str) -> int:
    return server.request("GET", "/api/v1/statistics", headers={"X-Api-Key": secret})[0]


def test_a_running_server_follows_its_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    (old, first), (new, second) = Keys.make("old", "read"), Keys.make("new", "read")
    Keys([first]).save(path)
    with serving(tmp_path, "--keys", "keys.toml", "--rate", "0", "--log-level", "info") as server:
        assert (status(server, old), status(server, new)) == (200, 401)
        with connect(server.port) as stream:
            stream.sendall(request("GET", "/api/v1/events", f"X-Api-Key: {old}"))
            assert b" 200 " in stream.recv(65536)
            Keys([second]).save(path)
            until(lambda: status(server, new) == 200)
            assert status(server, old) == 401
            stream.settimeout(KEEP_ALIVE / 3)  # silence is not its end
            while stream.recv(65536):
                pass
        path.write_text("[[key]]\nid = 1\n")
        until(lambda: any("not read again" in line for line in server.errors))
        assert (status(server, old), status(server, new)) == (401, 200)
        path.unlink()
        until(lambda: sum("not read again" in line for line in server.errors) == 2)
        assert status(server, new) == 200
        Keys([first]).save(path)
        until(lambda: status(server, old) == 200)
        assert status(server, new) == 401
        assert server.stop() == 0
    log = "".join(server.errors)
    assert "a file that `ccm keys` wrote" in log
    assert "revoked or changed: 'old'" in log
    assert old not in log
    assert new not in log


async def socket_of(live: Live, secret: str, nursery: trio.Nursery) -> WebSocketConnection:
    """A WebSocket that has said hello, until the nursery is cancelled."""

    async def hold(task_status: trio.TaskStatus[WebSocketConnection]) -> None:  # noqa: ASYNC114
        url = live.url.replace("http", "ws", 1) + "/api/v1/ws"
        headers = [(b"authorization", f"Bearer {secret}".encode())]
        async with open_websocket_url(url, extra_headers=headers, disconnect_timeout=1) as socket:
            await socket.send_message('{"type": "hello"}')
            assert json.loads(await socket.get_message())["type"] == "welcome"
            task_status.started(socket)
            try:
                await trio.sleep_forever()
            finally:
                await socket._stream.aclose()

    found: WebSocketConnection = await nursery.start(hold)
    return found


@pytest.mark.trio
async def test_a_socket_ends_with_its_key_and_others_stay() -> None:
    (secret, key), (kept, other) = Keys.make("ada", "chat"), Keys.make("bob", "chat")
    settings = Settings(keys=Keys([key, other]), rate=None)
    async with here(hang, settings, config=CONFIG) as live, trio.open_nursery() as nursery:
        ada, bob = await socket_of(live, secret, nursery), await socket_of(live, kept, nursery)
        said = {"type": "message", "user": "ada", "text": "hello", "conversation": "c"}
        await ada.send_message(json.dumps(said))
        while json.loads(await ada.get_message())["type"] != "receipt":
            pass
        _, anew = Keys.make("ada", "chat")  # the same name and rights, another key
        live.front.replace_keys(Keys([anew, other]))
        with trio.fail_after(10):
            code = 0
            while not code:
                try:
                    await ada.get_message()
                except ConnectionClosed as closed:
                    code = 0 if closed.reason is None else int(closed.reason.code)
            assert code == 1008
            await live.manager.wait_idle()  # its turn is cancelled
            await bob.send_message('{"type": "ping"}')
            assert json.loads(await bob.get_message())["type"] == "pong"
        assert live.manager.statistics().outcomes["cancelled"] == 1
        nursery.cancel_scope.cancel()


def test_a_look_reads_only_what_has_changed_and_says_once_why_not(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    _, key = Keys.make("a")
    Keys([key]).save(path)
    keys = Keys.load(path)
    assert _look(path, keys.stamp) == (keys.stamp, None)
    path.chmod(0o660)
    seen, why = _look(path, keys.stamp)
    assert "chmod 600" in str(why)
    assert _look(path, seen) == (seen, None)
    path.chmod(0o600)
    seen, found = _look(path, seen)
    assert isinstance(found, Keys)
    assert list(found) == [key]
    os.utime(path, ns=(1, 1))
    assert isinstance(_look(path, seen)[1], Keys)
    path.unlink()
    seen, why = _look(path, seen)
    assert seen is None
    assert "keys.toml" in str(why)
    assert _look(path, None) == (None, None)


def test_a_key_that_somebody_pasted_into_the_file_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    secret, _ = Keys.make("a")
    path.write_text(f'[[key]]\nid = "{secret}"\nname = "n"\nscopes = ["chat"]\nsha256 = "{"1" * 64}"\n')
    path.chmod(0o600)
    _, why = _look(path, None)
    assert "ccm_..." in str(why)
    assert secret not in str(why)
