"""Kills a bot with SIGKILL at random moments, starts it again on the same file, and compares what it said
with what the file holds: `python -m tests.faults.crash --kills 2000`.

The bot is a child process (forked, so that a life costs milliseconds) with a real SQLite file and real fsync.
It writes a line into a pipe for everything that it tells anybody: a message was accepted, a handler
starts, an outcome was told, a reply was delivered. What is in the pipe was said, whatever happened then.
The last life ends in peace.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import trio

import ccm
from ccm import Config, Message, Reply, RetryPolicy, Turn, open_manager

CONVERSATIONS = 6
USERS = 4


class Life:
    """What one process does, told line by line to `pipe`."""

    def __init__(
        self, path: Path, pipe: int, number: int, seed: int, messages: int, known: dict[int, tuple[str, str]]
    ) -> None:  # fmt: skip
        self.known = list(known.items())
        self.path = path
        self.pipe = pipe
        self.number = number
        self.random = random.Random(f"{seed}/{number}")
        self.messages = messages

    def say(self, *words: object) -> None:
        os.write(self.pipe, (" ".join(map(str, words)) + "\n").encode())

    async def handler(self, turn: Turn) -> str | None:
        self.say("start", turn.id, turn.message.conversation, turn.message.text, int(turn.redelivered))
        fate = self.random.random()
        if fate < 0.1:
            raise ValueError("made to fail")
        await trio.sleep(self.random.choice((0.0, 0.0, 0.001, 0.003)))
        if fate < 0.2:
            await turn.send("half ")
        return f"re {turn.message.text}"

    async def deliver(self, reply: Reply, message: Message) -> None:
        if self.random.random() < 0.2:
            raise ConnectionError("made to fail")
        self.say("deliver", reply.turn_id, message.conversation, message.text)

    async def send(self, manager: ccm.ConversationManager, number: int) -> None:
        conversation = f"c{self.random.randrange(CONVERSATIONS)}"
        text = f"{self.number}.{number}"
        id = text if self.random.random() < 0.5 else None
        message = Message(conversation, f"u{self.random.randrange(USERS)}", text, id=id)
        kind = self.random.random()
        try:
            if kind < 0.3:
                self.say("asking", conversation, text)
                reply = await manager.ask(message)
                self.say("told", reply.turn_id, "replied", text)
                return
            receipt = await manager.submit(message)
            self.say("accepted", receipt.turn_id, conversation, text, int(id is not None))
            if id is not None and kind < 0.5:
                await self.repeat(manager, message, receipt.turn_id)
            outcome = await receipt.outcome()
            if outcome.name != "cancelled":
                self.say("told", receipt.turn_id, outcome.name, text)
        except (ccm.Rejected, ccm.HandlerFailed, ccm.TurnCancelled):
            pass

    async def repeat(self, manager: ccm.ConversationManager, message: Message, turn: int) -> None:
        """The client did not get the answer and hands the same message in again."""
        try:
            await manager.submit(message)
        except ccm.Duplicate as repeated:
            if repeated.receipt is not None and repeated.receipt.turn_id == turn:
                return
        except ccm.Rejected:
            return
        self.say("doubled", turn, message.text)

    async def live(self) -> None:
        retry = RetryPolicy(attempts=2, base=0.001, cap=0.002)
        config = Config(
            limit=3, rate_limit=None, retry=retry, drain=60, max_attempts=1000, conversation_limit=1000,
            delivery_retry=RetryPolicy(attempts=50, base=0.001, cap=0.002),
        )  # fmt: skip
        async with open_manager(
            self.handler, config=config, storage=self.path, deliver=self.deliver
        ) as manager:
            self.say("open")
            for turn, (conversation, text) in self.known[-3:]:
                # What was accepted before the kill, from a client that was not told.
                await self.repeat(manager, Message(conversation, "u", text, id=text), turn)
            async with trio.open_nursery() as nursery:
                for number in range(self.messages):
                    nursery.start_soon(self.send, manager, number)
                    await trio.sleep(self.random.choice((0.0, 0.001)))
            await manager.wait_idle()
            manager.statistics().check()
        self.say("closed")


def child(life: Life, pipe: int) -> NoReturn:
    """Live; never returns into the parent's stack."""
    status = 70
    try:
        trio.run(life.live)
        status = 0
    except BaseException as error:
        os.write(pipe, f"error {error!r}\n".encode())
    finally:
        os._exit(status)


