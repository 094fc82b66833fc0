"""Runs one program of `turn_programs` on the real manager and writes down what can be seen from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any

import trio

import ccm
from ccm.testing import WhenIdle, simulate

from .programs import TICK, Cancel, Collapse, Drain, Leave, Look
from .turn_programs import Act, Edit, How, Retract, Send, Stop, TurnProgram
from .turn_trace import ABANDONED, CLOSED, Called, Changed, Enter, Left, Reading, Recalled, Stopping, Trace

PROBE = "probe"


class Crossed(Exception):
    """What handlers raise here."""


class Interpreter:
    """Runs one program; create a new one for each run."""

    def __init__(self, program: TurnProgram) -> None:
        self.program = program
        self.trace = Trace(program)
        self.sends = program.sends
        self.surrounding = trio.CancelScope()
        self.everything = trio.CancelScope()
        self.scopes = [trio.CancelScope() for _ in self.sends]
        self.inner = [trio.CancelScope() for _ in self.sends]
        self.entered: set[int] = set()
        self.ids: dict[int, str] = {}
        self.manager: ccm.ConversationManager

    # -- handlers --------------------------------------------------------------------------------

    async def handle(self, turn: ccm.Turn) -> str | None:
        """The answering handler, and the fallback: does what the turn's own message says."""
        if turn.text == PROBE:
            return await self._answer_probe()
        trace, calls = self.trace, self._calls(turn)
        own = _call(turn.message)
        texts = tuple(message.text for message in turn.messages)
        trace.log.append(Enter(trio.current_time(), turn.id, turn.attempt, turn.degraded, calls, texts))
        outside = turn.degraded in ("shed", "expired")
        self._count(1, outside)
        how = "raised"
        try:
            with trio.CancelScope() if own in self.entered else self.inner[own]:
                self.entered.add(own)
                answer = await self._act(self.sends[own], turn)
                how = "replied"
                return answer
            how = "replied"
            return "cut short"
        except trio.Cancelled:
            how = "cancelled"
            if self.sends[own].act is Act.IGNORE:
                how = "ignored"
                with trio.CancelScope(shield=True):
                    await trio.sleep(self.sends[own].takes)
                return "late"
            raise
        finally:
            self._count(-1, outside)
            trace.log.append(Left(trio.current_time(), turn.id, turn.degraded, self._calls(turn), how))

    def _count(self, number: int, outside: bool) -> None:
        self.trace.inside += number
        self.trace.outside += number if outside else 0

    @staticmethod
    def _calls(turn: ccm.Turn) -> tuple[int, ...]:
        return tuple(_call(message) for message in turn.messages)

    async def _act(self, send: Send, turn: ccm.Turn) -> str | None:
        if turn.degraded is not None:
            await trio.sleep(TICK)
            return "sorry"
        half = send.takes / 2
        match send.act:
            case Act.REPLY | Act.IGNORE:
                await trio.sleep(send.takes)
                return f"re: {turn.text}"
            case Act.SHIELD:
                async with turn.uninterruptible():
                    await turn.send("side effect, ")
                    await trio.sleep(half)
                await trio.sleep(half)
                return None
            case Act.READ:
                await self._read(send, turn)
                return None
            case Act.RECALL:
                return await self._recall(send, turn)
            case Act.CLEANUP:
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.CancelScope(shield=True):
                        await trio.sleep(send.takes)
        return await self._speak(send, turn, half)

    async def _speak(self, send: Send, turn: ccm.Turn, half: float) -> str | None:
        first = f"{turn.id}.{turn.attempt} "
        await trio.sleep(half)
        await turn.send(first)
        await trio.sleep(half)
        match send.act:
            case Act.FAIL_ONCE if turn.attempt == 1:
                raise Crossed(turn.text)
            case Act.FAIL:
                raise Crossed(turn.text)
            case Act.PERMANENT:
                raise ccm.Permanent(turn.text)
            case Act.HANG:
                await trio.sleep_forever()
            case Act.ADD:
                return first + turn.text
            case Act.CHANGE:
                return "on second thoughts"
        await turn.send(turn.text)
        return None

    async def _read(self, send: Send, turn: ccm.Turn) -> None:
        with trio.move_on_after(send.takes):
            async for message in turn.steered:
                await turn.send(f"[{message.text}]")

    async def _recall(self, send: Send, turn: ccm.Turn) -> str:
        for _ in range(2):
            history = await turn.history()
            self.trace.log.append(Recalled(trio.current_time(), turn.message.conversation, turn.id, history))
            await trio.sleep(send.takes / 2)
        return f"re: {turn.text}"

    async def note(self, turn: ccm.Turn) -> None:
        """The side route."""
        if turn.text != PROBE:
            self._count(1, False)
            try:
                await trio.sleep(4 * TICK)
            finally:
                self._count(-1, False)

    async def deliver(self, reply: ccm.Reply, message: ccm.Message) -> None:
        outside = reply.metadata.get("degraded") in ("shed", "expired")
        self._count(1, outside)
        try:
            await trio.sleep(TICK)
            self.trace.delivered.append(_call(message))
        finally:
            self._count(-1, outside)

    # -- callers ---------------------------------------------------------------------------------

    async def call(self, call: int, send: Send) -> None:
        """The task of one Send."""
        trace = self.trace
        await trio.sleep_until(send.at)
        message = ccm.Message(
            send.conversation, "ann", str(call), id=f"m{call}" if send.named else None,
            priority=send.priority, on_busy=send.policy,
            deadline=None if send.patience is None else send.at + send.patience,
        )  # fmt: skip
        self.ids[call] = message.id
        trace.results[call] = ABANDONED
        with self.scopes[call]:
            try:
                trace.results[call] = await self._hand_in(call, send, message)
            except ccm.CcmError as error:
                trace.results[call] = _name(error)
            except trio.ClosedResourceError:
                trace.results[call] = CLOSED

    async def _hand_in(self, call: int, send: Send, message: ccm.Message) -> str:
        trace, manager = self.trace, self.manager
        await trio.lowlevel.checkpoint_if_cancelled()
        trace.log.append(Called(trio.current_time(), call))
        if send.how is How.ASK:
            trace.replies[call] = str(await manager.ask(message))
            return "answered"
        if send.how is How.SUBMIT:
            trace.receipts[call] = receipt = await manager.submit(message)
            return (await receipt.outcome()).name
        trace.readings[call] = reading = Reading()
        async with manager.stream(message) as chunks:
            try:
                async for piece in chunks:
                    reading.pieces.append(piece)
                    await trio.sleep(send.pause)
                    if send.how is How.PEEK:
                        return ABANDONED
                reading.ended = "answered"
            except ccm.CcmError as error:
                reading.ended = _name(error)
                raise
            finally:
                reading.text = chunks.text
        return "answered"

    # -- the run ---------------------------------------------------------------------------------

    async def main(self) -> Trace:
        """Everything, once. Callers live outside the manager's block, as a web server's tasks do."""
        trace = self.trace
        with self.everything:
            async with trio.open_nursery() as callers:
                with self.surrounding:
                    await self._inside(callers)
        trace.final = trace.final or self.manager.statistics()
        for call, receipt in trace.receipts.items():
            trace.outcomes[call] = await receipt.outcome()
        return trace

    async def _inside(self, callers: trio.Nursery) -> None:
        program = self.program
        async with AsyncExitStack() as stack:
            self.manager = await stack.enter_async_context(
                ccm.open_manager(
                    self._router(), config=program.config, deliver=self.deliver if program.deliver else None
                )
            )
            self._begin(callers)
            leave = [op.at for op in program.operations if isinstance(op, Leave)]
            if leave:
                await trio.sleep_until(leave[0])
                return
            await trio.sleep_until(max(op.at for op in program.operations) + TICK)
            await self.manager.wait_idle()
            if not self.manager._intake.draining:
                await self._probe()

    def _router(self) -> ccm.Router:
        router = ccm.Router()
        router.route("chat", fallback=self.handle if self.program.fallback else None)(self.handle)
        if self.program.sides:
            router.route("notes", answers=False)(self.note)
        return router

    def _begin(self, callers: trio.Nursery) -> None:
        calls = 0
        for op in self.program.operations:
            match op:
                case Send():
                    callers.start_soon(self.call, calls, op, name=f"call {calls}")
                    calls += 1
                case Edit() | Retract() | Stop() | Drain():
                    callers.start_soon(self._change, op, name=repr(op))
                case Cancel():
                    callers.start_soon(self._later, op.at, self.scopes[op.call % len(self.scopes)].cancel)
                case Look():
                    callers.start_soon(self._later, op.at, self.look)
                case Collapse():
                    callers.start_soon(self._later, op.at, self.surrounding.cancel)

    async def _later(self, at: float, act: Callable[[], object]) -> None:
        await trio.sleep_until(at)
        act()

    async def _change(self, op: Edit | Retract | Stop | Drain) -> None:
        await trio.sleep_until(op.at)
        log, manager = self.trace.log, self.manager
        if isinstance(op, Drain):
            await manager.drain()
        elif isinstance(op, Stop):
            log.append(Stopping(trio.current_time(), op.conversation, None))
            stopped = await manager.stop(op.conversation)
            log.append(Stopping(trio.current_time(), op.conversation, stopped))
        else:
            call = op.call % len(self.sends)
            await self._change_message(op, call, self.ids.get(call, "never seen"))

    async def _change_message(self, op: Edit | Retract, call: int, id: str) -> None:
        log, manager = self.trace.log, self.manager
        if isinstance(op, Edit):
            text = f"{call} as of {op.at}"
            # What it did it did before its first await: what is logged after that may come too late.
            place = len(log)
            change = await manager.edit(id, text)
            log.insert(place, Changed(op.at, call, "edit", change, text))
        else:
            log.append(Changed(op.at, call, "retract", None))
            change = await manager.retract(id)
            log.append(Changed(trio.current_time(), call, "retract", change))

    # -- is everything still there? --------------------------------------------------------------

    async def _probe(self) -> None:
        """Nothing is left over, and every slot can be taken at this very instant."""
        self.trace.final = now = self.manager.statistics()
        config = self.program.config
        left = (now.waiting, now.running, now.retrying, now.slots_in_use, now.senders, now.sessions.active)
        if any(left) or self.manager._changes.attached:
            self.trace.errors.append(f"left over when idle: {left}, {self.manager._changes.attached}")
        self.slots, self.probes = min(config.limit, config.max_sessions), 0
        self.all_in = trio.Event()
        with trio.move_on_after(TICK / 2) as late:
            async with trio.open_nursery() as nursery:
                for number in range(self.slots):
                    key = f"{PROBE} {number}"
                    probe = ccm.Message(key, key, PROBE, priority=ccm.CRITICAL, on_busy=ccm.OnBusy.ENQUEUE)
                    nursery.start_soon(self.manager.ask, probe)
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

    def look(self) -> None:
        """Note it when the statistics contradict law G1."""
        try:
            self.manager.statistics().check()
        except AssertionError as error:
            self.trace.errors.append(f"at {trio.current_time()}: {error}")

    def idle(self) -> str | None:
        """What is wrong while every task is blocked: a free slot, a lost slot, a sender left outside."""
        manager = getattr(self, "manager", None)
        if manager is None:
            return None
        now, trace = manager.statistics(), self.trace
        now.check()
        if now.slots_in_use != trace.inside - trace.outside:
            return f"{now.slots_in_use} slots are taken, {trace.inside - trace.outside} handlers run"
        if now.workers != len(manager._dispatcher.pool.idle) + trace.inside:
            return f"{now.workers} workers neither parked nor in one of {trace.inside} handlers"
        if manager._scheduler.startable():
            return f"startable turns wait beside a free slot: {manager._scheduler.startable()}"
        return None


def _call(message: ccm.Message) -> int:
    return int(message.text.split()[0])


def _name(error: ccm.CcmError) -> str:
    if isinstance(error, ccm.Outcome):
        return error.name
    return "failed" if isinstance(error, ccm.HandlerFailed) else "cancelled"


def run(
    program: TurnProgram, interpreter: Interpreter | None = None, instruments: Iterable[Any] = ()
) -> Trace:
    """Interpret `program` from start to end, looking whenever every task is blocked.

    Raises:
        AssertionError: an idle look or a look of the program found a law broken.
        ccm.testing.Deadlock: somebody waited for ever.
    """
    interpreter = interpreter or Interpreter(program)
    watch = WhenIdle(interpreter.idle)
    trace = simulate(interpreter.main, seed=program.seed, limit=900.0, instruments=[watch, *instruments])
    assert trace.errors == []
    return trace
