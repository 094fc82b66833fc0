"""Bugs planted in what an overload needs, in the limits of tenants, and in what messages of one turn own."""

from __future__ import annotations

from .manager import DISPATCHER
from .mutant import Mutant

CORE = "tests/core/test_overload.py"
SHEDDING = "tests/manager/test_shedding.py"
TENANTS = "tests/manager/test_tenants.py"
READY = "tests/core/test_ready.py"
APART = "tests/turns/test_merged_apart.py"

OVERLOAD = "_core/overload.py"
WATCH = "_overload.py"
LANES = "_core/ready.py"
ADMISSION = "_core/admission.py"
CHANGES = "_changes.py"

SHEDDING_AND_TENANTS = (
    # -- shedding --------------------------------------------------------------------------------
    Mutant(
        "the longest delay counts",
        "overload",
        OVERLOAD,
        "        if delay < self._least[klass]:\n",
        "        if not delay < self._least[klass] < 1e9:\n",
        (CORE,),
    ),
    Mutant(
        "normal goes before low",
        "overload",
        OVERLOAD,
        "        groups = self.level - STEPS * (LOW - priority)\n",
        "        groups = self.level - STEPS * (priority - _NORMAL)\n",
        (CORE,),
    ),
    Mutant(
        "always the same users",
        "overload",
        OVERLOAD,
        "epoch = floor(now / self._policy.rotate)",
        "epoch = 0",
        (CORE,),
    ),
    Mutant(
        "the level sinks below what the load needs",
        "overload",
        OVERLOAD,
        "        elif self.level > needed:\n",
        "        elif self.level:\n            needed = 0\n",
        (CORE,),
    ),
    Mutant(
        "a stall is not seen",
        "overload",
        OVERLOAD,
        "        return (now - self._stalled[klass]) / target\n",
        "        return 0.0\n",
        (CORE,),
    ),
    Mutant(
        "the load ends and nobody judges it",
        "overload",
        OVERLOAD,
        "if self.level or any(ready) else INF",
        "if any(ready) else INF",
        (CORE,),
    ),
    Mutant(
        "a free slot is refused",
        "G7",
        WATCH,
        "            return None\n        core.waits(now)\n",
        "            pass\n        core.waits(now)\n",
        (SHEDDING,),
    ),
    Mutant(
        "what waits is never swept",
        "overload",
        WATCH,
        "            if core.gives_up(klass, message.tenant",
        "            if False and core.gives_up(klass, message.tenant",
        (SHEDDING,),
    ),
    Mutant(
        "what an urgent message lifted is swept",
        "overload",
        WATCH,
        "            if entry.arrived > too_long or lifted:\n",
        "            if entry.arrived > too_long:\n",
        (SHEDDING,),
    ),
    Mutant(
        "the delay counts the conversation's own turn",
        "overload",
        LANES,
        "        else:\n            lane.since = now\n",
        "",
        (READY,),
    ),
    # -- tenants ---------------------------------------------------------------------------------
    Mutant(
        "one more slot than the tenant's",
        "tenants",
        LANES,
        "        if used < limit or tenant in self.full:\n",
        "        if used <= limit or tenant in self.full:\n",
        (TENANTS,),
    ),
    Mutant(
        "a tenant's slot is not given back",
        "G10",
        LANES,
        "        self.used[tenant] -= 1\n",
        "        pass\n",
        (TENANTS,),
    ),
    Mutant(
        "a tenant that was held is not let in again",
        "G7",
        LANES,
        "                queue.join(group, self._charges.share(group))\n"
        "                self.count += group.lanes.size\n",
        "                pass\n",
        (TENANTS,),
    ),
    Mutant(
        "one end lets only one turn start",
        "G7",
        DISPATCHER,
        "        if scheduler.ready.limited and scheduler.ready.count:\n            self._fill(now)\n",
        "",
        (TENANTS,),
    ),
    Mutant(
        "starts at once over the tenant's limit",
        "tenants",
        "_core/scheduler.py",
        "            if free and not (self.ready.limited and entry.tenant in self.ready.full):\n",
        "            if free:\n",
        (TENANTS,),
    ),
    Mutant(
        "a share of the queue is nobody's",
        "G8",
        ADMISSION,
        "        return waiting + more >= places and places < self.scheduler.queue_limit\n",
        "        return False\n",
        (TENANTS,),
    ),
    Mutant(
        "another tenant's message makes room",
        "tenants",
        ADMISSION,
        "            victim = self.scheduler.victim(priority, message.tenant)\n",
        "            victim = self.scheduler.victim(priority)\n",
        (TENANTS,),
    ),
    # -- messages that share a turn --------------------------------------------------------------
    Mutant(
        "who joined expires with the host",
        "G1",
        DISPATCHER,
        "            if record.extras is not None and record.extras.members:\n"
        "                self.changes.expire(record, now)\n            else:\n                self.degrade",
        "            if True:\n                self.degrade",
        (APART,),
    ),
    Mutant(
        "an impatient message waits with the rest",
        "expiry",
        CHANGES,
        "        if record.expires < host.expires:\n",
        "        if False:\n",
        (APART,),
    ),
    Mutant(
        "the turn ends with the first that cannot wait",
        "expiry",
        CHANGES,
        "        host.useless = max(host.useless, record.useless)\n",
        "",
        (APART,),
    ),
    Mutant(
        "a retraction takes everybody's reply",
        "retract",
        CHANGES,
        "        if turn.extras is not None and turn.extras.answered > 1:\n",
        "        if False:\n",
        (APART,),
    ),
    Mutant(
        "stop forgets who waits at the door",
        "trap 8",
        "_corrections.py",
        "dismissed = self._intake.line.dismiss(conversation, self._now())",
        "dismissed = 0",
        ("tests/turns/test_stop.py",),
    ),
    Mutant(
        "stop ends the moderation",
        "trap 18",
        CHANGES,
        "        return [record for record in records if self._answers(record)]\n",
        "        return list(records)\n",
        ("tests/turns/test_stop.py",),
    ),
    Mutant(
        "two tasks say a piece twice",
        "trap 25",
        "_turn.py",
        "        async with extras.speaking:\n",
        "        if True:\n",
        ("tests/turns/test_streaming_tasks.py",),
    ),
)
