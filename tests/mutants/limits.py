"""Bugs planted in limits that adapt and in the permits of providers."""

from __future__ import annotations

from .mutant import Mutant

AIMD = "tests/core/test_adaptive.py"
PERMITS = "tests/core/test_permits.py"
TURNS = "tests/turns/test_limits.py"
SLOTS = "tests/manager/test_adaptive_slots.py"

ADAPTIVE = "_core/adaptive.py"
CORE = "_core/permits.py"
LIMITS = "_limits.py"

LIMIT_BUGS = (
    Mutant(
        "grows although it is not used",
        "trap 15",
        ADAPTIVE,
        "        elif self._full:\n",
        "        else:\n",
        (AIMD,),
    ),
    Mutant(
        "time-outs are health",
        "trap 15",
        "_slots.py",
        "            overloaded = True\n            if record.extras is not None",
        "            overloaded = False\n            if record.extras is not None",
        (SLOTS,),
    ),
    Mutant(
        "falls below the floor",
        "adaptive",
        ADAPTIVE,
        "            size = max(self._floor, int(",
        "            size = max(1, int(",
        (AIMD,),
    ),
    Mutant(
        "falls again and again in a window",
        "adaptive",
        ADAPTIVE,
        "int(self._start * (1.0 - self._decrease * self.share))",
        "int(self.limit * (1.0 - self._decrease * self.share))",
        (AIMD,),
    ),
    Mutant(
        "a refused raise is tried at once",
        "adaptive",
        ADAPTIVE,
        "                self._patience = min(2 * self._patience, PATIENCE)\n",
        "                self._patience = 1\n",
        (AIMD,),
    ),
    Mutant(
        "a late refusal shortens the pause",
        "trap 20",
        CORE,
        "        if now + retry_after > self.until:\n",
        "        if True:\n",
        (PERMITS,),
    ),
    Mutant(
        "an answer reopens the pause",
        "trap 20",
        CORE,
        "        if how == FINE:\n",
        "        if how == FINE:\n            self.until = now\n",
        (PERMITS,),
    ),
    Mutant(
        "the last to ask is next",
        "G4",
        CORE,
        "            permit = self._line.pop(0)\n",
        "            permit = self._line.pop()\n",
        (PERMITS,),
    ),
    Mutant(
        "one permit too many",
        "G3",
        CORE,
        "        return trusted and self.used < self._caps[permit.priority]\n",
        "        return trusted and self.used <= self._caps[permit.priority]\n",
        (PERMITS,),
    ),
    Mutant(
        "a storm after the outage",
        "trap 20",
        CORE,
        "        trusted = not self._careful or self._trials < self._few\n",
        "        trusted = True\n",
        (PERMITS,),
    ),
    Mutant(
        "a cancelled waiter stays in line",
        "G10",
        LIMITS,
        "            self.permits.give_up(self)\n",
        "",
        (TURNS,),
    ),
    Mutant(
        "who was handed a permit sleeps on",
        "G7",
        LIMITS,
        "            reschedule(other.waiter())\n",
        "            pass\n",
        (TURNS,),
        slow=True,  # it hangs, until the time is over
    ),
    Mutant(
        "keys in any order",
        "deadlock",
        LIMITS,
        "            if block.key > self.key:\n",
        "            if False:\n",
        ("tests/turns/test_limits_nested.py",),
    ),
    Mutant(
        "waiting for a permit times out",
        "adaptive",
        LIMITS,
        "            record.deadline = record.useless\n",
        "            pass\n",
        (TURNS,),
    ),
    Mutant(
        "held back for so long that it fails",
        "trap 9",
        "_attempts.py",
        "            if error._alike and error.retry_after > 0.0:\n",
        "            if False:\n",
        (TURNS,),
    ),
    Mutant(
        "a raise starts one turn only",
        "G7",
        "_slots.py",
        "        dispatcher.dispatch(now)\n",
        "        pass\n",
        (SLOTS,),
    ),
    Mutant(
        "a decrease starts nobody",
        "G7",
        "_slots.py",
        "        dispatcher.dispatch(now)\n",
        "        if limit > before:\n            dispatcher.dispatch(now)\n",
        (SLOTS,),
    ),
)
