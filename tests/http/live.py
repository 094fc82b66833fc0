"""A live front end on a free port: in a thread for tests that block, or in a nursery for those that do not.

with in_thread(handler) as server:
    assert server.get("/healthz").status == 200
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs
import trio

import ccm
from ccm.http import Settings, create_app, serve

T = TypeVar("T")
TIMEOUT = 10.0


async def echo(turn: ccm.Turn) -> str:
    """The handler of tests that want an answer and nothing else."""
    return f"you said: {turn.message.text}"


@attrs.frozen
class Answer:
    """A response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@attrs.define
class Live:
    """A running front end."""

    url: str
    manager: ccm.ConversationManager
    app: Any
    token: trio.lowlevel.TrioToken
    stop: trio.CancelScope

    @property
    def front(self) -> Any:
        return self.app.front

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run an async function beside the server, from another thread, and wait for it."""
        return trio.from_thread.run(function, *args, trio_token=self.token)

    def do(self, function: Callable[..., T], *args: Any) -> T:
        """Run a function in the server's thread."""
        return trio.from_thread.run_sync(function, *args, trio_token=self.token)

    def request(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> Answer:
        """One request on a connection of its own; underscores in names of headers become hyphens."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, *, key: str | None = None, **headers: str) -> Answer:
        return self.request("GET", path, key=key, **headers)

    def post(self, path: str, body: Any = None, *, key: str | None = None, **headers: str) -> Answer:
        return self.request("POST", path, body, key=key, **headers)


@asynccontextmanager
async def here(
    handler: Any = echo, settings: Settings | None = None, *, routes: Any = None, **opening: Any
) -> AsyncIterator[Live]:
    """A front end in this run; `routes(front)` is one more router, `opening` goes to `open_manager`."""
    settings = attrs.evolve(settings or Settings(rate=None), port=0)
    async with ccm.open_manager(handler, **opening) as manager, trio.open_nursery() as nursery:
        app = create_app(manager, settings)
        if routes is not None:
            app.inner.include_router(routes(app.front))
        url = await nursery.start(
            lambda task_status: serve(manager, settings, app=app, task_status=task_status)
        )
        yield Live(url, manager, app, trio.lowlevel.current_trio_token(), nursery.cancel_scope)
        nursery.cancel_scope.cancel()


@contextmanager
def in_thread(handler: Any = echo, settings: Settings | None = None, **opening: Any) -> Iterator[Live]:
    """A front end in a thread of its own."""
    ready, found, failed = threading.Event(), list[Live](), list[BaseException]()

    async def main() -> None:
        async with here(handler, settings, **opening) as live:
            found.append(live)
            with trio.CancelScope() as live.stop:
                ready.set()
                await trio.sleep_forever()

    def thread() -> None:
        try:
            trio.run(main)
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    runner = threading.Thread(target=thread, daemon=True)
    runner.start()
    assert ready.wait(TIMEOUT)
    try:
        if found:
            yield found[0]
    finally:
        if found and runner.is_alive():
            found[0].do(found[0].stop.cancel)
        runner.join(TIMEOUT)
    if failed:
        raise failed[0]
    assert not runner.is_alive(), "the front end did not end"
