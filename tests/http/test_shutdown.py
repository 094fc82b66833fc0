"""SIGTERM and SIGINT to a real process: turns finish, streams say farewell, code 0; or the hard end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import trio

from ccm.http._signals import Signals

from .exits import DRAIN, KINDS, LATE, MARGIN, bot, check
from .raw import closes, connect, read_all, request, statuses, upgrade


@pytest.mark.parametrize("handler", [kind for kind in KINDS if kind != "thread"])  # see the watchdog's test
def test_clients_that_never_read_and_handlers_that_hang_do_not_hold_the_end_up(handler: str) -> None:
    assert check(handler) is None


def test_the_end_in_order(tmp_path: Path) -> None:
    """One bot, its whole end: seen from a probe, a stream, a WebSocket and a turn in work."""
    file = tmp_path / "bot.db"
    with (
        bot("takes", 3, str(file)) as running,
        connect(running.port) as stream,
        connect(running.port) as socket,
    ):
        stream.sendall(request("GET", "/api/test/stream"))
        socket.sendall(upgrade())
        assert statuses(stream.recv(4096)) == [200]
        assert statuses(socket.recv(4096)) == [101]
        assert statuses(running.get("/api/test/submit")) == [200]
        running.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        time.sleep(0.2)
        assert statuses(running.get("/api/test/submit")) == [503]  # still served, and refused: it drains
        heard = read_all(stream), read_all(socket)
        took = time.monotonic() - began
        assert 0.5 < took < 2.5  # the turn takes a second, and not the three it might
        assert b"event: farewell" in heard[0]
        assert heard[0].endswith(b"0\r\n\r\n")  # in whole, not cut
        assert closes(b"\r\n\r\n" + heard[1]) == [1001]
        assert running.process.wait(5) == 0
    assert file.exists()
    assert not Path(f"{file}-wal").exists()  # the storage was closed


def test_a_second_signal_ends_it_at_once() -> None:
    with bot("hangs", 30) as running:
        assert statuses(running.get("/api/test/submit")) == [200]
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        seconds, code = running.end(signal.SIGINT)
        assert seconds < MARGIN
        assert code == 128 + signal.SIGINT
        assert running.process.stderr is not None
        assert "second signal" in running.process.stderr.read()


def test_the_watchdog_says_where_it_hangs() -> None:
    with bot("thread") as running:
        assert statuses(running.get("/api/test/submit")) == [200]
        seconds, code = running.end()
        assert DRAIN + 1 <= seconds < DRAIN + 1 + MARGIN
        assert code == LATE
        assert running.process.stderr is not None
        errors = running.process.stderr.read()
    assert "took too long" in errors
    assert "trio/_threads.py" in errors


def test_an_idle_one_ends_at_once() -> None:
    with bot("echo", 30) as running:
        seconds, code = running.end(signal.SIGINT)
        assert seconds < MARGIN
        assert code == 0


def test_a_signal_while_it_starts_ends_the_start() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def main() -> None:
        with Signals(stays=False) as signals, signals.starting:
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.sleep_forever()
        assert signals.starting.cancelled_caught

    trio.run(main)
    assert signal.getsignal(signal.SIGTERM) is before
