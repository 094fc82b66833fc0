"""Bugs planted in the manager, its workers and its way in."""

from __future__ import annotations

from .core import SCHEDULER
from .mutant import Mutant

ASKING = "tests/manager/test_ask_submit.py"
RETRIES = "tests/manager/test_retries.py"
OVERFLOW = "tests/manager/test_overflow.py"
ROUTING = "tests/manager/test_router_basic.py"
CONSERVATION = "tests/properties/test_conservation.py"
CANCELLATION = "tests/properties/test_cancellation.py"
DRAIN = "tests/properties/test_drain.py"
ORDER = "tests/properties/test_order.py"
PRIORITY = "tests/properties/test_priority.py"

DISPATCHER = "_dispatcher.py"
INTAKE = "_intake.py"

MANAGER = (
    # -- order, priority, work conservation ------------------------------------------------------
    Mutant(
        "no wake-up on submit", "G7", "_worker.py",
        "            record.worker = worker\n            assert worker.task is not None\n"
        "            reschedule(worker.task)\n",
        "            record.worker = worker\n            assert worker.task is not None\n",
        (ASKING,),
    ),
    Mutant(
        "order decided after an await", "G2 trap 1", "_manager.py",
        "        await checkpoint_if_cancelled()\n        found = self._accept(message, self._now(),",
        "        await cancel_shielded_checkpoint()\n        found = self._accept(message, self._now(),",
        (ASKING, ORDER),
    ),
    Mutant(
        "the slot is passed on in two steps", "G4 trap 3", "_worker.py",
        "                owner.replied(record, now)\n",
        "                owner.replied(record, now)\n                await trio.lowlevel.checkpoint()\n",
        (PRIORITY, CANCELLATION, CONSERVATION),
    ),
    Mutant(
        "a lifted conversation is not started", "G7", INTAKE,
        "        if record.previous is not None and self._scheduler.lifted(record):\n",
        "        if record.previous is record:\n",
        ("tests/manager/test_lifting.py",),
    ),
    Mutant(
        "one lane for everybody", "G7 trap 11", "_record.py",
        "        self.key = message.conversation\n",
        '        self.key = ""\n',
        (ASKING,),
    ),
    Mutant(
        "to the back without a slot", "G2 trap 21", SCHEDULER,
        "        lane.insert(entry)\n        if not entry.ordered:\n",
        "        lane.append(entry)\n        if not entry.ordered:\n",
        (ORDER,),
    ),
    Mutant(
        "urgent turns run at once as well", "G2 trap 23", INTAKE,
        "        if started:\n            self._dispatcher.launch(record, now)\n",
        "        if started or not priority:\n            self._dispatcher.launch(record, now)\n",
        (PRIORITY, CONSERVATION),
    ),
    Mutant(
        "a failure forgets the queue behind it", "G7 trap 10", "_worker.py",
        "                cancelled = self._barrier(worker, record, error)\n"
        "                self._go_on(worker, owner.now())\n",
        "                cancelled = self._barrier(worker, record, error)\n"
        "                worker.record = None\n",
        (RETRIES,),
    ),
    Mutant(
        "the alarm is never set earlier", "max_wait", DISPATCHER,
        "        deadline = self.scheduler.timers.next\n        if deadline < self.wake:\n",
        "        deadline = self.scheduler.timers.next\n        if deadline < 0.0:\n",
        ("tests/manager/test_expiry.py", RETRIES),
    ),
    # -- conservation ----------------------------------------------------------------------------
    Mutant(
        "cancelled without an outcome", "G1", DISPATCHER,
        "        self.end(record, Cancelled(by), now)\n        self.dispatch(now)\n",
        "        self.dispatch(now)\n",
        (ASKING,),
    ),
    Mutant(
        "an outcome is not counted by the manager", "G1", DISPATCHER,
        "        ledger.outcomes[name] += 1\n",
        "",
        (CONSERVATION,),
    ),
    Mutant(
        "a burst is dropped in silence", "G1 trap 22", INTAKE,
        "        self._books.messages.reject(reason)\n",
        "",
        (OVERFLOW,),
    ),
    Mutant(
        "drain drops what waits in silence", "G1 trap 19", DISPATCHER,
        "            self.end(record, Cancelled(by), now)\n        for record in",
        "            record.place = DONE\n        for record in",
        (DRAIN,),
    ),
    Mutant(
        "drain waits for ever", "G12 trap 19", DISPATCHER,
        "            if record.worker is not None:\n                self.interrupt(record, by, now)\n",
        "            pass\n",
        (DRAIN,),
    ),
    Mutant(
        "an id is remembered before its message", "trap 2", INTAKE,
        "            if isinstance(verdict, Wait):\n",
        "            if admission.window is not None:\n"
        "                admission.window.put((message.tenant, message.id), Any, now)\n"
        "            if isinstance(verdict, Wait):\n",
        (ASKING,),
    ),
    # -- cancellation ----------------------------------------------------------------------------
    Mutant(
        "a cancelled turn keeps its lane", "G10 trap 5", DISPATCHER,
        "        self.scheduler.cancel(record, now)\n        self.end(record, Cancelled(by), now)\n",
        "        self.end(record, Cancelled(by), now)\n",
        (ASKING, CANCELLATION),
    ),
    Mutant(
        "a cancelled sender stays in line", "G10 trap 5", "_line.py",
        "            self.senders.remove(sender)\n            # Whoever",
        "            # Whoever",
        (OVERFLOW, CANCELLATION),
    ),
    Mutant(
        "a session is never left", "G10", DISPATCHER,
        "        self.sessions.leave(session, now)\n",
        "",
        ("tests/manager/test_sessions.py",),
    ),
    Mutant(
        "a spent scope is used again", "G10", "_worker.py",
        "                    worker.scope = trio.CancelScope(shield=True)\n",
        "",
        ("tests/manager/test_workers.py", RETRIES),
    ),
    Mutant(
        "a turn cancelled before its first step runs", "G10", "_worker.py",
        "            if record.cancel_by is not None:\n                # Cancelled before",
        "            if record.cancel_by == 1:\n                # Cancelled before",
        (ASKING,),
    ),
    # -- retries, rate limit ---------------------------------------------------------------------
    Mutant(
        "permanent errors are tried again", "trap 9", "_attempts.py",
        "        if isinstance(error, Permanent):\n            return None\n        policy",
        "        policy",
        (RETRIES,),
    ),
    Mutant(
        "nothing tells a retry from a first attempt", "trap 25", DISPATCHER,
        "        record.attempt += 1\n",
        "        record.attempt = 1\n",
        (RETRIES,),
    ),
    Mutant(
        "a refused message gets no moderation", "trap 18", INTAKE,
        "                for side, urgency in sides:\n"
        "                    self._accept_side(side, message, urgency, barred, now)\n",
        "",
        (ROUTING,),
    ),
)  # fmt: skip
