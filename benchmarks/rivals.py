"""The same no-op load through other libraries' own dispatch; `python -m benchmarks.rivals NAME N`.

Each runs in a process of its own, on asyncio, with nothing sent anywhere; prints messages per second. Where
the comparison leaves a choice, the one that is faster for the other library is made.
`Any` throughout, so that type checks do not depend on what is installed.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from .workloads import BACKLOG, CONVERSATIONS, USERS

CONCURRENCY = 50
TOKEN = "42:OFFLINE"  # the shape of a token is checked, never its validity
ME = b'{"ok": true, "result": {"id": 42, "is_bot": true, "first_name": "bot", "username": "a_bot"}}'


def _settle() -> None:
    """Keep the garbage collector from walking the updates built beforehand, which weigh more than ours."""
    gc.collect()
    gc.freeze()


class Handled:
    """Counts handled messages and tells when all were; its methods are the no-op handlers."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.all = asyncio.Event()

    async def telegram(self, update: Any, context: Any) -> None:
        self._one()

    async def aiogram(self, message: Any) -> None:
        self._one()

    def _one(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.all.set()


class Offline:
    """What a transport of python-telegram-bot needs to answer the one question asked at the start."""

    read_timeout = 1.0

    async def initialize(self) -> None:
        pass

    async def shutdown(self) -> None:
        pass

    async def do_request(self, url: str, method: str, **_: Any) -> tuple[int, bytes]:
        if not url.endswith("/getMe"):
            raise RuntimeError(f"the benchmark sends nothing, but {url!r} was called")
        return 200, ME


def _transport() -> Any:
    base = importlib.import_module("telegram.request").BaseRequest
    return type("OfflineRequest", (Offline, base), {})()


async def telegram(n: int) -> float:
    """python-telegram-bot: updates put into the application's queue, 50 handled at a time.

    The producer lets the others run when 100 wait, as ours does: a queue of thousands makes it slower.
    """
    tg: Any = importlib.import_module("telegram")
    ext: Any = importlib.import_module("telegram.ext")
    handled = Handled(n)

    bot = ext.ExtBot(TOKEN, request=_transport(), get_updates_request=_transport())
    builder = ext.ApplicationBuilder().bot(bot).updater(None).job_queue(None)
    application = builder.concurrent_updates(CONCURRENCY).build()
    application.add_handler(ext.MessageHandler(ext.filters.ALL, handled.telegram))
    now = datetime.now(UTC)
    updates = [
        tg.Update(i, message=tg.Message(
            i, now, tg.Chat(1 + i % CONVERSATIONS, "group"), text="hello",
            from_user=tg.User(1 + i % USERS, "user", False),
        ))
        for i in range(n)
    ]  # fmt: skip
    async with application:
        await application.start()
        queue = application.update_queue
        _settle()
        start = perf_counter()
        for update in updates:
            await queue.put(update)
            if queue.qsize() >= BACKLOG:
                await asyncio.sleep(0)
        await handled.all.wait()
        elapsed = perf_counter() - start
        await application.stop()
    return n / elapsed


async def aiogram(n: int) -> float:
    """aiogram with one event of a chat at a time, updates fed to its dispatcher by 50 tasks.

    Feeding from a fixed number of tasks costs aiogram less than the task per update of its own polling.
    """
    ag: Any = importlib.import_module("aiogram")
    types: Any = importlib.import_module("aiogram.types")
    isolation: Any = importlib.import_module("aiogram.fsm.storage.memory").SimpleEventIsolation()
    by_chat: Any = importlib.import_module("aiogram.fsm.strategy").FSMStrategy.CHAT
    handled = Handled(n)
    dispatcher = ag.Dispatcher(events_isolation=isolation, fsm_strategy=by_chat)
    dispatcher.message.register(handled.aiogram)
    now = datetime.now(UTC)
    updates = iter([
        types.Update(update_id=i, message=types.Message(
            message_id=i, date=now, text="hello",
            chat=types.Chat(id=1 + i % CONVERSATIONS, type="group"),
            from_user=types.User(id=1 + i % USERS, is_bot=False, first_name="user"),
        ))
        for i in range(n)
    ])  # fmt: skip

    async def feeder() -> None:
        for update in updates:
            await dispatcher.feed_update(bot, update)

    async with ag.Bot(TOKEN) as bot:  # connects when it first sends something, so never
        _settle()
        start = perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(feeder())
        elapsed = perf_counter() - start
    if handled.left:
        raise RuntimeError(f"{handled.left} of {n} updates were not handled")
    return n / elapsed


RIVALS = {"telegram": telegram, "aiogram": aiogram}

if __name__ == "__main__":
    print(asyncio.run(RIVALS[sys.argv[1]](int(sys.argv[2]))))
