"""Ends of a process with clients that never read and handlers that hang: `python -m tests.http.exits`.

Each is told to end by SIGTERM and must be gone within its deadline and a second; with code 0 where nothing
hangs for good, else with the watchdog's.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import attrs

from .raw import connect, request, statuses, talk, upgrade

DRAIN = 0.5
LATE = 70
MARGIN = 1.0  # seconds: a busy machine, and the interpreter's own end


@attrs.frozen
class Bot:
    """A process that serves."""

    process: subprocess.Popen[str]
    port: int

    def get(self, path: str) -> bytes:
        return talk(self.port, request("GET", path))

    def end(self, number: int = signal.SIGTERM) -> tuple[float, int]:
        """Send a signal; seconds until it was gone, and its exit code."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(30)
        return time.monotonic() - began, code


@contextmanager
def bot(handler: str, drain: float = DRAIN, storage: str = "") -> Iterator[Bot]:
    """A bot that is killed when the block is left, if it lives."""
    command = [sys.executable, "-m", "tests.http.bot", handler, str(drain), storage]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            yield Bot(process, urlsplit(url).port or 0)
        finally:
            process.kill()


def one(handler: str) -> tuple[float, int]:
    """A bot with two clients that never read, two that say nothing, and a message in its handler."""
    with bot(handler) as running, ExitStack() as open_:
        for hello in (
            request("GET", "/api/test/stream?kind=flood"), upgrade("/api/test/ws?kind=flood"),
            request("GET", "/api/test/stream"), upgrade("/api/test/ws"),
        ):  # fmt: skip
            sock = open_.enter_context(connect(running.port, receive_buffer=4096))
            sock.sendall(hello)
        open_.enter_context(connect(running.port))
        if handler == "blocks":
            open_.enter_context(connect(running.port)).sendall(request("GET", "/api/test/submit"))
            time.sleep(0.3)
        else:
            assert statuses(running.get("/api/test/submit")) == [200]
        return running.end()


KINDS = {"echo": 0, "hangs": LATE, "thread": LATE, "blocks": LATE, "leaves": LATE}


def check(handler: str) -> str | None:
    """None, or what went wrong."""
    seconds, code = one(handler)
    if code != KINDS[handler] or seconds > DRAIN + 1 + MARGIN:
        return f"{handler}: {seconds:.2f} s, code {code}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    times = parser.parse_args().times
    wrong = []
    for number in range(times):
        handler = list(KINDS)[number % len(KINDS)]
        if (failure := check(handler)) is not None:
            wrong.append(failure)
    print(f"{times - len(wrong)} of {times} exits in time", *wrong, sep="\n")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
