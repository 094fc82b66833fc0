"""SIGTERM and SIGINT: the first begins the shutdown, the second ends the process, and so does the clock.

Trio's own receiver tells a task, and a task of a run that hangs is told nothing. So the handler itself
starts the watchdog, which is a thread, and ends the process at the second signal.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn, Self, final

import trio

LATE = 70  # exit code of the watchdog: EX_SOFTWARE of sysexits.h
_OVERTIME = 1.0  # seconds after the drain's deadline
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@final
class Signals:
    """Handlers for both signals while the block runs. Only in the main thread.

    Args:
        stays: whether the watchdog, once it has been started, outlives the block.

    Attributes:
        starting: a scope around the start: the first signal cancels it, until somebody waits.
        drain: seconds that the shutdown may take.
    """

    def __init__(self, *, stays: bool) -> None:
        self.starting = trio.CancelScope()
        self.drain = 0.0
        self._stays = stays
        self._came = trio.Event()
        self._waiting = False
        self._over = threading.Event()
        self._count = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._token = trio.lowlevel.current_trio_token()
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._stays:
            self._over.set()
        if not (self._stays and self._count):  # else a signal during the exit still ends it
            for number, before in self._before.items():
                signal.signal(number, before)

    async def wait(self) -> None:
        """Wait for the first signal."""
        self._waiting = True
        await self._came.wait()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            _end(128 + number, b"ccm: second signal, ended at once\n")
        threading.Thread(target=self._watch, name="ccm watchdog", daemon=True).start()
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._first)

    def _first(self) -> None:
        self._came.set()
        if not self._waiting:
            self.starting.cancel()

    def _watch(self) -> None:
        if not self._over.wait(self.drain + _OVERTIME):
            # The places of all threads, without values: what people wrote is not among them.
            faulthandler.dump_traceback(sys.__stderr__ or 2)
            _end(LATE, b"ccm: the shutdown took too long, ended at once\n")


def _end(code: int, words: bytes) -> NoReturn:
    # No buffer, no lock, no exit handler: any of them may be what hangs.
    try:
        os.write(2, words)
    finally:
        os._exit(code)
