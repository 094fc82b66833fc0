"""Spans: message, turn and what is below it, through retries, cancellation, tasks and threads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from opentelemetry import trace as api
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import ccm
from ccm import Config, Message, RetryPolicy, Turn, telemetry
from ccm.testing import simulate
from tests.model_kit import fake_server, good, open_bot, real

SECRET = "the text nobody may see"
ABOVE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Spans:
    """What was exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def all(self, name: str = "") -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name.startswith(name)]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.all(name)
        return span

    def child(self, name: str, of: str) -> bool:
        parent = self.one(name).parent
        return parent is not None and parent.span_id == self.one(of).context.span_id

    def words(self) -> str:
        return "\n".join(span.to_json() for span in self.all())


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return round((span.end_time - span.start_time) / 1e9, 6)


def traced(
    handler: Callable[[Turn], Awaitable[str | None]] | ccm.Router,
    program: Callable[[ccm.ConversationManager], Awaitable[None]],
    **settings: Any,
) -> Spans:
    """Run `program` with a traced manager, on virtual time."""
    spans = Spans()

    async def run() -> None:
        config = Config(**{"rate_limit": None, "retry": RetryPolicy(attempts=3, base=0)} | settings)
        async with ccm.open_manager(handler, config=config) as manager:
            telemetry.trace(manager, spans.provider)
            await program(manager)
        # Whatever happened, no span stays open.
        assert not manager._dispatcher.pool.tracer._spans  # type: ignore[union-attr]

    simulate(run)
    return spans


def test_message_turn_and_what_is_below() -> None:
    tracer: list[api.Tracer] = []

    async def load(turn: Turn) -> str:
        await trio.sleep(1)
        return "profile"

    async def mood(turn: Turn) -> str:
        await trio.sleep(2)
        with tracer[0].start_as_current_span("own"):
            return await turn.context("profile", load)

    async def memory(turn: Turn) -> str:
        await trio.sleep(3)
        raise ValueError(SECRET)

    async def handler(turn: Turn) -> str:
        await turn.gather(mood=mood, memory=memory)
        await turn.context("profile", load)
        return SECRET

    async def program(manager: ccm.ConversationManager) -> None:
        tracer.append(spans_provider())
        await manager.ask(Message("c", "ada", SECRET, tenant="t"))

    def spans_provider() -> api.Tracer:
        return manager_spans[0].provider.get_tracer("handler")

    manager_spans: list[Spans] = [Spans()]

    async def run() -> None:
        async with ccm.open_manager(handler) as manager:
            telemetry.trace(manager, manager_spans[0].provider)
            await program(manager)

    simulate(run)
    spans = manager_spans[0]
    assert spans.child("ccm.turn", "ccm.message")
    analyzers = {attributes(span)["ccm.analyzer"]: span for span in spans.all("ccm.analyzer")}
    turn = spans.one("ccm.turn").context.span_id
    assert [span.parent.span_id for span in analyzers.values() if span.parent] == [turn, turn]
    assert (seconds(analyzers["mood"]), seconds(analyzers["memory"])) == (3, 3)
    assert analyzers["memory"].status.status_code is api.StatusCode.ERROR
    assert attributes(analyzers["memory"])["error.type"] == "ValueError"
    assert spans.child("ccm.context", "own"), "and only one: the second look was answered by the cache"
    assert seconds(spans.one("ccm.message")) == seconds(spans.one("ccm.turn")) == 3
    told = attributes(spans.one("ccm.message"))
    assert told.items() >= {
        "ccm.outcome": "replied", "ccm.attempts": 1, "ccm.route": "chat", "ccm.priority": "NORMAL",
        "ccm.conversation": "c", "ccm.tenant": "t",
    }.items()  # fmt: skip
    assert SECRET not in spans.words()
    assert "ada" not in spans.words()


def test_retries_are_turns_of_one_message() -> None:
    async def handler(turn: Turn) -> str:
        await trio.sleep(1)
        if turn.attempt < 3:
            raise ConnectionError(SECRET)
        return "at last"

    async def program(manager: ccm.ConversationManager) -> None:
        await manager.ask(Message("c", "ada", SECRET))

    spans = traced(handler, program)
    turns = spans.all("ccm.turn")
    message = spans.one("ccm.message")
    assert [attributes(span)["ccm.attempt"] for span in turns] == [1, 2, 3]
    assert {span.parent.span_id for span in turns if span.parent} == {message.context.span_id}
    ok, error = api.StatusCode.UNSET, api.StatusCode.ERROR
    assert [span.status.status_code for span in turns] == [error, error, ok]
    assert (attributes(message)["ccm.attempts"], seconds(message)) == (3, 3)
    assert message.status.status_code is ok
    assert SECRET not in spans.words()


def test_failed_for_good() -> None:
    async def handler(turn: Turn) -> str:
        raise ccm.Permanent(SECRET)

    async def program(manager: ccm.ConversationManager) -> None:
        with pytest.raises(ccm.HandlerFailed):
            await manager.ask(Message("c", "ada", SECRET))

    spans = traced(handler, program)
    message = spans.one("ccm.message")
    assert attributes(message)["ccm.outcome"] == "failed"
    assert attributes(message)["error.type"] == "Permanent"
    assert message.status.status_code is api.StatusCode.ERROR
    assert SECRET not in spans.words()


