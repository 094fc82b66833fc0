"""The power goes at every disk operation; `nox -s powerloss` does it a hundred thousand times."""

from __future__ import annotations

from pathlib import Path

from .powerloss import power_cuts


def test_what_was_accepted_survives_a_power_cut(tmp_path: Path) -> None:
    operations, cuts, found = power_cuts(tmp_path / "bot.db", 1500, seed=1)
    assert not found, found
    assert cuts >= 1500
    assert operations > 300
