"""Runs one program on the real manager and writes down what can be seen from outside.

`run` interprets a program in one simulated Trio run with its own schedule: who called when, when handlers
were entered and left, what every caller got, what `events()` told. The laws are judged by that trace, in
the test modules and in `model.py`; none of them asks the scheduler what it has decided.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeVar

import attrs
import trio

import ccm
from ccm.testing import WhenIdle, simulate

from .programs import TICK, Behaviour, Cancel, Collapse, Drain, How, Leave, Look, Program, Send

E = TypeVar("E", bound=ccm.Event)


@attrs.frozen
class Step:
    """A handler was entered or left."""

    at: float
    kind: str  # "enter" or "leave"
    call: int
    attempt: int
    turn_id: int
    how: str = ""  # how it was left: "replied", "raised", "cancelled", "ignored"


@attrs.define
class Trace:
    """What could be seen of one run."""

    program: Program
    calls: list[int] = attrs.Factory(list)  # indices of Sends in the order in which they called
    steps: list[Step] = attrs.Factory(list)
    results: dict[int, str] = attrs.Factory(dict)
    reasons: dict[int, ccm.Reason] = attrs.Factory(dict)
    outcomes: dict[int, Any] = attrs.Factory(dict)  # by receipts, also long after the fact
    receipts: dict[int, ccm.Receipt] = attrs.Factory(dict)
    repeats: dict[int, ccm.Receipt] = attrs.Factory(dict)  # receipts that came with a Duplicate
    abandoned: dict[int, float] = attrs.Factory(dict)  # when a caller was cancelled before it had a result
    delivered: list[int] = attrs.Factory(list)
    events: list[ccm.Event] = attrs.Factory(list)
    drains: list[tuple[float, float]] = attrs.Factory(list)
    errors: list[str] = attrs.Factory(list)
    leaving: float = 0.0
    closed: float = 0.0
    inside: int = 0
    peak: int = 0
    final: ccm.Statistics | None = None
    steps_of_run: int = 0

    def attempts(self, call: int) -> list[Step]:
        return [s for s in self.steps if s.call == call and s.kind == "enter"]

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


PROBE = "probe"
# Results of callers that are no outcome.
ABANDONED = "abandoned"  # the caller was cancelled before it knew
WOULD_BLOCK = "would block"
CLOSED = "closed"


class Crossed(Exception):
    """What handlers raise here."""


class Interpreter:
    """Runs one program; create a new one for each run."""

    def __init__(self, program: Program) -> None:
        self.trace = Trace(program)
        self.program = program
        self.surrounding = trio.CancelScope()
        self.everything = trio.CancelScope()
        self.scopes = [trio.CancelScope() for _ in program.sends]
        self.inner = [trio.CancelScope() for _ in program.sends]
        self.manager: ccm.ConversationManager
        self.stream: ccm.EventStream
        self.probes = 0

    # -- handlers --------------------------------------------------------------------------------

    async def handle(self, turn: ccm.Turn) -> Any:
        """The one handler: does what the message's Send says."""
        if turn.text == PROBE:
            return await self._answer_probe()
        call = int(turn.text)
        send = self.program.sends[call]
        self._step("enter", turn, call)
        how = "raised"
        try:
            with self.inner[call] if turn.attempt == 1 else trio.CancelScope():
                await trio.sleep(send.takes)
                answer = await self._behave(send, turn)
                how = "replied"
                return answer
            how = "replied"
            return "cut short"
        except trio.Cancelled:
            how = "cancelled"
            if send.behaviour is Behaviour.CLEANUP:
                with trio.CancelScope(shield=True):
                    await trio.sleep(send.takes)
            if send.behaviour is Behaviour.IGNORE:
                how = "ignored"
                with trio.CancelScope(shield=True):
                    await trio.sleep(send.takes)
                return "late"  # noqa: ASYNC104 - a bad handler
            if send.behaviour is Behaviour.CONVERT:
                how = "raised"
                raise Crossed("not now") from None  # noqa: ASYNC104 - a bad handler
            raise
        finally:
            self._step("leave", turn, call, how)

    async def _behave(self, send: Send, turn: ccm.Turn) -> Any:
        match send.behaviour:
            case Behaviour.FAIL:
                raise Crossed(turn.text)
            case Behaviour.FAIL_ONCE if turn.attempt == 1:
                raise Crossed(turn.text)
            case Behaviour.BUSY if turn.attempt <= 2:
                raise ccm.Busy(4 * TICK)
            case Behaviour.PERMANENT:
                raise ccm.Permanent(turn.text)
            case Behaviour.WRONG:
                return 42
            case Behaviour.HANG | Behaviour.IGNORE | Behaviour.CLEANUP | Behaviour.CONVERT:
                await trio.sleep_forever()
        return f"re: {turn.text}"

    def _step(self, kind: str, turn: ccm.Turn, call: int, how: str = "") -> None:
        trace = self.trace
        trace.inside += 1 if kind == "enter" else -1
        trace.peak = max(trace.peak, trace.inside)
        trace.steps.append(Step(trio.current_time(), kind, call, turn.attempt, turn.id, how))

    async def deliver(self, reply: ccm.Reply, message: ccm.Message) -> None:
        # Between handler and delivery the slot stays taken, so that an idle look must count it.
        self.trace.inside += 1
        try:
            await trio.sleep(TICK)
            self.trace.delivered.append(int(message.text))
        finally:
            self.trace.inside -= 1

    # -- callers ---------------------------------------------------------------------------------

    async def call(self, call: int, send: Send) -> None:
        """The task of one Send."""
        trace = self.trace
        await trio.sleep_until(send.at)
        message = ccm.Message(
            send.conversation, send.user, str(call), tenant=send.tenant, priority=send.priority,
            deadline=None if send.patience is None else send.at + send.patience,
        )  # fmt: skip
        if send.id is not None:
            message = message.replace(id=send.id)
        with self.scopes[call]:
            try:
                trace.results[call] = await self._hand_in(call, send.how, message)
            except trio.Cancelled:
                trace.results[call] = ABANDONED
                trace.abandoned[call] = trio.current_time()
                raise

    async def _hand_in(self, call: int, how: How, message: ccm.Message) -> str:
        trace, manager = self.trace, self.manager
        await trio.lowlevel.checkpoint_if_cancelled()
        trace.calls.append(call)
        try:
            if how is How.ASK:
                reply = await manager.ask(message)
                assert isinstance(reply, ccm.Reply)
                return "replied"
            receipt = await manager.submit(message) if how is How.SUBMIT else manager.submit_nowait(message)
            trace.receipts[call] = receipt
            return (await receipt.outcome()).name
        except ccm.Duplicate as error:
            trace.repeats[call] = error.receipt
            trace.reasons[call] = error.reason
            # Whoever repeats a message may wait for the first one's outcome.
            await error.receipt.outcome()
            return "rejected"
        except ccm.Rejected as error:
            trace.reasons[call] = error.reason
            return "rejected"
        except (ccm.Shed, ccm.Expired) as error:
            return error.name
        except ccm.TurnCancelled:
            return "cancelled"
        except ccm.HandlerFailed:
            return "failed"
        except trio.WouldBlock:
            return WOULD_BLOCK
        except trio.ClosedResourceError:
            return CLOSED

    # -- the run ---------------------------------------------------------------------------------

    async def main(self) -> Trace:
        """Everything, once. Callers live outside the manager's block, as a web server's tasks do."""
        trace = self.trace
        async with AsyncExitStack() as streams:
            with self.everything:
                async with trio.open_nursery() as callers:
                    await self._inside(streams, callers)
            trace.final = trace.final or self.manager.statistics()
            told = [event async for event in self.stream]
            trace.events = [e for e in told if not getattr(e, "conversation", "").startswith(PROBE)]
        for call, receipt in trace.receipts.items():
            trace.outcomes[call] = await receipt.outcome()
        return trace

    async def _inside(self, streams: AsyncExitStack, callers: trio.Nursery) -> None:
        trace, config = self.trace, self.program.config
        with self.surrounding:
            async with ccm.open_manager(self.handle, config=config, deliver=self._deliver) as self.manager:
                self.stream = await streams.enter_async_context(self.manager.events(100_000))
                try:
                    self._begin(callers)
                    await self._stay()
                finally:
                    trace.leaving = trio.current_time()
        trace.closed = trio.current_time()

    @property
    def _deliver(self) -> Any:
        return self.deliver if self.program.deliver else None

    def _begin(self, callers: trio.Nursery) -> None:
        calls = 0
        for op in self.program.operations:
            match op:
                case Send():
                    callers.start_soon(self.call, calls, op, name=f"call {calls}")
                    calls += 1
                case Cancel() if self.scopes:
                    scope = self.scopes[op.call % len(self.scopes)]
                    callers.start_soon(self._later, op.at, scope.cancel)
                case Look():
                    callers.start_soon(self._later, op.at, self.look)
                case Drain():
                    callers.start_soon(self._drain, op.at)
                case Collapse():
                    callers.start_soon(self._later, op.at, self.surrounding.cancel)

    async def _later(self, at: float, act: Callable[[], object]) -> None:
        await trio.sleep_until(at)
        act()

    async def _drain(self, at: float) -> None:
        await trio.sleep_until(at)
        await self.manager.drain()
        self.trace.drains.append((at, trio.current_time()))

    async def _stay(self) -> None:
        operations = self.program.operations
        leave = [op.at for op in operations if isinstance(op, Leave)]
        if leave:
            await trio.sleep_until(min(leave))
            return
        last = max((op.at for op in operations), default=0.0)
        await trio.sleep_until(last + TICK)
        await self.manager.wait_idle()
        if not self.manager._intake.draining:
            await self._probe()

    # -- is everything still there? --------------------------------------------------------------

    async def _probe(self) -> None:
        """Nothing is left over, and every slot can be taken at this very instant."""
        self.trace.final = now = self.manager.statistics()
        config = self.program.config
        left = (now.waiting, now.running, now.retrying, now.slots_in_use, now.senders, now.sessions.active)
        if any(left):
            self.trace.errors.append(f"left over when idle: {left}")
        self.slots = min(config.limit, config.max_sessions)
        self.all_in = trio.Event()
        with trio.move_on_after(TICK / 2) as late:
            async with trio.open_nursery() as nursery:
                for number in range(self.slots):
                    name = f"{PROBE} {number}"
                    message = ccm.Message(name, name, PROBE, priority=ccm.CRITICAL)
                    nursery.start_soon(self.manager.ask, message)
        if late.cancelled_caught:
            self.trace.errors.append(f"{self.probes} of {self.slots} slots could be taken")

    async def _answer_probe(self) -> str:
        self.trace.inside += 1
        try:
            self.probes += 1
            if self.probes == self.slots:
                self.all_in.set()
            await self.all_in.wait()
            return "here"
        finally:
            self.trace.inside -= 1

    # -- looking at it meanwhile -----------------------------------------------------------------

    def look(self) -> None:
        """Note it when the statistics contradict law G1 or what the handlers see."""
        try:
            self.manager.statistics().check()
        except AssertionError as error:
            self.trace.errors.append(f"at {trio.current_time()}: {error}")

    def idle(self) -> str | None:
        """What is wrong while every task is blocked: a free slot, a lost slot, a sender left outside."""
        manager = getattr(self, "manager", None)
        if manager is None:
            return None
        now = manager.statistics()
        now.check()
        if now.slots_in_use != self.trace.inside:
            return f"{now.slots_in_use} slots are taken, {self.trace.inside} handlers run"
        if now.workers != len(manager._dispatcher.pool.idle) + self.trace.inside:
            return f"{now.workers} workers neither parked nor in one of {self.trace.inside} handlers"
        if manager._scheduler.startable():
            return f"startable turns wait beside a free slot: {manager._scheduler.startable()}"
        if now.senders and now.waiting < manager.config.queue_limit:
            return f"{now.senders} senders wait while {now.waiting} turns are queued"
        return None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Retry delays are drawn from the global generator: let them be the same in every run of a program."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def run(
    program: Program, interpreter: Interpreter | None = None, instruments: Iterable[Any] = (),
    *, idle: bool = True,
) -> Trace:  # fmt: skip
    """Interpret `program` from start to end, looking whenever every task is blocked.

    Raises:
        AssertionError: an idle look or a look of the program found a law broken.
        ccm.testing.Deadlock: somebody waited for ever.
    """
    interpreter = interpreter or Interpreter(program)
    watch = [WhenIdle(interpreter.idle)] if idle else []
    with seeded(program.seed):
        trace = simulate(interpreter.main, seed=program.seed, limit=900.0, instruments=[*watch, *instruments])
    assert trace.errors == []
    return trace
