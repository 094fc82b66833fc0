"""A bot with a real file is killed with SIGKILL; `nox -s crash` does it thousands of times."""

from __future__ import annotations

from pathlib import Path

from .crash import crash


def test_what_was_accepted_survives_kill_9(tmp_path: Path) -> None:
    witness = crash(tmp_path / "bot.db", 20, seed=3)
    assert not witness.found, witness.found
    assert witness.kills == 20
    assert len(witness.accepted) > 50
    assert witness.redelivered > 0
    assert witness.deliveries
