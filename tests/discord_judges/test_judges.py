"""The fake Discord is judged by programs that nobody here wrote: each must live with it through all of this.

Each judge runs in a process of its own. It receives, sends, edits and reacts; its connection is dropped; it
is asked to reconnect; its session is taken away; its requests are turned away and fail.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.discord_fake.fake import CHANNEL, FakeDiscord, open_fake

FOLDER = Path(__file__).parent
JUDGES = ("discord_py", "disnake", "hikari")
PATIENCE = 60.0
CREATE = "POST /channels/{channel}/messages"


def said(fake: FakeDiscord) -> list[str]:
    """What the bot has said, as it stands now."""
    return [each["content"] for each in fake.world.messages.get(CHANNEL, {}).values()
            if each["author"]["id"] == fake.world.bot["id"]]  # fmt: skip


async def ask(fake: FakeDiscord, number: int) -> None:
    """It must answer, once, edit what it said, and react."""
    asked = fake.world.say(f"ping {number}")
    await fake.until(lambda: f"pong {number}" in said(fake) and "reactions" in asked, PATIENCE)
    assert said(fake).count(f"pong {number}") == 1


async def gateway(fake: FakeDiscord) -> None:
    """Cuts: the session goes on, until it is taken away."""
    fake.cut()
    await ask(fake, 2)  # said while nobody is connected
    assert [op for op, _ in fake.hub.live[-1].heard if op in (2, 6)] == [6]
    assert fake.hub.live[-1].host == "resume"
    links = len(fake.hub.links)
    fake.reconnect()
    await fake.until(lambda: len(fake.hub.links) > links and fake.hub.live, PATIENCE)
    await ask(fake, 3)
    assert [op for op, _ in fake.hub.live[-1].heard if op in (2, 6)] == [6]
    before = set(fake.hub.sessions)
    fake.invalidate(False)
    await fake.until(lambda: fake.hub.live and set(fake.hub.sessions) - before, PATIENCE)
    await ask(fake, 4)


async def requests(fake: FakeDiscord) -> None:
    """Refusals and failures: what was asked is done in the end."""
    for number, scope in enumerate(("user", "shared", "global"), start=10):
        fake.api.turn_away(scope, 0.25, route=CREATE)
        seen = len(fake.api.seen)
        await ask(fake, number)
        tries = [each for each in fake.api.seen[seen:] if each.route == CREATE]
        assert [each.status for each in tries] == [429, 200]
        assert tries[1].at - tries[0].at >= 0.25
    fake.api.fail(502, route=CREATE)
    await ask(fake, 20)
    fake.api.limits.routes[CREATE] = (1, 0.5)
    # What a client makes of a limit that changes inside a window is its own affair: hikari, whose windows
    # slide, is refused up to three times, depending on when it asks. Once it was told the new limit, it must
    # keep to it.
    for number in range(30, 32):
        await ask(fake, number)
    refused = dict(fake.api.limits.refused)
    for number in range(32, 34):
        await ask(fake, number)
    assert fake.api.limits.refused == refused


async def life(judge: str) -> None:
    async with open_fake(heartbeat_interval=1.0, patience=5.0, identify_spacing=0.5) as fake:
        program = str(FOLDER / f"with_{judge}.py")
        command = [sys.executable, program, fake.rules.token, fake.api_url, fake.gateway_url]
        async with trio.open_nursery() as nursery:
            process = await nursery.start(partial(trio.run_process, command, stdout=subprocess.DEVNULL))
            with trio.fail_after(2 * PATIENCE):
                await fake.until(lambda: fake.hub.live, PATIENCE)
                await ask(fake, 1)
                await gateway(fake)
                await requests(fake)
                fake.world.say("quit")
                assert await process.wait() == 0
        assert not [each for each in fake.api.seen if 400 <= each.status < 500 and each.status != 429]
        # Every connection ended as the judge or the test wished, none because the fake did not like it.
        assert all(op in (1, 2, 3, 6, 8) for link in fake.hub.links for op, _ in link.heard)


@pytest.mark.slow
@pytest.mark.parametrize("judge", JUDGES)
def test_a_client_of_somebody_else_lives_with_the_fake(judge: str) -> None:
    trio.run(life, judge)
