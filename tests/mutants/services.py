"""Bugs planted in services, the cycles they could form, and batches."""

from __future__ import annotations

from .mutant import Mutant

CORE_SERVICE = "tests/core/test_service.py"
SERVICES = "tests/turns/test_services.py"
CANCELLED = "tests/turns/test_services_cancelled.py"
FAILING = "tests/turns/test_services_failing.py"
CORE_BATCH = "tests/core/test_batch.py"
BATCHER = "tests/turns/test_batcher.py"

SHELL = "_services.py"
QUEUE = "_core/service.py"
CYCLES = "_core/cycles.py"
BATCHING = "_batching.py"
BATCH = "_core/batch.py"

SERVICE_BUGS = (
    # -- which item is next ----------------------------------------------------------------------
    Mutant(
        "the class of an item is ignored", "services", QUEUE,
        "heappush(self._heap, (item.priority, item.id, item))",
        "heappush(self._heap, (0, item.id, item))",
        (CORE_SERVICE,),
    ),
    Mutant(
        "an item tried again goes to the tail", "services", QUEUE,
        "            del self._retrying[item.id]\n            self._waiting.push(item)\n",
        "            del self._retrying[item.id]\n"
        "            self._ids += 1\n            item.id = self._ids\n            self._waiting.push(item)\n",
        (CORE_SERVICE,),
    ),
    Mutant(
        "a new item overtakes senders that wait", "services", QUEUE,
        "        room = self.has_room and not self._senders.size\n",
        "        room = self.has_room\n",
        (CORE_SERVICE,),
    ),
    Mutant(
        "items to be tried again take no room", "G8 services", QUEUE,
        "        return self._waiting.size + len(self._retrying) < self.capacity\n",
        "        return self._waiting.size < self.capacity\n",
        (CORE_SERVICE,),
    ),
    Mutant(
        "a given up item is tried again", "G10 services", QUEUE,
        "            item.wake = INF\n            del self._retrying[item.id]\n",
        "            del self._retrying[item.id]\n",
        (CORE_SERVICE,),
    ),
    Mutant(
        "whoever is busy loses an attempt", "trap 9", QUEUE,
        "        if busy is None:\n            item.failures += 1\n            return",
        "        item.failures += 1\n        if busy is None:\n            return",
        (CORE_SERVICE,),
    ),
    Mutant(
        "waits are counted once for each attempt", "figures", QUEUE,
        "        if item.attempt == 1:\n            self._wait.record(now - item.arrived)\n",
        "        self._wait.record(now - item.arrived)\n",
        (CORE_SERVICE,),
    ),
    # -- wake-ups --------------------------------------------------------------------------------
    Mutant(
        "an earlier retry does not set the alarm", "G7 services", SHELL,
        "        elif deadline < self._alarm.deadline:\n",
        "        elif deadline < 0.0:\n",
        (SERVICES, FAILING),
    ),
    Mutant(
        "the timekeeper looks at one service", "G7 services", SHELL,
        "min(s._queue.next_deadline() for s in self._services.values())",
        "next(s._queue.next_deadline() for s in self._services.values())",
        (SERVICES, FAILING),
    ),
    Mutant(
        "a given up item keeps its place from senders", "G10 trap 5", SHELL,
        "            job.queue.cancel(job, now)\n            self._advance(job.service, now)\n",
        "            job.queue.cancel(job, now)\n",
        (CANCELLED,),
    ),
    Mutant(
        "an instance ends beside a waiting item", "G7 services", SHELL,
        "            job = self._take(service, now)\n            self._advance(service, now)\n",
        "            job = None\n",
        (SERVICES,),
    ),
    Mutant(
        "an admitted call is told at once", "services", SHELL,
        "            if not came.called:\n                self._tell(came)\n",
        "            self._tell(came)\n",
        (SERVICES,),
    ),
    Mutant(
        "the timekeeper ends with the nursery", "G12 services", SHELL,
        "        with trio.CancelScope(shield=True):  # noqa: ASYNC912 - ends",
        "        with trio.CancelScope():  # noqa: ASYNC912 - ends",
        (CANCELLED,),
    ),
    # -- cancellation ----------------------------------------------------------------------------
    Mutant(
        "the item of a cancelled caller goes on", "G10 services", SHELL,
        "            assert job.scope is not None\n            job.scope.cancel()\n        elif",
        "            assert job.scope is not None\n        elif",
        (CANCELLED,),
    ),
    Mutant(
        "a cancelled item that raises is tried again", "G10 services", SHELL,
        "        if job.scope.cancel_called or self._closed:\n",
        "        if self._closed:\n",
        (CANCELLED,),
    ),
    Mutant(
        "services die before the turns that use them", "G12 services", SHELL,
        "            job.scope = trio.CancelScope(shield=True)\n",
        "            job.scope = trio.CancelScope()\n",
        (CANCELLED,),
    ),
    Mutant(
        "a send is cancelled after it was accepted", "G10 services", SHELL,
        "        if self._owner.offer(job, patient=True):\n            await cancel_shielded_checkpoint()\n",
        "        if self._owner.offer(job, patient=True):\n            await checkpoint()\n",
        (CANCELLED,),
    ),
    Mutant(
        "a cancelled send hands in all the same", "G10 services", SHELL,
        "        await checkpoint_if_cancelled()\n"
        "        job = self._job(data, source, priority, called=False)\n",
        "        job = self._job(data, source, priority, called=False)\n",
        (CANCELLED,),
    ),
    Mutant(
        "an instance is at work on its first item for ever", "services", SHELL,
        "            _current.set(job)\n            await self._attempt(job)\n",
        "            if job is first:\n                _current.set(job)\n"
        "            await self._attempt(job)\n",
        (SERVICES, FAILING),
    ),
    Mutant(
        "a service that closes refuses itself", "G12 services", SHELL,
        "        if self._closed or (self._closing and self.holder() is None):\n",
        "        if self._closed or self._closing:\n",
        (SERVICES,),
    ),
    Mutant(
        "a cancelled manager gives its services no time", "G12 services", SHELL,
        "trio.CancelScope(shield=True, deadline=until)",
        "trio.CancelScope(deadline=until)",
        (CANCELLED,),
    ),
    Mutant(
        "services are not closed before the deadline", "G12 services", SHELL,
        "shield=True, deadline=until):\n            await self.wait_idle()\n",
        "shield=True, deadline=until):\n            await trio.sleep_until(until)\n",
        (SERVICES,),
    ),
    Mutant(
        "what ends the program leaves no dead letter", "G1 services", SHELL,
        "        self._bury(job, error)\n        raise error\n",
        "        raise error\n",
        (FAILING,),
    ),
    Mutant(
        "what failed together comes back together", "retry", SHELL,
        "job.queue.fail(job, self._now(), random.random(), busy",
        "job.queue.fail(job, self._now(), 1.0, busy",
        (FAILING,),
    ),
    # -- cycles ----------------------------------------------------------------------------------
    Mutant(
        "a past wait counts for cycles", "services", SHELL,
        "            holder.waits.remove(job)\n",
        "            pass\n",
        (FAILING,),
    ),
    Mutant(
        "a free instance does not break a cycle", "services", CYCLES,
        "    if wanted.state == ENDED or wanted.queue.has_instance:\n",
        "    if wanted.state == ENDED:\n",
        (CORE_SERVICE,),
    ),
    Mutant(
        "another item's instance breaks a cycle", "services", CYCLES,
        "item.queue is wanted.queue and wanted.state != RUNNING:",
        "item.queue is wanted.queue:",
        (CORE_SERVICE,),
    ),
    Mutant(
        "one of several waits suffices", "services", CYCLES,
        "and not any(_stuck(wait, free) for wait in item.waits)",
        "and not (item.waits and all(_stuck(wait, free) for wait in item.waits))",
        (CORE_SERVICE,),
    ),
    # -- batches ---------------------------------------------------------------------------------
    Mutant(
        "a caller joins a fetch under way", "batch", BATCH,
        "        for key in batch.callers:\n            del self._waiting[key]\n        self._running",
        "        self._running",
        (CORE_BATCH,),
    ),
    Mutant(
        "a window is full one key late", "batch", BATCH,
        "            if len(batch.callers) >= self.max_size:\n",
        "            if len(batch.callers) > self.max_size:\n",
        (CORE_BATCH,),
    ),
    Mutant(
        "a batch is lost with its urgent caller", "G7 batch", BATCH,
        "            self._drop(batch)\n        else:\n            self._list(batch)\n",
        "            self._drop(batch)\n",
        (CORE_BATCH,),
    ),
    Mutant(
        "a batch is listed under a class once only", "G7 batch", BATCH,
        "            heappop(heap)\n            batch.listed &= ~(1 << urgency)\n",
        "            heappop(heap)\n",
        (CORE_BATCH,),
    ),
    Mutant(
        "a window that is due overtakes its equals", "batch", BATCH,
        "full.urgency <= batch.urgency",
        "full.urgency < batch.urgency",
        (CORE_BATCH,),
    ),
    Mutant(
        "one key's last caller ends the whole fetch", "G10 batch", BATCH,
        "            return not batch.wanted\n",
        "            return not batch.callers[key]\n",
        (CORE_BATCH, BATCHER),
    ),
    Mutant(
        "a caller that leaves ends the others' fetch", "G10 batch", BATCHING,
        "            if self._queue.leave(ticket):\n",
        "            if self._queue.leave(ticket) or ticket.batch in self._scopes:\n",
        (BATCHER,),
    ),
    Mutant(
        "a key left alone is fetched all the same", "batch", BATCHING,
        "[key for key, callers in batch.callers.items() if callers]",
        "list(batch.callers)",
        (BATCHER,),
    ),
    Mutant(
        "one key's error is given to all", "batch", BATCHING,
        "{key: result[key] if key in result else KeyError(key) for key in keys}",
        "{key: result[key] for key in keys}",
        (BATCHER,),
    ),
    Mutant(
        "the end of a fetch starts no other", "G7 batch", BATCHING,
        "            self._tell(ticket, answers.get(ticket.key, failure))\n        self._start(nursery)\n",
        "            self._tell(ticket, answers.get(ticket.key, failure))\n",
        (BATCHER,),
    ),
    Mutant(
        "a batcher that closes takes more calls", "batch", BATCHING,
        "                finally:\n                    self._nursery = None\n",
        "                finally:\n",
        (BATCHER,),
    ),
    Mutant(
        "a fetch has the context of one caller", "batch", BATCHING,
        'self._context.run(partial(nursery.start_soon, self._fetch, batch, nursery, name="ccm batch"))',
        'nursery.start_soon(self._fetch, batch, nursery, name="ccm batch")',
        (BATCHER,),
    ),
)  # fmt: skip