def one_life(
    path: Path, number: int, seed: int, messages: int, seconds: float | None,
    known: dict[int, tuple[str, str]],
) -> list[list[str]]:  # fmt: skip
    """The lines of a process that is killed `seconds` after it has opened its file (None: never)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        child(Life(path, writing, number, seed, messages, known), writing)
    os.close(writing)
    chunks = []
    opened = None if seconds is None else time.monotonic() + 30
    os.set_blocking(reading, False)
    while True:
        try:
            chunk = os.read(reading, 1 << 16)
        except BlockingIOError:
            chunk = None
        if chunk == b"":
            break
        if chunk:
            chunks.append(chunk)
            if seconds is not None and number >= 0 and opened is not None and b"open\n" in chunk:
                opened = time.monotonic() + seconds
        if opened is not None and time.monotonic() >= opened:
            os.kill(pid, signal.SIGKILL)
            opened = None
            os.set_blocking(reading, True)
        elif chunk is None:
            time.sleep(0.0005)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    lines = [line.split() for line in b"".join(chunks).decode().splitlines()]
    if seconds is None:
        assert status == 0, (status, lines[-3:])
    assert not any(line[0] == "error" for line in lines), lines[-3:]
    return lines


@dataclass
class Witness:
    """What was said in all lives, and what is wrong with it."""

    kills: int = 0
    accepted: dict[int, tuple[str, str]] = field(default_factory=dict)
    repeatable: dict[int, tuple[str, str]] = field(default_factory=dict)
    told: dict[int, str] = field(default_factory=dict)
    starts: int = 0
    redelivered: int = 0
    deliveries: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    found: list[str] = field(default_factory=list)

    def hear(self, lines: list[list[str]], number: int) -> None:
        """One life is over."""
        sealed = set(self.told)
        last: dict[str, int] = {}
        sent: dict[str, int] = {}
        for line in lines:
            match line:
                case ["accepted", turn, conversation, text, given]:
                    self.accepted[int(turn)] = (conversation, text)
                    if given == "1":
                        self.repeatable[int(turn)] = (conversation, text)
                case ["told", turn, outcome, _]:
                    before = self.told.setdefault(int(turn), outcome)
                    if before != outcome:
                        self.found.append(f"turn {turn} was told {before}, then {outcome}")
                case ["start", turn, conversation, text, again]:
                    self.starts += 1
                    self.redelivered += int(again)
                    if int(turn) in sealed:
                        self.found.append(f"turn {turn} ({text}) ran again after its outcome was told")
                    if int(turn) < last.get(conversation, 0):
                        self.found.append(f"turn {turn} of {conversation} started after {last[conversation]}")
                    last[conversation] = int(turn)
                case ["deliver", turn, conversation, _]:
                    self.deliveries[int(turn)] += 1
                    if int(turn) < sent.get(conversation, 0):
                        self.found.append(f"reply {turn} of {conversation} came after {sent[conversation]}")
                    sent[conversation] = int(turn)
                case ["doubled", turn, text]:
                    self.found.append(f"{text}, turn {turn}, was accepted twice")

    def compare(self, path: Path) -> None:
        """With the file, at the end: one outcome for each, and nothing left over."""
        connection = sqlite3.connect(path)
        turns = dict(connection.execute("SELECT seq, outcome FROM turns"))
        for table in ("inbox", "outbox"):
            (left,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            if left:
                self.found.append(f"{left} rows are left in {table}")
        for turn, (conversation, text) in self.accepted.items():
            if turn not in turns:
                self.found.append(f"turn {turn} of {conversation} ({text}) was accepted and is lost")
        for turn, outcome in self.told.items():
            if turns.get(turn) != outcome:
                self.found.append(f"turn {turn} was told {outcome}, the file has {turns.get(turn)}")
        for turn, (_, text) in self.accepted.items():
            if turns.get(turn) == "replied" and not self.deliveries[turn]:
                self.found.append(f"the reply of turn {turn} ({text}) was never delivered")
        for id, count in connection.execute(
            "SELECT message_id, count(*) FROM turns GROUP BY tenant, message_id HAVING count(*) > 1"
        ):
            self.found.append(f"{id} was handled as {count} messages")
        if (wrong := connection.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
            self.found.append(f"the file is corrupt: {wrong[:3]}")
        connection.close()


def crash(path: Path, kills: int, seed: int = 0, progress: bool = False) -> Witness:
    """As many lives as it takes until so many were ended by SIGKILL, and one that ends by itself."""
    witness, draw, number = Witness(), random.Random(seed), 0
    while witness.kills < kills and not witness.found:
        seconds = draw.choice((draw.uniform(0, 0.03), draw.uniform(0, 0.1)))
        lines = one_life(path, number, seed, 12, seconds, witness.repeatable)
        witness.kills += not any(line[0] == "closed" for line in lines)
        witness.hear(lines, number)
        number += 1
        if progress and number % 20 == 0:
            print(f"\r{witness.kills}/{kills} kills, {len(witness.found)} found", end="", file=sys.stderr)
    witness.hear(one_life(path, number, seed, 0, None, witness.repeatable), number)
    witness.compare(path)
    return witness


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        witness = crash(Path(folder) / "bot.db", arguments.kills, arguments.seed, sys.stderr.isatty())
    print(
        f"{witness.kills} kills in {time.monotonic() - began:.0f} s (seed {arguments.seed}):"
        f" {len(witness.accepted)} accepted, {witness.starts} starts ({witness.redelivered} redelivered),"
        f" {len(witness.told)} outcomes told, {sum(witness.deliveries.values())} deliveries of"
        f" {len(witness.deliveries)} replies"
    )
    for what in witness.found[:20]:
        print("FOUND:", what)
    print("nothing lost, doubled or out of order" if not witness.found else f"{len(witness.found)} found")
    return bool(witness.found)


if __name__ == "__main__":
    raise SystemExit(main())
