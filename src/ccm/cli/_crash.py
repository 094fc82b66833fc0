"""`ccm replay --crash`: a bot that is killed again and again, and a count of what became of every message.

The bot is a child process. It says what it does in lines on a pipe, which stay readable however it ends; the
parent kills it with SIGKILL at random moments and starts it again on the same file, until all is answered.
What is proved at the end comes from the file and from the lines, not from the manager.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, final

import attrs
import trio

import ccm

from ._console import MISSED, OK, UsageError, print_json, say

if TYPE_CHECKING:
    from ._replay import Replay

SHORTEST, LONGEST = 0.05, 0.8
"""Seconds that a life lasts, drawn evenly, from when its file is open."""
SENDERS = 64
LOOK = 0.002


@attrs.define(eq=False)
class Proof:
    """What was seen, and what is wrong with it."""

    messages: int
    kills: int = 0
    lives: int = 0
    seconds: float = 0.0
    starts: int = 0
    redelivered: int = 0
    outcomes: dict[str, int] = attrs.field(factory=dict)
    found: list[str] = attrs.field(factory=list)

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"command": "replay --crash", "ok": not self.found} | attrs.asdict(self)


@final
class Life:
    """One process of the bot: hands in what has not been accepted, answers, says so."""

    def __init__(self, job: Replay, messages: Sequence[ccm.Message], accepted: set[str], pipe: int) -> None:
        self._job = job
        self._accepted = accepted
        self._pipe = pipe
        self._lanes: dict[str, list[ccm.Message]] = {}
        for message in messages:
            if message.id not in accepted:
                self._lanes.setdefault(message.conversation, []).append(message)

    def _say(self, *words: object) -> None:
        os.write(self._pipe, ("\t".join(map(str, words)) + "\n").encode("utf-8", "surrogateescape"))

    async def _answer(self, turn: ccm.Turn) -> str:
        self._say("start", turn.id, turn.message.conversation, int(turn.redelivered))
        return await self._job.stand_in(turn)

    async def _hand_in(self, manager: ccm.ConversationManager, lanes: list[list[ccm.Message]]) -> None:
        await trio.lowlevel.checkpoint()
        for lane in lanes:
            for message in lane:
                with contextlib.suppress(ccm.Duplicate):  # accepted before a kill that came before the line
                    await manager.submit(message)
                self._say("accepted", message.id)

    async def run(self) -> None:
        """Live until everything is answered."""
        config = attrs.evolve(self._job.config, max_attempts=1000)
        lanes = list(self._lanes.values())
        opened = ccm.open_manager(self._answer, config=config, storage=self._job.storage)
        async with opened as manager:
            self._say("open")
            async with trio.open_nursery() as nursery:
                for number in range(min(SENDERS, len(lanes))):
                    nursery.start_soon(self._hand_in, manager, lanes[number::SENDERS])
            await manager.wait_idle()
            self._say("done")


@final
class Crasher:
    """Kills and restarts; collects the proof."""

    def __init__(self, job: Replay, messages: Sequence[ccm.Message], seed: int) -> None:
        self._job = job
        self._messages = messages
        self._draw = random.Random(seed)
        self._accepted: set[str] = set()
        self._finished = False
        self.proof = Proof(messages=len(messages))

    def run(self, progress: Any) -> Proof:
        """Everything."""
        began = time.monotonic()
        while not self._finished and not self.proof.found:
            self._one_life()
            progress(len(self._accepted), self.proof.kills)
        self.proof.seconds = time.monotonic() - began
        if not self.proof.found:
            self._prove()
        return self.proof

    def _one_life(self) -> None:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            self._child(writing)
        os.close(writing)
        self.proof.lives += 1
        said = self._watch(pid, reading)
        os.close(reading)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            self.proof.kills += 1
        elif status:
            self.proof.found.append(f"a life ended with status {status} by itself")
        self._hear(said)

    def _child(self, pipe: int) -> NoReturn:
        try:
            trio.run(Life(self._job, self._messages, self._accepted, pipe).run)
        except BaseException as error:  # noqa: ASYNC103 - the parent's code must not run on here
            say(f"ccm: a life ended by {error!r}")
            os._exit(1)
        os._exit(0)

    def _watch(self, pid: int, reading: int) -> bytes:
        """Read what the child says; kill it when its time has come."""
        os.set_blocking(reading, False)
        chunks: list[bytes] = []
        until: float | None = None
        while True:
            try:
                chunk = os.read(reading, 1 << 16)
            except BlockingIOError:
                time.sleep(LOOK)
            else:
                if not chunk:
                    return b"".join(chunks)
                chunks.append(chunk)
                if until is None and b"open\n" in chunk:
                    until = time.monotonic() + self._draw.uniform(SHORTEST, LONGEST)
            if until is not None and time.monotonic() >= until:
                os.kill(pid, signal.SIGKILL)
                until = float("inf")

    def _hear(self, said: bytes) -> None:
        last: dict[str, int] = {}
        for line in said.decode("utf-8", "surrogateescape").split("\n")[:-1]:
            match line.split("\t"):
                case ["accepted", id]:
                    self._accepted.add(id)
                case ["start", turn, conversation, again]:
                    self.proof.starts += 1
                    self.proof.redelivered += int(again)
                    if int(turn) < last.get(conversation, 0):
                        self.proof.found.append(
                            f"in {conversation!r}, turn {turn} started after {last[conversation]}"
                        )
                    last[conversation] = int(turn)
                case ["done"]:
                    self._finished = True

    def _prove(self) -> None:
        """From the file: one outcome for each message, and the order of each conversation."""
        assert self._job.storage is not None
        connection = sqlite3.connect(self._job.storage)
        rows = connection.execute("SELECT message_id, seq, outcome FROM turns").fetchall()
        (left,) = connection.execute("SELECT count(*) FROM inbox").fetchone()
        connection.close()
        found = self.proof.found
        counts = Counter(id for id, _, _ in rows)
        seqs = {id: seq for id, seq, _ in rows}
        self.proof.outcomes = dict(Counter(outcome for _, _, outcome in rows))
        if left:
            found.append(f"{left} messages are left without an outcome")
        for message in self._messages:
            if counts[message.id] != 1:
                found.append(f"{message.id} has {counts[message.id]} outcomes")
        last: dict[str, tuple[int, str]] = {}
        for message in self._messages:
            seq = seqs.get(message.id, 0)
            before, id = last.get(message.conversation, (0, ""))
            if seq and seq < before:
                found.append(f"{message.id} was put before {id}")
            last[message.conversation] = (seq, message.id)


def crash_replay(job: Replay, messages: Sequence[ccm.Message], seed: int, tables: ModuleType | None) -> int:
    """Run `ccm replay --crash`; its exit code."""
    if not hasattr(os, "fork"):
        raise UsageError("--crash needs fork(), which this system does not have; leave it out")
    crasher = Crasher(job, messages, seed)
    if tables is None:
        proof = crasher.run(lambda accepted, kills: None)
        print_json(proof.as_json())
    else:
        with tables.bar("crash", len(messages), "kills") as show:
            proof = crasher.run(show)
        tables.print_crash(proof)
    return MISSED if proof.found else OK
