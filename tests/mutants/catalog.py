"""The planted bugs: data only. To add one, append a `Mutant`; its texts must be found exactly once.

`tests` are pytest selections of which at least one must fail; name the ones that guard the law, and no
more: they run for every mutant.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One bug.

    Attributes:
        name: unique.
        law: the law it breaks, or the trap it falls into.
        file: relative to `src/ccm`.
        old: text that occurs exactly once in the file.
        new: what stands there instead.
        tests: where it must be noticed.
        slow: left out unless asked for.
    """

    name: str
    law: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    slow: bool = False


MACHINE = "tests/core/test_scheduler_machine.py"
EXAMPLES = "tests/core/test_scheduler_examples.py"
FAIRNESS = "tests/core/test_scheduler_fairness.py"
COSTS = "tests/core/test_scheduler_costs.py"
FAIR = "tests/core/test_fair.py"
ADMISSION = "tests/core/test_admission.py"

SCHEDULER = "_core/scheduler.py"
LANES = "_core/lanes.py"

CORE = (
    # -- order, capacity, priority ---------------------------------------------------------------
    Mutant(
        "re-enter a busy lane", "G2", SCHEDULER,
        "        if lane.running is None:\n            self._refresh(lane, now)\n        return False\n",
        "        self._refresh(lane, now)\n        return False\n",
        (MACHINE,),
    ),
    Mutant(
        "newest first in a lane", "G2", SCHEDULER,
        "entry: Entry = lane.head  # type: ignore[assignment]\n        self._unqueue",
        "entry: Entry = lane.tail  # type: ignore[assignment]\n        self._unqueue",
        (EXAMPLES,),
    ),
    Mutant(
        "retry at the tail", "G2", SCHEDULER,
        "        lane.insert(entry)\n",
        "        lane.append(entry)\n",
        (EXAMPLES,),
    ),
    Mutant(
        "slot not freed", "G3 G10", SCHEDULER,
        "        self.used -= 1\n",
        "",
        (EXAMPLES,),
    ),
    Mutant(
        "one slot too many", "G3", SCHEDULER,
        "tuple(limit - h for h in headroom)",
        "tuple(limit - h + 1 for h in headroom)",
        (MACHINE,),
    ),
    Mutant(
        "headroom ignored", "G3", SCHEDULER,
        "tuple(limit - h for h in headroom)",
        "tuple(limit for h in headroom)",
        (MACHINE,),
    ),
    Mutant(
        "no inheritance", "G4", LANES,
        "        if self.size > 1:\n",
        "        if self.size < 1:\n",
        (MACHINE,),
    ),
    Mutant(
        "a lifted lane does not sink", "G4", SCHEDULER,
        "if lane.klass == klass and lane.group.tenant == tenant:",
        "if lane.klass <= klass and lane.group.tenant == tenant:",
        (MACHINE,),
    ),
    # -- fairness, starvation --------------------------------------------------------------------
    Mutant(
        "virtual time stands still", "G5 G6", "_core/fair.py",
        "            self._virtual = entry[0]\n",
        "            self._virtual = 0.0\n",
        (FAIR,),
    ),
    Mutant(
        "joins at the virtual time", "G5 G6", "_core/fair.py",
        "        tag = self._virtual + share\n",
        "        tag = self._virtual\n",
        (FAIR,),
    ),
    Mutant(
        "weights ignored", "G5", SCHEDULER,
        "        return cost / group.weight\n",
        "        return cost\n",
        (FAIRNESS,),
    ),
    Mutant(
        "a tenant is not charged", "G5", SCHEDULER,
        "            tenants.join(group, self._tenant_share(group))\n        lane.group = None\n",
        "            tenants.join(group, 0.0)\n        lane.group = None\n",
        (FAIRNESS,),
    ),
    Mutant(
        "a burst counts as many lanes", "G5", SCHEDULER,
        "lane.debt = count - 1.0",
        "lane.debt = 0.0",
        (FAIRNESS,),
    ),
    Mutant(
        "uncharged turns are corrected", "G5", SCHEDULER,
        "                    self._uncharged.add(entry.id)\n                return True\n",
        "                    pass\n                return True\n",
        (FAIRNESS,),
    ),
    Mutant(
        "no ageing", "G6", LANES,
        "        if klass <= HIGH:\n",
        "        if klass <= LOW:\n",
        (FAIRNESS,),
    ),
    Mutant(
        "ageing up to CRITICAL", "G6", LANES,
        "            return HIGH, INF\n",
        "            return HIGH - 1, INF\n",
        (EXAMPLES,),
    ),
    Mutant(
        "ageing by a rounded quotient", "G6", LANES,
        "        if now < lift:\n",
        "        if now - head.arrived < ageing:\n",
        (EXAMPLES,),
    ),
    # -- work conservation, expiry ---------------------------------------------------------------
    Mutant(
        "a lane is forgotten after a turn", "G7", SCHEDULER,
        "        if lane.head is not None:\n            self._refresh(lane, now)\n        else:\n",
        "        if lane.head is not None:\n            pass\n        else:\n",
        (EXAMPLES,),
    ),
    Mutant(
        "expires only when its turn comes", "max_wait", SCHEDULER,
        "            self._remind(entry.expires, entry)\n        if lane.running",
        "            pass\n        if lane.running",
        (EXAMPLES,),
    ),
    Mutant(
        "starts although expired", "max_wait", SCHEDULER,
        "and entry.not_before <= now and now < entry.expires:",
        "and entry.not_before <= now:",
        (MACHINE,),
    ),
    Mutant(
        "retry before its time", "retry", SCHEDULER,
        "        if head.not_before > now:\n",
        "        if head.not_before > now + 1e9:\n",
        (EXAMPLES,),
    ),
    # -- bounds ----------------------------------------------------------------------------------
    Mutant(
        "the victim is the oldest", "G8", SCHEDULER,
        "queued[next(reversed(queued))]",
        "queued[next(iter(queued))]",
        (EXAMPLES,),
    ),
    Mutant(
        "a preempted turn is the youngest", "G8", SCHEDULER,
        "        for other in younger:\n",
        "        for other in younger[:0]:\n",
        (EXAMPLES,),
    ),
    Mutant(
        "stale timers stay", "G8", "_core/timers.py",
        "        if len(heap) > 2 * live + _SLACK:\n",
        "        if len(heap) < 0:\n",
        (COSTS, "tests/core/test_timers.py"),
    ),
    Mutant(
        "entries of those who left stay", "G8", "_core/fair.py",
        "        elif self.kept > 2 * self.size + self._SLACK:\n",
        "        elif self.kept < 0:\n",
        (FAIR,),
    ),
    Mutant(
        "one conversation turn too many", "G8", SCHEDULER,
        "+ loose < self.conversation_limit",
        "+ loose <= self.conversation_limit",
        (EXAMPLES,),
    ),
    Mutant(
        "one waiting turn too many", "G8", "_core/admission.py",
        "scheduler.waiting >= scheduler.queue_limit",
        "scheduler.waiting > scheduler.queue_limit",
        (ADMISSION,),
    ),
    Mutant(
        "senders are overtaken", "WAIT", "_core/admission.py",
        "        if self.senders:\n            return _WAIT\n",
        "",
        (ADMISSION,),
    ),
    Mutant(
        "moderation is rate limited", "trap 18", "_core/admission.py",
        "        if limited:\n",
        "        if limited or message.user:\n",
        (ADMISSION,),
    ),
    Mutant(
        "what is refused counts for the rate", "rate limit", "_core/admission.py",
        "ask = self.limiter.take if comes_in else self.limiter.check",
        "ask = self.limiter.take",
        (ADMISSION,),
    ),
    Mutant(
        "the rate is not counted", "rate limit", "_core/admission.py",
        "ask = self.limiter.take if comes_in else self.limiter.check",
        "ask = self.limiter.check",
        (ADMISSION,),
    ),
    Mutant(
        "ids are shared by tenants", "dedupe", "_core/admission.py",
        "self.window.get((message.tenant, message.id), now)",
        'self.window.get(("t", message.id), now)',
        (ADMISSION,),
    ),
    Mutant(
        "retry_after is too short", "rate limit", "_core/ratelimit.py",
        "            wait = nextafter(wait, inf)\n        return wait\n",
        "            wait = nextafter(wait, inf)\n        return wait / 2\n",
        ("tests/core/test_ratelimit.py", ADMISSION),
    ),
    Mutant(
        "sessions evict an active one", "G8", "_core/sessions.py",
        "            evicted, session = self._idle.popitem(last=False)\n",
        "            evicted, session = next(iter(self._sessions.items()))\n",
        ("tests/core/test_sessions.py",),
    ),
    # -- the books, routes -----------------------------------------------------------------------
    Mutant(
        "an outcome is not counted", "G1", "_core/ledger.py",
        "        self.outcomes[outcome] += 1\n",
        "",
        ("tests/core/test_ledger.py",),
    ),
    Mutant(
        "two routes answer", "G1", "_core/routes.py",
        "        if route.answers and main is not None:\n",
        "        if route.answers and main is route:\n",
        ("tests/core/test_routes.py",),
    ),
)  # fmt: skip

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
        "        await checkpoint_if_cancelled()\n"
        "        record = self._accept(message, self._now(), asked=False)\n",
        "        await cancel_shielded_checkpoint()\n"
        "        record = self._accept(message, self._now(), asked=False)\n",
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
        (PRIORITY,),
    ),
    Mutant(
        "one lane for everybody", "G7 trap 11", "_record.py",
        "        self.key = message.conversation\n",
        '        self.key = ""\n',
        (ASKING,),
    ),
    Mutant(
        "to the back without a slot", "G2 trap 21", SCHEDULER,
        "        lane.insert(entry)\n",
        "        lane.append(entry)\n",
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
        "        self._books.messages.reject(refusal.reason)\n",
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
        "        if verdict is not None:\n            if isinstance(verdict, Wait):\n",
        "        if admission.window is not None:\n"
        "            admission.window.put((message.tenant, message.id), Any, now)  # type: ignore[arg-type]\n"
        "        if verdict is not None:\n            if isinstance(verdict, Wait):\n",
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
        "a cancelled sender stays in line", "G10 trap 5", INTAKE,
        "            self.senders.remove(sender)\n",
        "",
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

MUTANTS: tuple[Mutant, ...] = CORE + MANAGER