def test_cancelled_turns_end_their_spans_and_do_not_leak_into_the_next() -> None:
    async def branch(turn: Turn) -> None:
        await trio.sleep_forever()

    async def handler(turn: Turn) -> str:
        if turn.text == "hang":
            await turn.gather(one=branch, two=branch)
        return "fine"

    async def program(manager: ccm.ConversationManager) -> None:
        receipt = await manager.submit(Message("c", "ada", "hang"))
        await trio.sleep(1)
        await manager.stop("c")
        await receipt.outcome()
        await manager.ask(Message("c", "ada", "go on"))

    spans = traced(handler, program)
    stopped, fine = sorted(spans.all("ccm.message"), key=lambda span: span.start_time or 0)
    assert attributes(stopped).items() >= {"ccm.outcome": "cancelled", "ccm.cancelled_by": "stop"}.items()
    branches = spans.all("ccm.analyzer")
    assert [attributes(span).get("ccm.cancelled") for span in branches] == [True, True]
    assert attributes(fine)["ccm.outcome"] == "replied"
    assert fine.context.trace_id != stopped.context.trace_id
    assert fine.parent is None


def test_what_never_ran_has_a_message_without_a_turn() -> None:
    async def handler(turn: Turn) -> str:
        await trio.sleep(10)
        return "late"

    async def program(manager: ccm.ConversationManager) -> None:
        await manager.submit(Message("a", "ada", "first"))
        receipt = await manager.submit(Message("b", "ben", "second", metadata={"traceparent": ABOVE}))
        assert isinstance(await receipt.outcome(), ccm.Expired)

    spans = traced(handler, program, limit=1, max_wait={ccm.NORMAL: 2.0})
    expired = spans.all("ccm.message")[0]
    assert (attributes(expired)["ccm.outcome"], attributes(expired)["ccm.attempts"]) == ("expired", 0)
    assert seconds(expired) == 2
    assert f"{expired.context.trace_id:032x}" == ABOVE.split("-")[1]
    assert len(spans.all("ccm.turn")) == 1


@pytest.mark.parametrize("carried", ["nonsense", "", 7, None, "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_nonsense_begins_a_trace_of_its_own(carried: Any) -> None:
    async def handler(turn: Turn) -> str:
        return "fine"

    async def program(manager: ccm.ConversationManager) -> None:
        await manager.ask(Message("c", "ada", "hello", metadata={"traceparent": carried}))

    assert traced(handler, program).one("ccm.message").parent is None


def test_a_trace_goes_on_from_the_caller_and_into_the_message() -> None:
    async def handler(turn: Turn) -> str:
        return "fine"

    provider = TracerProvider()

    async def program(manager: ccm.ConversationManager) -> None:
        with provider.get_tracer("caller").start_as_current_span("request") as span:
            carried = telemetry.traceparent()
            assert carried["traceparent"].split("-")[2] == f"{span.get_span_context().span_id:016x}"
        await manager.ask(Message("c", "ada", "hello", metadata=carried))
        wanted.append(span.get_span_context().span_id)

    wanted: list[int] = []
    parent = traced(handler, program).one("ccm.message").parent
    assert parent is not None
    assert [parent.span_id] == wanted
    assert telemetry.traceparent() == {}


def test_what_the_task_was_in_that_ended_a_turn_or_began_a_worker_is_none_of_a_message() -> None:
    """Spans come from tasks of others: the caller's, out of which the worker was made."""
    spans: list[Spans] = [Spans()]
    others = TracerProvider().get_tracer("caller")

    async def handler(turn: Turn) -> str:
        await trio.sleep(1)
        return "fine"

    async def run() -> None:
        async with ccm.open_manager(handler, config=Config(limit=1, max_wait={ccm.NORMAL: 0.5})) as manager:
            telemetry.trace(manager, spans[0].provider)
            with others.start_as_current_span("request"):
                receipt = await manager.submit(Message("c", "ada", "hello"))
                await manager.submit(Message("d", "ben", "too late"))
                await manager.retract((await manager.submit(Message("e", "eve", "never mind"))).message.id)
            await receipt.outcome()

    simulate(run)
    messages = spans[0].all("ccm.message")
    assert {attributes(span)["ccm.outcome"] for span in messages} == {"replied", "expired", "cancelled"}
    assert [span.parent for span in messages] == [None, None, None]


@real
async def test_threads_services_and_models() -> None:
    spans = Spans()

    def below() -> int:
        return api.get_current_span().get_span_context().span_id

    async def double(data: int) -> int:
        return data * 2

    async def handler(turn: Turn) -> str:
        inside = await turn.in_thread(below)
        return f"{inside} {await turn.call('double', 21)}"

    async with ccm.open_manager(handler) as manager:
        telemetry.trace(manager, spans.provider)
        manager.service("double", double)
        reply = await manager.ask(Message("c", "ada", "hello"))
    inside, doubled = reply.text.split()
    assert int(inside) == spans.one("ccm.thread").context.span_id, "the thread has the context of its call"
    assert doubled == "42"
    assert spans.child("ccm.thread", "ccm.turn")
    assert spans.child("ccm.service", "ccm.turn")
    spans = Spans()
    async with fake_server(good) as server, open_bot(server) as manager:
        telemetry.trace(manager, spans.provider)
        await manager.ask(Message("c", "ada", "hello"))
    model = spans.one("ccm.model")
    assert attributes(model) == {"ccm.model": "m"}
    sent = server.calls[0].headers["traceparent"]
    assert sent.split("-")[1:3] == [f"{model.context.trace_id:032x}", f"{model.context.span_id:016x}"]


@real
async def test_twice_is_refused() -> None:
    async def handler(turn: Turn) -> str:
        return "fine"

    async with ccm.open_manager(handler) as manager:
        telemetry.trace(manager, TracerProvider())
        with pytest.raises(RuntimeError, match="traced already"):
            telemetry.trace(manager, TracerProvider())


def test_without_it_nothing_is_imported() -> None:
    code = (
        "import sys, ccm, ccm.telemetry, ccm.model, ccm.responder\n"
        "assert not {m.partition('.')[0] for m in sys.modules} & {'opentelemetry', 'httpx2'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
