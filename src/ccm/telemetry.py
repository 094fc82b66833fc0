"""OpenTelemetry spans of what a manager does: message, turn, and the parts of a turn.

Needs `pip install 'ccm[telemetry]'`, and an SDK that exports the spans (`opentelemetry-sdk`)::

    async with ccm.open_manager(handler) as manager:
        ccm.telemetry.trace(manager)

- `ccm.message`: from its acceptance to its outcome;
- `ccm.turn`: each attempt of the handler, below it;
- `ccm.analyzer`, `ccm.context`, `ccm.thread`, `ccm.process`, `ccm.service`, `ccm.model`: below the turn, each
  branch of `Turn.gather`, each load of a context (not those that the cache answers), and each call.

The spans of a handler's own libraries stand below the turn, also those of tasks and threads that it starts.
A message that carries `metadata["traceparent"]` (https://www.w3.org/TR/trace-context/) continues that trace;
the HTTP front end takes it from the request. No attribute holds a text, a user or an error's words.

Without this nothing is measured and nothing imported; each attempt costs one comparison with None.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

import trio

from ._core.routes import Handler
from ._message import CARRIED, Message
from ._outcome import Failed

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, TracerProvider
    from opentelemetry.util.types import AttributeValue

    from ._manager import ConversationManager
    from ._record import TurnRecord

__all__ = ["trace", "traceparent"]


def trace(manager: ConversationManager, provider: TracerProvider | None = None) -> None:
    """Make spans of everything that `manager` does from now on, until it is closed.

    Args:
        manager: an open one.
        provider: who makes tracers; None is OpenTelemetry's global provider.

    Raises:
        ImportError: the extra is not installed.
        RuntimeError: it is traced already.
    """
    try:
        tracer = _Tracer(provider)
    except ImportError as error:
        raise ImportError(f"tracing needs {error.name!r}; run: pip install 'ccm[telemetry]'") from error
    dispatcher = manager._dispatcher
    tools = dispatcher.books.tools
    if tools.tracer is not None:
        raise RuntimeError(f"{manager!r} is traced already")
    before = dispatcher.on_end

    def ended(record: TurnRecord, name: str, served: float, now: float) -> None:
        tracer.ended(record, name, now)
        if before is not None:
            before(record, name, served, now)

    dispatcher.on_end = ended
    dispatcher.pool.tracer = tools.tracer = tracer


def traceparent() -> dict[str, str]:
    """The current trace for `Message(metadata=...)`; empty outside of one, or without OpenTelemetry."""
    try:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
    except ImportError:
        return {}
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier


@final
class _Tracer:
    """Makes the spans of one manager.

    `_spans` has the span of each message that an attempt has begun of and that has no outcome yet.
    """

    def __init__(self, provider: TracerProvider | None) -> None:
        from opentelemetry import trace as api
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._api = api
        self._tracer = api.get_tracer("ccm", tracer_provider=provider)
        self._propagator = TraceContextTextMapPropagator()
        self._spans: dict[int, Span] = {}
        # Trio's clock is the manager's own; what it shows at the zero of the wall clock stays the same.
        self._zero = time.time_ns() - int(trio.current_time() * 1e9)

    def _at(self, moment: float) -> int:
        return self._zero + int(moment * 1e9)

    async def attempt(self, handler: Handler, turn: Any) -> Any:
        """`await handler(turn)`, in a span of its own."""
        record = turn._record
        span = self._spans.get(record.id)
        if span is None:
            span = self._spans[record.id] = self._begin(record)
        attributes: dict[str, AttributeValue] = {
            "ccm.attempt": turn.attempt, "ccm.messages": len(turn.messages),
            "ccm.waited": max(record.waited, 0.0),
        }  # fmt: skip
        if turn.degraded is not None:
            attributes["ccm.degraded"] = turn.degraded
        # A worker's task has lived through other turns: what its own context holds is none of this one.
        context = self._api.set_span_in_context(span, self._empty())
        with self._span("ccm.turn", attributes, context):
            return await handler(turn)

    @contextmanager
    def span(self, kind: str, name: str) -> Iterator[Span]:
        """A span of a part of the turn that the current task works for."""
        with self._span(f"ccm.{kind}", {f"ccm.{kind}": name}, None) as span:
            yield span

    def outgoing(self) -> dict[str, str]:
        """The headers that let another system continue the trace."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    def ended(self, record: TurnRecord, name: str, now: float) -> None:
        """A turn got its outcome. O(1)."""
        span = self._spans.pop(record.id, None)
        if span is None:
            span = self._begin(record)
        span.set_attribute("ccm.outcome", name)
        span.set_attribute("ccm.attempts", record.attempt)
        fate: Any = record.fate
        if (reason := getattr(fate, "reason", None)) is not None:
            span.set_attribute("ccm.reason", str(reason))
        if (by := getattr(fate, "by", None)) is not None and name == "cancelled":
            span.set_attribute("ccm.cancelled_by", str(by))
        if isinstance(fate, Failed):
            span.set_status(self._api.StatusCode.ERROR)
            span.set_attribute("error.type", type(fate.exception).__qualname__)
        span.end(self._at(now))

    def _begin(self, record: TurnRecord) -> Span:
        message = record.message
        return self._tracer.start_span(
            "ccm.message", self._parent(message), self._api.SpanKind.CONSUMER,
            start_time=self._at(record.arrived),
            attributes={
                "ccm.turn_id": record.turn_id, "ccm.message_id": message.id, "ccm.route": record.route.name,
                "ccm.conversation": message.conversation, "ccm.tenant": message.tenant,
                "ccm.channel": message.channel, "ccm.priority": record.klass.name,
            },
        )  # fmt: skip

    def _parent(self, message: Message) -> Context:
        """The trace that the message carries; a new one if it carries none, or nonsense."""
        metadata: Mapping[str, Any] = message.metadata
        carrier = {key: metadata[key] for key in CARRIED if isinstance(metadata.get(key), str)}
        return self._propagator.extract(carrier, self._empty())

    @staticmethod
    def _empty() -> Context:
        from opentelemetry.context import Context

        return Context()

    @contextmanager
    def _span(
        self, name: str, attributes: Mapping[str, AttributeValue], context: Context | None
    ) -> Iterator[Span]:
        now = trio.current_time
        span = self._tracer.start_span(name, context, attributes=attributes, start_time=self._at(now()))
        try:
            # What an error says may be what somebody wrote: its type is all that is told.
            with self._api.use_span(span, record_exception=False, set_status_on_exception=False):
                yield span
        except Exception as error:
            span.set_status(self._api.StatusCode.ERROR)
            span.set_attribute("error.type", type(error).__qualname__)
            raise
        except BaseException:
            span.set_attribute("ccm.cancelled", True)
            raise
        finally:
            span.end(self._at(now()))
