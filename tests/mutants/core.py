"""Bugs planted in the pure cores."""

from __future__ import annotations

from .mutant import Mutant

MACHINE = "tests/core/test_scheduler_machine.py"
EXAMPLES = "tests/core/test_scheduler_examples.py"
FAIRNESS = "tests/core/test_scheduler_fairness.py"
COSTS = "tests/core/test_scheduler_costs.py"
FAIR = "tests/core/test_fair.py"
ADMISSION = "tests/core/test_admission.py"
GIVEN_BACK = "tests/core/test_ratelimit_given_back.py"

READY = "_core/ready.py"
SCHEDULER = "_core/scheduler.py"
LANES = "_core/lanes.py"
RATES = "_core/ratelimit.py"

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
        "        lane.insert(entry)\n        if not entry.ordered:\n",
        "        lane.append(entry)\n        if not entry.ordered:\n",
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
        "a lifted lane does not sink", "G4", READY,
        "if lane.klass == klass and lane.group.tenant == tenant:",
        "if lane.klass <= klass and lane.group.tenant == tenant:",
        ("tests/core/test_ready.py", MACHINE),
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
        "weights ignored", "G5", "_core/charges.py",
        "            return 1.0 / group.weight\n",
        "            return 1.0\n",
        (FAIRNESS,),
    ),
    Mutant(
        "a tenant is not charged", "G5", READY,
        "            queue.join(group, self._charges.share(group))\n        lane.group = None\n",
        "            queue.join(group, 0.0)\n        lane.group = None\n",
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
        "                    self._charges.uncharged.add(entry.id)\n                if self.ready.limited:\n",
        "                    pass\n                if self.ready.limited:\n",
        (f"{FAIRNESS}::test_seconds_nobody_competed_for_are_not_charged",),
    ),
    Mutant(
        "no ageing", "G6", LANES,
        "        if klass <= HIGH:\n",
        "        if klass <= LOW:\n",
        (f"{FAIRNESS}::test_g6_an_aged_lane_is_served_within_a_bound",),
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
        "        lane.append(entry)\n        if entry.expires < INF:\n",
        "        lane.append(entry)\n        if entry.expires < 0.0:\n",
        (EXAMPLES,),
    ),
    Mutant(
        "starts although expired", "max_wait", SCHEDULER,
        "and entry.not_before <= now and now < entry.expires\n",
        "and entry.not_before <= now\n",
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
        "an inserted turn goes to the tail", "G2", SCHEDULER,
        "        lane.insert(entry)\n        if entry.expires < INF:\n",
        "        lane.append(entry)\n        if entry.expires < INF:\n",
        (MACHINE, "tests/turns/test_merged_apart.py", "tests/turns/test_busy.py"),
    ),
    Mutant(
        "a promoted turn does not lift its lane", "G4", SCHEDULER,
        "+= 1\n        self._sort_in(entry)\n        if lane.running is None:\n",
        "+= 1\n        self._sort_in(entry)\n        if lane.head is None:\n",
        (MACHINE,),
    ),
    Mutant(
        "the victim is the oldest", "G8", SCHEDULER,
        "for entry in reversed(self._queued[klass].values()):",
        "for entry in self._queued[klass].values():",
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
        ("tests/core/test_timers.py", COSTS),
    ),
    Mutant(
        "entries of those who left stay", "G8", "_core/fair.py",
        "        elif self.kept > 2 * self.size + self._SLACK:\n",
        "        elif self.kept < 0:\n",
        (FAIR,),
    ),
    Mutant(
        "one conversation turn too many", "G8", SCHEDULER,
        "+ loose + more < self.conversation_limit",
        "+ loose + more <= self.conversation_limit",
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
        "what is given back goes on counting", "rate limit", RATES,
        "            log.take_out(release)\n",
        "",
        (GIVEN_BACK,),
    ),
    Mutant(
        "the oldest event is given back for another", "rate limit", RATES,
        "        self.remove(release)\n",
        "        self.pop(0)\n",
        (GIVEN_BACK,),
    ),
    Mutant(
        "giving back mixes up the times of the others", "rate limit", RATES,
        "        self[:] = self[self.head :] + self[: self.head]\n",
        "",
        (GIVEN_BACK,),
    ),
    Mutant(
        "an event that is over takes another with it", "rate limit", RATES,
        "            if log == release:\n",
        "            if log is not None:\n",
        (GIVEN_BACK,),
    ),
    Mutant(
        "who gave back is counted as remembered", "G8", RATES,
        "                del group.logs[key]\n                self._tracked -= 1\n",
        "                del group.logs[key]\n",
        (GIVEN_BACK,),
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
