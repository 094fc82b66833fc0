"""A bot in a process of its own, for tests of its end: `python -m tests.http.bot HANDLER [DRAIN]`.

It prints its URL, then what it logs. Handlers: "echo"; "takes", a second per message; "hangs" behind a
shield; "thread", in one that nobody can end; "blocks", the whole run; "leaves" a thread that keeps the
process alive.
"""

from __future__ import annotations

import functools
import logging
import sys
import threading
import time
from pathlib import Path
from typing import Any

import trio

import ccm
from ccm.http import Settings, run

from . import endpoints
from .live import echo


async def takes(turn: ccm.Turn) -> str:
    await trio.sleep(1)
    return "done"


async def hangs(turn: ccm.Turn) -> str:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()
    return ""


async def thread(turn: ccm.Turn) -> str:
    await trio.to_thread.run_sync(time.sleep, 60)
    return ""


async def blocks(turn: ccm.Turn) -> str:
    time.sleep(60)  # noqa: ASYNC251
    return ""


async def leaves(turn: ccm.Turn) -> str:
    threading.Thread(target=time.sleep, args=(60,), daemon=False).start()
    return ""


HANDLERS = {f.__name__: f for f in (echo, takes, hangs, thread, blocks, leaves)}


def main(handler: str, drain: str = "0.5", storage: str = "") -> None:
    logging.basicConfig(level=logging.INFO)

    def prepare(app: Any) -> None:
        @app.inner.get("/api/test/submit")  # type: ignore[untyped-decorator]
        async def submit() -> Any:
            return (await app.front.manager.submit(ccm.Message("c", "ada", "hello"))).turn_id

        app.inner.include_router(endpoints.router(app.front))

    opening = ccm.open_manager(
        HANDLERS[handler], config=ccm.Config(drain=float(drain)), storage=Path(storage) if storage else None
    )
    print_url = functools.partial(print, flush=True)
    trio.run(functools.partial(run, opening, Settings(port=0, rate=None), prepare=prepare, started=print_url))


if __name__ == "__main__":
    main(*sys.argv[1:])
