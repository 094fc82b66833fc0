"""Bugs planted in the trends: what happened lately must be told of the right second."""

from __future__ import annotations

from .manager import DISPATCHER
from .mutant import Mutant

CORE = "_core/trends.py"
CORE_TESTS = ("tests/core/test_trends.py",)
MANAGER_TESTS = ("tests/manager/test_trends.py",)
CLOSE = "        if now >= self._timeline.edge:\n            self.recorder.close(now)\n"

TRENDS = (
    # -- rows ------------------------------------------------------------------------------------
    Mutant(
        "a second includes its end", "trends", CORE,
        "        if now < self.edge:\n",
        "        if now <= self.edge:\n",
        CORE_TESTS,
    ),
    Mutant(
        "silence repeats the past", "trends", CORE,
        "        _extend(self._seconds, (*_NO_COUNTS, *_NO_WAITS, *gauges, memory, cpu), closed - 1)\n",
        "        _extend(self._seconds, (*counts, *_NO_WAITS, *gauges, memory, cpu), closed - 1)\n",
        CORE_TESTS,
    ),
    Mutant(
        "a silence is a second too long", "trends", CORE,
        "*gauges, memory, cpu), closed - 1)\n",
        "*gauges, memory, cpu), closed)\n",
        CORE_TESTS,
    ),
    Mutant(
        "waits are counted twice", "trends", "_core/histogram.py",
        "            before[:] = now\n",
        "            before[:] = before\n",
        CORE_TESTS,
    ),
    Mutant(
        "a minute of its last waits", "trends", CORE,
        "                own.merge(other)\n",
        "                own.__init__()  # type: ignore[misc]\n                own.merge(other)\n",
        CORE_TESTS,
    ),
    Mutant(
        "a minute of its last gauges", "trends", CORE,
        "        self.gauges = tuple(map(max, self.gauges, gauges))\n",
        "        self.gauges = gauges\n",
        CORE_TESTS,
    ),
    Mutant(
        "a minute forgets its silence", "trends", CORE,
        "            if begun:\n                self._minute.add(gauges, memory, cpu * begun)\n",
        "",
        CORE_TESTS,
    ),
    # -- who closes them -------------------------------------------------------------------------
    Mutant(
        "an arrival a second too early", "trends", "_intake.py",
        "        if now >= self._timeline.edge:\n            self._dispatcher.recorder.close(now)\n",
        "",
        MANAGER_TESTS,
    ),
    Mutant(
        "an end a second too early", "trends", DISPATCHER,
        'happens. O(log n)."""\n' + CLOSE,
        'happens. O(log n)."""\n',
        MANAGER_TESTS,
    ),
    Mutant(
        "a start a second too early", "trends", DISPATCHER,
        '(law G7). O(log n) each."""\n' + CLOSE,
        '(law G7). O(log n) each."""\n',
        MANAGER_TESTS,
    ),
    Mutant(
        "a retry a second too early", "trends", "_attempts.py",
        "        self._dispatcher.recorder.close(now)\n        record.ledger.move(RUNNING, RETRYING)\n",
        "        record.ledger.move(RUNNING, RETRYING)\n",
        MANAGER_TESTS,
    ),
    Mutant(
        "a preemption a second too early", "trends preempt", "_attempts.py",
        "            self._dispatcher.recorder.close(now)\n"
        "            record.ledger.move(RUNNING, WAITING)\n",
        "            record.ledger.move(RUNNING, WAITING)\n",
        MANAGER_TESTS,
    ),
    Mutant(
        "side turns without slots", "trends", "_trends.py",
        "        slots = places[RUNNING] + sides.places[RUNNING]\n",
        "        slots = places[RUNNING]\n",
        MANAGER_TESTS,
    ),
    Mutant(
        "looking closes nothing", "trends", "_trends.py",
        "        self.close(now)\n        return",
        "        return",
        MANAGER_TESTS,
    ),
)  # fmt: skip
