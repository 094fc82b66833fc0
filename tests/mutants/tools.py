"""Bugs planted in alerts and in what handlers reach through their turn: pools, contexts, streams."""

from __future__ import annotations

from .mutant import Mutant

CORE_ALERTS = "tests/core/test_alerts.py"
ALERTS = "tests/turns/test_alerts_manager.py"
POOLS = "tests/turns/test_pools.py"
CORE_CACHE = "tests/core/test_cache.py"
CONTEXT = "tests/turns/test_context.py"
CONTEXT_CANCELLED = "tests/turns/test_context_cancelled.py"
STREAMING = "tests/turns/test_streaming.py"

WATCH = "_alerts.py"
BOARD = "_core/alerts.py"
PLACES = "_pools.py"
LOADS = "_context.py"
CACHE = "_core/cache.py"
STREAM = "_streaming.py"

TOOL_BUGS = (
    # -- alerts ----------------------------------------------------------------------------------
    Mutant(
        "an alert flaps", "alerts", BOARD,
        "        keep = 1.0 - hysteresis\n",
        "        keep = 1.0\n",
        (CORE_ALERTS,),
    ),
    Mutant(
        "a level that changes is not told", "alerts", BOARD,
        "        return None if level == before else Change(alert, cleared=False)\n",
        "        return None if held is not None else Change(alert, cleared=False)\n",
        (CORE_ALERTS,),
    ),
    Mutant(
        "what is not known ends an alert", "alerts", BOARD,
        "            held = missing.pop((reading.kind, reading.subject), None)\n",
        "            if reading.value is None:\n                continue\n"
        "            held = missing.pop((reading.kind, reading.subject), None)\n",
        (CORE_ALERTS,),
    ),
    Mutant(
        "the window forgets its oldest second", "alerts", BOARD,
        "samples[1][0] <= now - self._seconds",
        "samples[0][0] <= now - self._seconds",
        (CORE_ALERTS,),
    ),
    Mutant(
        "an error rate of too few turns", "alerts", WATCH,
        "        few = 0 < ended < self._rules.least\n",
        "        few = False\n",
        (ALERTS,),
    ),
    Mutant(
        "refused messages dilute the error rate", "alerts", WATCH,
        '            ended += sum(outcomes.values()) - outcomes["rejected"]\n',
        "            ended += sum(outcomes.values())\n",
        (ALERTS,),
    ),
    Mutant(
        "routes that do not answer are not judged", "alerts", WATCH,
        "(self._dispatcher.books.messages, self._dispatcher.books.sides)",
        "(self._dispatcher.books.messages,)",
        (ALERTS,),
    ),
    Mutant(
        "a fallback that does not end is not seen", "alerts", WATCH,
        "[*dispatcher.scheduler.running.values(), *dispatcher.fallbacks.values()]",
        "[*dispatcher.scheduler.running.values()]",
        (ALERTS,),
    ),
    Mutant(
        "a callback that hangs blinds the watch", "alerts", WATCH,
        "            with trio.fail_after(CALLBACK_SECONDS):\n                await on_alert(event)\n",
        "            await on_alert(event)\n",
        (ALERTS,),
    ),
    Mutant(
        "readers of events wait for the callback", "alerts", WATCH,
        "        for event in news:\n            bus.publish(event)\n        if self._on_alert is not None:\n"
        "            for event in news:\n                await self._call(self._on_alert, event)\n",
        "        for event in news:\n            if self._on_alert is not None:\n"
        "                await self._call(self._on_alert, event)\n            bus.publish(event)\n",
        (ALERTS,),
    ),
    Mutant(
        "a limited user raises an alert of overload", "alerts", WATCH,
        "(Reason.OVERLOADED, Reason.TOO_MANY_SESSIONS)",
        "(Reason.OVERLOADED, Reason.TOO_MANY_SESSIONS, Reason.RATE_LIMITED)",
        (ALERTS,),
    ),
    Mutant(
        "what expires is no overload", "alerts", WATCH,
        'outcomes["shed"] + outcomes["expired"] + refused',
        'outcomes["shed"] + refused',
        (ALERTS,),
    ),
    # -- pools -----------------------------------------------------------------------------------
    Mutant(
        "each call has places of its own", "G8 pools", PLACES,
        "    @cached_property\n    def threads(",
        "    @property\n    def threads(",
        (POOLS,),
    ),
    Mutant(
        "a hung thread holds its turn", "G10 pools", PLACES,
        "abandon_on_cancel=True",
        "abandon_on_cancel=False",
        (f"{POOLS}::test_an_abandoned_thread_keeps_its_place_until_it_has_ended",),
        slow=True,
    ),
    Mutant(
        "a dead worker breaks the other calls", "pools", PLACES,
        "        except self._broken as error:\n            raise _died(error, fn) from error\n",
        "        except self._broken as error:\n            await self._exits.aclose()\n"
        "            self._workers = None\n            raise _died(error, fn) from error\n",
        (POOLS,),
    ),
    Mutant(
        "a process outlives the call that left", "G10 pools", PLACES,
        "        for scope in self._strays:\n            scope.cancel()\n",
        "",
        (f"{POOLS}::test_a_call_from_outside_of_its_turn_ends_with_the_manager",),
        slow=True,
    ),
    Mutant(
        "calls from outside pile up", "G8 pools", PLACES,
        "            finally:\n                del self._strays[scope]\n",
        "            finally:\n                pass\n",
        (POOLS,),
    ),
    Mutant(
        "a closed manager starts processes", "G12 pools", PLACES,
        "        self._closed = True\n",
        "",
        (POOLS,),
    ),
    # -- contexts --------------------------------------------------------------------------------
    Mutant(
        "a load is kept although it was invalidated", "context", CACHE,
        "        if slot.flight is flight:\n            slot.flight = None\n            if value is None:\n",
        "        if slot.flight is flight or slot.flight is None:\n"
        "            slot.flight = None\n            if value is None:\n",
        (CORE_CACHE,),
    ),
    Mutant(
        "an invalidation is joined by later callers", "context", CACHE,
        "        for slot in slots:\n            slot.flight = None\n",
        "        for slot in slots:\n",
        (CORE_CACHE,),
    ),
    Mutant(
        "a value that was invalidated serves", "context", CACHE,
        "        slot.value, slot.loaded = None, -inf\n",
        "        pass\n",
        (CORE_CACHE,),
    ),
    Mutant(
        "the last in line takes over a load", "context", CACHE,
        "        for heir in flight.waiters:\n",
        "        for heir in reversed(flight.waiters):\n",
        (CORE_CACHE,),
    ),
    Mutant(
        "only short circles of loads are seen", "context", CACHE,
        "        while ahead is not None:\n            if ahead.leader == caller:\n",
        "        if ahead is not None:\n            if ahead.leader == caller:\n",
        (CORE_CACHE,),
    ),
    Mutant(
        "a cancelled load leaves its waiters asleep", "G10 context", LOADS,
        "        except BaseException:\n            self._hand_over(flight)\n            raise\n",
        "",
        (CONTEXT_CANCELLED,),
    ),
    Mutant(
        "the error of a cancelled load is for all", "G10 context", LOADS,
        "            if flight.waiters and trio.current_effective_deadline() == -inf:\n",
        "            if flight.waiters and trio.current_effective_deadline() == 0.0:\n",
        (CONTEXT_CANCELLED,),
    ),
    Mutant(
        "no time to live is the usual one", "context", LOADS,
        "fresh = self._ttl if ttl is None else _seconds(ttl)",
        "fresh = _seconds(ttl or self._ttl)",
        (CONTEXT,),
    ),
    Mutant(
        "a prefix is found anywhere in a name", "context", LOADS,
        "known.startswith(start)",
        "start in known",
        (CONTEXT,),
    ),
    Mutant(
        "contexts outlive their session", "G8 context", LOADS,
        "            session.context = _Kept(cache, session.conversation)\n",
        "            session.context = None\n",
        (CONTEXT,),
    ),
    Mutant(
        "the end of a session clears all contexts", "context", LOADS,
        "        self._cache.forget_conversation(self._conversation)\n",
        "        self._cache.forget_where(lambda _: True)\n",
        (CONTEXT,),
    ),
    # -- streams ---------------------------------------------------------------------------------
    Mutant(
        "the text is doubled after Restarted", "trap 25", STREAM,
        "            self._seen.clear()\n",
        "            pass\n",
        (STREAMING,),
    ),
    Mutant(
        "every piece of a retry starts over", "trap 25", STREAM,
        "            self._void = False\n            for text",
        "            for text",
        (STREAMING,),
    ),
    Mutant(
        "who joins late reads half of the answer", "trap 13", STREAM,
        "(*before[len(self._sent) :], piece)",
        "(piece,)",
        (STREAMING,),
    ),
    Mutant(
        "a piece nobody read counts as read", "streams", STREAM,
        "                await self._send.send(text)\n                self._sent.append(text)\n",
        "                self._sent.append(text)\n                await self._send.send(text)\n",
        (STREAMING,),
    ),
    Mutant(
        "the end of an answer that was not sent is lost", "streams", STREAM,
        "            elif answer != said:\n                self._tail = [answer[len(said) :]]\n",
        "",
        (STREAMING,),
    ),
    Mutant(
        "who joined a turn reads only what was sent", "trap 13", STREAM,
        "isinstance(outcome, (Replied, Merged))",
        "isinstance(outcome, Replied)",
        (STREAMING,),
    ),
    Mutant(
        "a restart shows the wrong attempt", "trap 25", STREAM,
        "Restarted(max(record.attempt, self._attempt))",
        "Restarted(self._attempt)",
        (STREAMING,),
    ),
)  # fmt: skip
