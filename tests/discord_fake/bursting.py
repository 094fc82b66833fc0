"""A fake Discord in a process of its own, which takes no time from its client: `open_burster`.

The child, `python -m tests.discord_fake.bursting INTERVAL`, first writes where it is. Told a number, it has
so many messages said at once, and answers when all of them are in its queue. At the end of its input it
writes what it has seen, and ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, final

import trio

from .fake import open_fake
from .sessions import Link

HEARTBEAT = 1
PATIENCE = 30.0
"""Seconds beyond 1.5 intervals for which the server bears a silent client: the test sees whether it beats."""


@final
class Burster:
    """The child, seen from its parent; times are those of `time.monotonic`, which all processes share.

    Attributes:
        api_url: where it is.
    """

    def __init__(self, child: trio.Process) -> None:
        assert child.stdin is not None
        assert child.stdout is not None
        self.api_url = ""
        self._in, self._out = child.stdin, child.stdout
        self._rest = b""

    async def line(self) -> Any:
        """What the child says next."""
        while b"\n" not in self._rest:
            data = await self._out.receive_some(65_536)
            assert data, "the fake Discord has ended"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    async def burst(self, count: int) -> float:
        """Have messages `"0"`, `"1"`, ... said at once; returns when that was done."""
        await self._in.send_all(b"%d\n" % count)
        return float(await self.line())

    async def seen(self) -> dict[str, Any]:
        """End it: `beats`, when heartbeats arrived, `links`, how many connections there were."""
        await self._in.aclose()
        found: dict[str, Any] = await self.line()
        return found


@asynccontextmanager
async def open_burster(interval: float) -> AsyncIterator[Burster]:
    """A fake Discord in a process of its own, whose clients are to beat every `interval` seconds."""
    command = [sys.executable, "-m", "tests.discord_fake.bursting", str(interval)]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=False)
        child: trio.Process = await nursery.start(run)
        burster = Burster(child)
        with trio.fail_after(30):
            burster.api_url = await burster.line()
        yield burster
        nursery.cancel_scope.cancel()


async def serve(interval: float) -> None:
    """What the child does."""
    beats: list[float] = []
    receive = Link.receive

    def noting(link: Link, data: str | bytes, now: float) -> None:
        receive(link, data, now)
        if link.heard[-1][0] == HEARTBEAT:
            beats.append(time.monotonic())

    Link.receive = noting  # type: ignore[method-assign, assignment]
    async with open_fake(heartbeat_interval=interval, patience=PATIENCE) as fake:
        print(json.dumps(fake.api_url), flush=True)
        while count := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            for number in range(int(count)):
                fake.world.say(str(number))
            print(json.dumps(time.monotonic()), flush=True)
        print(json.dumps({"beats": beats, "links": len(fake.hub.links)}), flush=True)


if __name__ == "__main__":
    trio.run(serve, float(sys.argv[1]))
