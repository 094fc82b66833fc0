"""Bugs planted in what keeps messages: journal, inbox, settlements, outbox, SQLite."""

from __future__ import annotations

from .mutant import Mutant

SIMULATION = "tests/faults/test_simulation.py"
DURABLE = "tests/storage/test_durable.py"
OUTBOX = "tests/storage/test_outbox.py"
TAKEN_BACK = "tests/storage/test_taken_back.py"
CRASH = "tests/faults/test_crash.py"
WRITING = "tests/storage/test_writing.py"
GIVEN_BACK = "tests/storage/test_given_back.py"

INBOX = "_inbox.py"
JOURNAL = "_journal.py"
SETTLING = "_settling.py"
COURIER = "_courier.py"
WRITER = "storage/_sqlite_write.py"
ROWS = "storage/_sqlite_rows.py"
SQLITE = "storage/_sqlite.py"

STORAGE = (
    Mutant(
        "what an earlier process answered is taken back on the front end alone", "G11", "_durable.py",
        "        await self.journal.call(Retract(turn_id, part))\n", "",
        (TAKEN_BACK,),
    ),
    Mutant(
        "a live session remembers what was taken back", "G11", "_durable.py",
        "            session.history.take_out(turn_id, part)\n", "            pass\n",
        (TAKEN_BACK,),
    ),
    Mutant(
        "a turn of several goes with one of them", "G11", "_durable.py",
        "        whole = sum(line.turn_id == turn_id for line in said) == 1\n", "        whole = True\n",
        (TAKEN_BACK,),
    ),
    Mutant(
        "accepted before it is written", "G9", INBOX,
        "        self._journal.put(pending)\n        return pending\n",
        "        self._journal.put(pending)\n"
        "        self._off(pending)\n"
        "        record = self._enter(pending, now)\n"
        "        record.turn_id, record.sealed = self._last_seq + self._reserved.total + 1, False\n"
        "        self._let_in(record, pending, now)\n"
        "        pending.done = lambda result: None  # type: ignore[method-assign]\n"
        "        return record  # type: ignore[return-value]\n",
        (SIMULATION,),
    ),
    Mutant(
        "an unknown commit counts as accepted", "G9", INBOX,
        "        if self._config.on_storage_failure == \"degrade\" and not error.unknown:\n",
        "        if error.unknown:\n",
        (SIMULATION,),
    ),
    # -- the rate limit --------------------------------------------------------------------------
    Mutant(
        "what the storage refuses counts for the rate", "rate limit", INBOX,
        "            self._give_back(pending)\n            self._intake.count_refusal",
        "            self._intake.count_refusal",
        (GIVEN_BACK,),
    ),
    Mutant(
        "repetitions that only the storage knows count for the rate", "rate limit", INBOX,
        "            self._give_back(pending)\n            first =",
        "            first =",
        (GIVEN_BACK,),
    ),
    Mutant(
        "who leaves before it is written counts for the rate", "rate limit G10", INBOX,
        "        self._off(pending)\n        self._give_back(pending)\n",
        "        self._off(pending)\n",
        (GIVEN_BACK,),
    ),
    Mutant(
        "what is accepted without the storage is given back", "rate limit", INBOX,
        "            self.unjournaled += 1\n",
        "            self.unjournaled += 1\n            self._give_back(pending)\n",
        (GIVEN_BACK,),
    ),
    Mutant(
        "who sent too much waits for room to be told", "rate limit", INBOX,
        "        if limited and verdict is not None:  # the rate comes before room\n",
        "        if limited and isinstance(verdict, Refuse):\n",
        (GIVEN_BACK,),
    ),
    Mutant(
        "what never counted is given back", "rate limit", INBOX,
        "        if pending.limited:\n",
        "        if pending.message:\n",
        (GIVEN_BACK,),
    ),
    Mutant(
        "given back at another time than it was counted", "rate limit", INBOX,
        "give_back(pending.message, pending.arrived)",
        "give_back(pending.message, self._dispatcher.now())",
        (GIVEN_BACK,),
    ),
    # -- outcomes --------------------------------------------------------------------------------
    Mutant(
        "told before it is sealed", "G9", SETTLING,
        "        self._journal.put(Sealing(self, record, settle))\n",
        "        sealing = Sealing(self, record, settle)\n"
        "        sealing._tell(True)\n"
        "        self._journal.put(sealing)\n",
        (SIMULATION,),
    ),
    Mutant(
        "an outcome that was refused is forgotten", "G1", SETTLING,
        "        self._tell(None)\n        return True\n",
        "        self._tell(None)\n        return False\n",
        (OUTBOX,),
    ),
    Mutant(
        "taken up in the order of waking", "G2", INBOX,
        "        self._backlog.extend(page)\n",
        "        self._backlog.extendleft(page)\n",
        (SIMULATION,),
    ),
    Mutant(
        "new messages pass those from before", "G2", INBOX,
        "        if self._more or self._backlog:\n            verdict: Verdict = self._full(None)\n",
        "        if False:\n            verdict: Verdict = self._full(None)\n",
        (DURABLE,),
    ),
    Mutant(
        "a restart forgets the messages", "G1", INBOX,
        "        self._more = True\n        self._wanted",
        "        self._more = False\n        self._wanted",
        (SIMULATION,),
    ),
    Mutant(
        "what is on its way takes no place", "G8", INBOX,
        "        self._reserved.add(message.conversation, message.tenant)\n"
        "        self._journal.put(pending)\n",
        "        self._reserved.total += 1\n"
        "        self._reserved.conversations[message.conversation] = 1\n"
        "        self._reserved.tenants[message.tenant] = 1\n"
        "        self._journal.put(pending)\n",
        (SIMULATION,),
    ),
    Mutant(
        "a sender that has gone keeps its place", "G10", INBOX,
        "        self._off(pending)\n        self._give_back(pending)\n",
        "        self._give_back(pending)\n",
        (DURABLE,),
    ),
    Mutant(
        "a cancelled sender is written all the same", "G10", JOURNAL,
        "            self._queue.remove(item)\n        except ValueError:\n            return False\n",
        "            self._queue.index(item)\n        except ValueError:\n            return False\n",
        (SIMULATION,),
    ),
    Mutant(
        "what failed is written after what came later", "G2", JOURNAL,
        "        self._queue.extendleft(reversed(again))\n",
        "        self._queue.extend(again)\n",
        (SIMULATION,),
    ),
    Mutant(
        "who comes as the writer leaves is not written", "G9", JOURNAL,
        "        if self._queue and not (self._delay or self._closing):\n            self._start()\n",
        "        if False:\n            self._start()\n",
        (WRITING,),
    ),
    Mutant(
        "an error while writing is nobody's", "G1", JOURNAL,
        "            outcome.unwrap()\n",
        "            pass\n",
        (WRITING,),
    ),
    Mutant(
        "another program's numbers are taken again", "G1", WRITER,
        "pragma_data_version) = ?\"",
        "pragma_data_version) = ? OR true\"",
        (WRITING,),
    ),
    Mutant(
        "drained messages get an outcome in the storage", "G12", SETTLING,
        "        if isinstance(outcome, Cancelled) and outcome.by == \"drain\" and not record.asked:\n",
        "        if False:\n",
        (DURABLE,),
    ),
    Mutant(
        "replies are forgotten", "outbox", SETTLING,
        "        if self.operation.delivery is not None:\n            self._settler.courier.put",
        "        if False:\n            self._settler.courier.put",
        (SIMULATION,),
    ),
    Mutant(
        "a restart forgets the replies", "outbox", COURIER,
        "            self.box.missed = True\n            await self._refill()\n",
        "            await trio.lowlevel.checkpoint()\n",
        (SIMULATION, CRASH),
    ),
    Mutant(
        "a reply that failed lets the next one pass", "outbox G2", COURIER,
        "            self.box.again(delivery, now + max(delay, at_least))\n            return\n",
        "            self.box.delivered(delivery)\n            self.box.put(delivery)\n            return\n",
        (OUTBOX,),
        slow=True,  # it hangs, until the time is over
    ),
    Mutant(
        "a delivered reply stays in the outbox", "outbox", COURIER,
        "            self._journal.put(Unwatched(Delivered(delivery.seq)))\n",
        "",
        (SIMULATION,),
    ),
    Mutant(
        "the keys of messages are mixed up", "G2", WRITER,
        "(own, op.conversation, op.tenant, op.user, op.at, op.body)",
        "(own, op.user, op.tenant, op.conversation, op.at, op.body)",
        ("tests/storage/test_taken_in.py",),
    ),
    Mutant(
        "of very many messages some are not written", "G1", ROWS,
        "range(0, len(rows), MOST)",
        "range(0, min(len(rows), MOST), MOST)",
        ("tests/storage/test_taken_in.py",),
    ),
    Mutant(
        "all ids are counted with each message", "cost", WRITER,
        "        if self._ids >= MAX_SEEN + PRUNED:\n            self._forget_ids()\n",
        "        self._forget_ids()\n",
        ("tests/storage/test_sqlite_space.py",),
    ),
    Mutant(
        "ids that come together are not bounded", "G11", WRITER,
        "(self._ids - MAX_SEEN,)",
        "(PRUNED,)",
        ("tests/storage/test_sqlite_space.py",),
    ),
    Mutant(
        "taking a message back goes through all that was said", "cost", WRITER,
        "\"turn = ? AND turn > 0\"",
        "\"turn = ?\"",
        ("tests/storage/test_sqlite_plans.py",),
    ),
    Mutant(
        "a new line is looked for in all conversations", "cost", WRITER,
        "CROSS JOIN conversations AS c WHERE c.key = v.column1",
        "JOIN conversations AS c WHERE +c.key = v.column1",
        ("tests/storage/test_sqlite_plans.py",),
    ),
    Mutant(
        "what fills a statement up is written, too", "G1", WRITER,
        "\"WHERE v.column1 IS NOT NULL\"",
        "\"WHERE true\"",
        ("tests/storage/test_taken_in.py",),
    ),
    Mutant(
        "the answer stands in front of the question", "G2", WRITER,
        "ORDER BY v.column10",
        "ORDER BY v.column10 DESC",
        ("tests/storage/test_differential.py",),
    ),
    Mutant(
        "the last of what was written is told to nobody", "G1", JOURNAL,
        "            if batch:\n                self._committed(batch, results)\n",
        "            pass\n",
        (WRITING,),
        slow=True,  # it hangs, until the time is over
    ),
    Mutant(
        "what was written first is told of last", "G2", JOURNAL,
        "            function, args = self._news.popleft()\n",
        "            function, args = self._news.pop()\n",
        (WRITING,),
    ),
    Mutant(
        "an error at the end is nobody's", "G12", JOURNAL,
        "        if self._crash is not None:\n            raise self._crash\n",
        "        if self._crash is not None and not self._closing:\n            raise self._crash\n",
        (WRITING,),
    ),
    Mutant(
        "a thread stays behind", "G12", JOURNAL,
        "                await self._dismiss()  # noqa: ASYNC102\n",
        "",
        (WRITING,),
    ),
    Mutant(
        "a deleted file is not noticed", "G9", SQLITE,
        "        self._look()\n        if not alone:",
        "        if not alone:",
        ("tests/storage/test_sqlite_file.py",),
    ),
    Mutant(
        "an id is looked at after its message is in", "dedupe", WRITER,
        "zip(seqs, accepts, strict=True) if own not in repeated]\n        run_with",
        "zip(seqs, accepts, strict=True)]\n        run_with",
        (CRASH,),
    ),
    Mutant(
        "no fsync", "G9", SQLITE,
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = OFF",
        ("tests/faults/test_powerloss.py",),
    ),
    Mutant(
        "an outcome without its reply", "one transaction", WRITER,
        "        self._send(settles)\n        run(",
        "        run(",
        (CRASH,),
    ),
    Mutant(
        "settled messages stay in the inbox", "G1", WRITER,
        "        run(\"DELETE FROM inbox WHERE seq IN (SELECT value FROM json_each(?))\","
        " (json.dumps([*known]),))\n",
        "",
        (CRASH,),
        slow=True,  # it hangs, until the time is over
    ),
    Mutant(
        "numbers begin again after a restart", "G2", WRITER,
        "            self._last_seq = self.highest_seq()\n",
        "            self._last_seq = 0\n",
        (CRASH,),
        slow=True,  # it hangs, until the time is over
    ),
)  # fmt: skip
