"""A bot is killed with SIGKILL between a message and its answer; `nox -s discord_crash` does it 50 times."""

from __future__ import annotations

from pathlib import Path

import trio

from .crash import crash


def test_each_message_is_answered_once_whatever_was_killed(tmp_path: Path) -> None:
    result = trio.run(crash, 4, 1, tmp_path)
    assert result.wrong == []
    assert result.kills == 4
    assert result.said >= 4
