"""Sends made-up messages to a server and measures what comes back."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, final

import attrs
import trio

from ccm import Priority
from ccm.testing import LatencyHistogram, traffic

from ._console import UsageError
from ._load_mix import WAITS, Preset
from ._web import Target, open_client

if TYPE_CHECKING:
    import httpx2

PATIENCE: Final = 60.0
"""Seconds after which a message without an answer is lost."""
REFUSALS: Final = (409, 429, 503)
Show = Callable[[int, int], object]
Transport = Literal["json", "sse", "websocket"]
Answer = tuple[str, dict[str, Any] | None]
"""A status, or what went wrong; and the answer's body, if there is one."""
Ask = Callable[[dict[str, str], Callable[[], None]], Awaitable[Answer]]
"""Sends a message, calls the function for each piece of the reply, returns what became of it."""


@attrs.frozen(kw_only=True)
class Load:
    """What to send: `rate` messages a second on average, from `users` people, for `duration` seconds.

    Attributes:
        transport: a request with one answer each, with a stream of events each, or a WebSocket per person.
    """

    preset: Preset
    users: int
    rate: float
    duration: float
    seed: int = 1
    transport: Transport = "json"
    targets: dict[Priority, float] = attrs.field(factory=lambda: dict(WAITS))


@final
class ClassResult:
    """What became of the messages of one class."""

    def __init__(self) -> None:
        self.sent = self.answered = self.refused = self.failed = self.lost = 0
        self.first, self.response, self.wait = LatencyHistogram(), LatencyHistogram(), LatencyHistogram()


