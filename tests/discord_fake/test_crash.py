"""A bot is killed with SIGKILL between a message and its answer; `nox -s discord_crash` does it 50 times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from .crash import crash, open_stage

HISTORY = "GET /channels/{channel}/messages"


def test_each_message_is_answered_once_whatever_was_killed(tmp_path: Path) -> None:
    result = trio.run(crash, 6, 1, tmp_path)
    assert result.wrong == []
    assert result.kills == 6
    assert result.said >= 6
    assert not result.idle


@pytest.mark.parametrize("when", ["while it asks", "while it hands in"])
def test_a_backfill_that_was_killed_is_done_by_the_next_process(when: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with open_stage(tmp_path) as stage:
            fake = stage.fake
            async with stage.life():
                for channel in stage.channels:
                    stage.say(channel)
                await fake.until(lambda: not stage.outstanding(), 30)
                state = tmp_path / "state.json"
                await fake.until(lambda: json.loads(state.read_text())["sessions"], 30)
            stage.new_channel()
            for _ in range(5):
                for channel in stage.channels:
                    stage.say(channel)
            fake.faults.refuse_resume = True
            if when == "while it asks":
                fake.api.turn_away("user", 10.0, times=2, route=HISTORY)
            async with stage.life() as life:
                if when == "while it asks":
                    await life.reaches(HISTORY, 2)
                    await trio.sleep(2.5)  # as long as it takes to write the new session down, and longer
                    assert stage.outstanding() == 15
                else:
                    await life.reaches("replied", 1)
                    assert stage.outstanding() > 5
            fake.faults.refuse_resume = False
            await stage.finish()
            assert stage.result.wrong == []

    trio.run(main)
