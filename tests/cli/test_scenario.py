"""The ten-people scenario on virtual time: deterministic, so its targets are tests."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

import ccm
from ccm.cli._report import Report
from ccm.cli._scenario import MIN_GAP, Scenario, play
from ccm.testing import simulate

KINDS = {
    "bad language or link": "CRITICAL", "mention": "HIGH", "question": "HIGH", "help": "HIGH",
    "small talk": "NORMAL",
}  # fmt: skip


def by_class(report: Report) -> dict[str, int]:
    return {row.priority.name: row.turns for row in report.rows}


@pytest.mark.parametrize("seed", range(1, 9))
def test_ten_people_get_their_answers_in_time(seed: int) -> None:
    report = simulate(play, Scenario(seed=seed), seed=seed, limit=60)
    assert report.ok, report.misses
    assert [row.met for row in report.rows] == [True, True, True, None]
    assert report.unanswered == 0
    assert 8 < report.seconds < 12
    # The limit matters: people had to wait, and nobody waited for CRITICAL.
    assert report.statistics.peak_running == report.statistics.limit == 8
    assert report.rows[ccm.NORMAL].wait.p99 > 0.01


def test_each_kind_of_saying_has_its_class() -> None:
    scenario = Scenario(seed=3)
    expected = Counter(KINDS[a.message.metadata["kind"]] for a in scenario.arrivals())
    assert by_class(simulate(play, scenario)) == {**expected, "LOW": scenario.messages}
    assert set(expected) == set(KINDS.values())


def test_one_seed_is_one_run() -> None:
    first, again, other = (simulate(play, Scenario(messages=60, seed=seed)).as_json() for seed in (5, 5, 6))
    assert first == again
    assert first["classes"] != other["classes"]


@pytest.mark.parametrize("users", [1, 3, 10, 23])
def test_the_workload_is_what_was_ordered(users: int) -> None:
    scenario = Scenario(users=users, messages=18 * users)
    arrivals = scenario.arrivals()
    assert len(arrivals) == 18 * users
    assert len({a.message.id for a in arrivals}) == 18 * users
    assert len({a.message.conversation for a in arrivals}) == users
    assert len({a.message.tenant for a in arrivals}) == min(users, 3)
    assert [a.at for a in arrivals] == sorted(a.at for a in arrivals)
    for conversation in {a.message.conversation for a in arrivals}:
        times = [a.at for a in arrivals if a.message.conversation == conversation]
        assert all(b - a >= MIN_GAP - 1e-9 for a, b in pairwise(times))


def test_more_messages_only_add_to_the_workload() -> None:
    short, long = (Scenario(messages=n).arrivals() for n in (50, 400))
    assert [a.message.id for a in long[:50]] == [a.message.id for a in short]
    assert Counter(a.message.user for a in long).most_common()[-1][1] > 20


def test_too_much_speed_misses_targets_but_loses_nothing_in_silence() -> None:
    report = simulate(play, Scenario(speed=5.0), limit=120)
    assert not report.ok
    assert all(check.ok for check in report.checks)
    assert report.rows[ccm.CRITICAL].met
    assert "target of NORMAL" in report.misses