@final
class Result:
    """What became of one run. `answers` counts them by status, or by what went wrong."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.classes = {priority: ClassResult() for priority in Priority}
        self.answers: Counter[str] = Counter()
        self.seconds = 0.0

    def missed(self) -> list[str]:
        """The targets that were missed, in words."""
        rows = self.classes.values()
        sent, answered = sum(row.sent for row in rows), sum(row.answered for row in rows)
        found = []
        for what in ("lost", "failed"):
            if count := sum(getattr(row, what) for row in rows):
                found.append(f"{count} of {sent} messages {what}")
        share = self.load.preset.answered
        if not sent:
            found.append("nothing was sent: raise --rate or --duration")
        elif share is not None and answered < share * sent:
            limited = " (429: the server's rate limits)" if self.answers["429"] else ""
            found.append(f"{answered} of {sent} messages answered, wanted {share:.0%}{limited}")
        for priority, row in self.classes.items():
            if self.met(priority) is False:
                wait, target = row.wait.quantile(0.99), self.load.targets[priority]
                found.append(f"{priority.name}: 99 in 100 waited up to {wait:.3g} s, wanted < {target:g} s")
        return found

    def met(self, priority: Priority) -> bool | None:
        """Whether a class held its target; None when there was nothing to judge. Stress is not judged."""
        row, target = self.classes[priority], self.load.targets.get(priority)
        if target is None or not row.wait.count or self.load.preset.answered is None:
            return None
        return row.wait.quantile(0.99) < target

    def as_json(self) -> dict[str, Any]:
        """The report as plain data; times in seconds."""
        rows = [
            {
                "class": priority.name, "sent": row.sent, "answered": row.answered, "refused": row.refused,
                "failed": row.failed, "lost": row.lost, "first": attrs.asdict(row.first.summary()),
                "response": attrs.asdict(row.response.summary()), "wait": attrs.asdict(row.wait.summary()),
                "target": self.load.targets.get(priority), "met": self.met(priority),
            }
            for priority, row in self.classes.items() if row.sent
        ]  # fmt: skip
        sent = sum(row.sent for row in self.classes.values())
        missed = self.missed()
        return {
            "preset": self.load.preset.name, "users": self.load.users, "seed": self.load.seed,
            "transport": self.load.transport,
            "rate": self.load.rate * self.load.preset.haste, "duration": self.load.duration,
            "seconds": self.seconds, "sent": sent,
            "per_second": sent / self.seconds if self.seconds else 0.0,
            "classes": rows, "answers": dict(self.answers.most_common()), "ok": not missed, "missed": missed,
        }  # fmt: skip


async def run_load(target: Target, load: Load, show: Show | None = None) -> Result:
    """Send everything at its time, whatever has been answered; wait for what is under way.

    Args:
        show: is called with the messages done, and those under way.
    """
    result = Result(load)
    texts = random.Random(f"{load.seed} texts")
    run = f"load-{time.time_ns():x}"
    under_way = done = 0
    arrivals = traffic(
        rate=load.rate * load.preset.haste, duration=load.duration, seed=load.seed, users=load.users,
        mix=load.preset.mix,
    )  # fmt: skip
    start = trio.current_time()

    async def send(priority: Priority, user: str) -> None:
        nonlocal under_way, done
        under_way += 1
        message = {
            "user": f"{run}-{user}", "conversation": f"{run}-{user}", "priority": priority.name.lower(),
            "text": load.preset.text(priority, texts),
        }  # fmt: skip
        await _send(ask, message, result.classes[priority], result)
        under_way -= 1
        done += 1
        if show is not None:
            show(done, under_way)

    async with _open(target, load.transport) as ask, trio.open_nursery() as nursery:
        for arrival in arrivals:
            await trio.sleep_until(start + arrival.at)
            priority = arrival.message.priority
            assert priority is not None
            nursery.start_soon(send, priority, arrival.message.user)
    result.seconds = trio.current_time() - start
    return result


@asynccontextmanager
async def _open(target: Target, transport: Transport) -> AsyncIterator[Ask]:
    if transport == "websocket":
        try:
            from ._load_socket import open_sockets
        except ModuleNotFoundError as error:
            raise UsageError(
                f"--websocket needs the package {error.name!r}, which is not installed; "
                "run: pip install 'ccm[cli,model,discord]'"
            ) from None
        async with open_sockets(target) as sockets:
            yield sockets.ask
    else:
        accept = "text/event-stream" if transport == "sse" else "application/json"
        async with open_client(target, connections=1000) as client:
            yield partial(_post, client, accept)


async def _send(ask: Ask, message: dict[str, str], row: ClassResult, result: Result) -> None:
    """One message and what becomes of it."""
    row.sent += 1
    start = trio.current_time()
    begun = False

    def first() -> None:
        nonlocal begun
        if not begun:
            begun = True
            row.first.record(trio.current_time() - start)

    answer: Answer = ("time-out", None)
    with trio.move_on_after(PATIENCE):  # noqa: ASYNC912
        answer = await ask(message, first)
    _count(row, result, *answer, trio.current_time() - start)


async def _post(
    client: httpx2.AsyncClient, accept: str, message: dict[str, str], first: Callable[[], None]
) -> Answer:
    import httpx2

    try:
        request = client.stream(
            "POST", "/api/v1/chat", json=message, headers={"Accept": accept}, timeout=PATIENCE
        )
        async with request as response:
            events = response.headers.get("content-type", "").startswith("text/event-stream")
            body = await (_events(response, first) if events else _body(response))
            status = str(response.status_code)
    except httpx2.HTTPError as error:
        return type(error).__name__, None  # noqa: ASYNC910 - the client waits
    return status, body


async def _body(response: httpx2.Response) -> dict[str, Any]:
    await response.aread()
    try:
        found = response.json()
    except json.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {}


async def _events(response: httpx2.Response, first: Callable[[], None]) -> dict[str, Any]:
    """The final outcome of a streamed reply, put the way the other answers are."""
    event, last = "", "{}"
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            event = value
            if event == "piece":
                first()
        elif name == "data" and event == "outcome":
            last = value
    found = json.loads(last)
    return found if isinstance(found, dict) else {}


def _count(row: ClassResult, result: Result, status: str, answer: dict[str, Any] | None, took: float) -> None:
    problem = (answer or {}).get("problem")
    if isinstance(problem, dict) and "status" in problem:
        status = str(problem["status"])  # in a stream the outcome comes after the 200
    result.answers[status] += 1
    if status == "200" and (answer or {}).get("outcome") in ("replied", "merged"):
        row.answered += 1
        row.response.record(took)
        waited = ((answer or {}).get("timings") or {}).get("waited")
        if isinstance(waited, (int, float)):
            row.wait.record(waited)
    elif not status.isdigit():
        row.lost += 1
    elif int(status) in REFUSALS:
        row.refused += 1
    else:
        row.failed += 1
