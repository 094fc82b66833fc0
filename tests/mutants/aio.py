"""Bugs planted in the manager for asyncio: cancellation both ways, its end, errors, threads."""

from __future__ import annotations

from .mutant import Mutant

TESTS = ("tests/aio/test_aio.py",)
THREAD_TESTS = (f"{TESTS[0]}::test_other_threads_wake_the_loop_before_they_hand_over",)
BRIDGE = "aio/_bridge.py"
MANAGER = "aio/_manager.py"
OPENING = "aio/_opening.py"

AIO_BUGS = (
    Mutant(
        "cancelling who asks leaves the turn", "aio", BRIDGE,
        "        return (await _ended(done, scope.cancel)).unwrap()\n",
        "        return (await _ended(done, bool)).unwrap()\n",
        TESTS,
    ),
    Mutant(
        "a cancelled turn leaves its asyncio task", "aio", BRIDGE,
        "            task.cancel()\n", "            pass\n",
        TESTS,
    ),
    Mutant(
        "the block does not wait for the drain", "aio", OPENING,
        "open_trio_manager(theirs, config=config,",
        "open_trio_manager(theirs, config=(config or Config()).replace(drain=0.0),",
        TESTS,
    ),
    Mutant(
        "an error of the manager is swallowed", "aio", OPENING,
        "            result.unwrap()\n", "            return\n",
        TESTS,
    ),
    Mutant(
        "threads report to a loop that sleeps", "aio", OPENING,
        "run_sync_soon_threadsafe=loop.call_soon_threadsafe,", "run_sync_soon_threadsafe=loop.call_soon,",
        THREAD_TESTS,
    ),
    Mutant(
        "a manager that has ended lets the block wait", "aio", OPENING,
        "            self.interrupt()\n", "            pass\n",
        TESTS,
    ),
    Mutant(
        "the task stays cancelled after an error", "aio", OPENING,
        "                task.uncancel()\n", "                pass\n",
        TESTS,
    ),
    Mutant(
        "an opening that is cancelled leaves its run", "aio", OPENING,
        "            await self.end(None)\n", "            pass\n",
        TESTS,
    ),
    Mutant(
        "places are taken when Trio gets to it", "aio", MANAGER,
        "        found = self.trio._begin(message, asked=True)\n"
        "        return await self._bridge.to_trio(self.trio._answer, found)\n",
        "        return await self._bridge.to_trio(self.trio.ask, message)\n",
        TESTS,
    ),
    Mutant(
        "a stray cancellation looks like an answer", "aio", BRIDGE,
        "                reschedule(waiting, outcome.Error(stray))\n",
        "                reschedule(waiting, outcome.Value(None))\n",
        TESTS,
    ),
    Mutant(
        "a closed manager is asked all the same", "aio", BRIDGE,
        "        if self.nursery is None:\n            raise", "        if False:\n            raise",
        TESTS,
    ),
    Mutant(
        "leaving a stream early leaves its turn", "aio", MANAGER,
        "            yield self._each(chunks.__anext__)\n        finally:\n"
        "            await self._bridge.to_trio(block.__aexit__, None, None, None)\n",
        "            yield self._each(chunks.__anext__)\n        finally:\n            pass\n",
        TESTS,
    ),
    Mutant(
        "a limit does not hear of what left its block", "aio", "aio/_turn.py",
        "permit.__aexit__, type(error), error, error.__traceback__)", "permit.__aexit__, None, None, None)",
        TESTS,
    ),
)  # fmt: skip
