"""A bot that keeps what it has accepted: kill it with SIGKILL and start it again, nothing is lost.

Run it twice. The first run ends before the second message is answered; the second run answers that one first,
tells its handler that it may be a repetition, and delivers the reply under the same number.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import trio

import ccm


async def reply(turn: ccm.Turn) -> str | None:
    if turn.redelivered:
        print(f"turn {turn.id} comes from the storage; it may have been begun before")
    elif turn.text == "a hard question":
        await trio.sleep_forever()  # the process ends before this is answered
    return f"{turn.message.user}, you said: {turn.text}"


async def deliver(reply: ccm.Reply, message: ccm.Message) -> None:
    # Hand turn_id to the platform as its idempotency key: after a crash a reply may come twice.
    print(f"to {message.conversation}, number {reply.turn_id}: {reply}")


async def main(path: Path) -> None:
    config = ccm.Config(drain=0.5)
    async with ccm.open_manager(reply, config=config, storage=path, deliver=deliver) as manager:
        await manager.wait_idle()  # what is left from before
    async with ccm.open_manager(reply, config=config, storage=path, deliver=deliver) as manager:
        await manager.submit(ccm.Message("channel-1", "ada", "hello"))
        await manager.submit(ccm.Message("channel-2", "bob", "a hard question"))
    left = manager.statistics().outcomes["cancelled"]
    print(f"{left} message was accepted and not answered in this run; {path.name} keeps it")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        trio.run(main, Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(2):
                trio.run(main, Path(folder) / "bot.db")
