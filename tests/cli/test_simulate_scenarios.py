"""Scenarios: what a file may say, what is wrong with one, and those that come with the package."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ccm import Config, Overflow, Priority
from ccm.cli import main
from ccm.cli._console import UsageError
from ccm.cli._simulate._play import Player, step_for
from ccm.cli._simulate._read import load, read, shipped, text_of
from ccm.cli._simulate._report import Report
from ccm.cli._simulate._scenario import DAY, Target

EVERYTHING = """
title = "all there is"
duration = 100
seed = 7
step = 5

[config]
limit = 20
overflow = "shed_lowest"
max_wait = { LOW = 3 }

[[traffic]]
users = 100
tenants = 10
skew = 1.0
rate = 5
conversations = 40
mix = { critical = 1, normal = 3 }
ramp = 20

[[traffic]]
users = 7
tenant = "raider"
per_hour = 3600
start = 10
end = 50
arrivals = "constant"
shape = [0, 1, 2]

[handler]
errors = 0.1
busy = 0.2
hangs = 0.3
retry_after = 2
fallback = "constant:0.1"

[handler.latency]
critical = 0.5
other = "uniform:1,2"

[provider]
concurrency = 5
rate = 2.5
retry_after = 3

[[outage]]
from = 5
to = 6
what = "slow"
factor = 3
share = 0.5

[targets]
loss = 0.1
goodput = 0.2
replies_per_second = 3

[targets.low]
wait_p99 = 1

[targets.tenants."tenant-*"]
response_max = 2
"""


def scenario(text: str) -> Any:
    return read(tomllib.loads(text), "x.toml")


def test_everything_that_a_scenario_may_say() -> None:
    found = scenario(EVERYTHING)
    assert (found.title, found.duration, found.seed, found.step) == ("all there is", 100, 7, 5)
    assert found.config == Config(limit=20, overflow=Overflow.SHED_LOWEST, max_wait={Priority.LOW: 3})
    first, second = found.groups
    assert first.tenants == {f"tenant-{n}": 1 / n for n in range(1, 11)}
    assert (first.users, first.conversations) == (100, 40)
    assert first.mix == {Priority.CRITICAL: 1, Priority.NORMAL: 3}
    assert first.points == ((0, 0), (20, 5), (100, 5))
    assert (second.tenants, second.conversations, second.arrivals) == ({"raider": 1}, 7, "constant")
    assert second.points == ((10, 0), (30, 7), (50, 14))
    answers = found.answers
    assert (answers.failures.errors, answers.failures.busy, answers.failures.hangs) == (0.1, 0.2, 0.3)
    assert answers.failures.retry_after == 2
    assert answers.latency[Priority.CRITICAL](random.Random()) == 0.5
    assert answers.latency[Priority.LOW] is answers.latency[Priority.HIGH]
    assert answers.fallback is not None
    assert (answers.provider.concurrency, answers.provider.rate, answers.provider.burst) == (5, 2.5, 3)
    assert (answers.outages[0].what, answers.outages[0].factor, answers.outages[0].share) == ("slow", 3, 0.5)
    assert found.targets == (
        Target("all", "", "loss", 0.1),
        Target("all", "", "goodput", 0.2),
        Target("all", "", "replies_per_second", 3),
        Target("class", "LOW", "wait_p99", 1),
        Target("tenants", "tenant-*", "response_max", 2),
    )


def test_what_is_left_out_has_a_default() -> None:
    found = scenario("[[traffic]]\n")
    assert (found.duration, found.seed) == (3600, 1)
    assert found.config == Config()
    assert found.groups[0].points == ((0, 1000 * 6 / 3600), (3600, 1000 * 6 / 3600))
    assert found.groups[0].tenants == {"": 1}
    assert found.targets == ()
    assert sum(DAY[:-1]) / 24 == pytest.approx(1, abs=0.01)


BAD = {
    "": "must have either [[traffic]] or [replay], has none",
    "[[traffic]]\n[replay]\nlogs = ['a']": "has both",
    "colour = 1\n[[traffic]]": "unknown key 'colour'; known here: replay, duration, traffic, config, title",
    "duration = 0\n[[traffic]]": "duration must be a number > 0, got 0",
    "seed = 1.5\n[[traffic]]": "seed must be a whole number from -9223372036854775808",
    "title = 1\n[[traffic]]": "title must be a string, got 1",
    "traffic = 1": "traffic must be an array of tables, [[traffic]], got 1",
    "[traffic]\nusers = 1": "traffic must be an array of tables",
    "[[traffic]]\nuser = 1": "unknown key 'traffic[1].user'; known here: users,",
    "[[traffic]]\n[[traffic]]\nusers = 0": "traffic[2].users must be a whole number from 1 to 10000000, got",
    "[[traffic]]\nusers = true": "traffic[1].users must be a whole number",
    "[[traffic]]\nrate = 0": "traffic[1].rate must be a number > 0, got 0",
    "[[traffic]]\nrate = inf": "traffic[1].rate must be a number > 0, got inf",
    "[[traffic]]\nrate = 1\nper_hour = 2": "traffic[1].per_hour must be left out where there is a rate",
    "[[traffic]]\nstart = 5\nend = 5": "traffic[1].end must be later than the start, 5, got 5.0",
    "[[traffic]]\nstart = 3600": "traffic[1].end must be later than the start, 3600, got 3600.0",
    "[[traffic]]\nramp = 3600": "ramp must be shorter than the 3600 s in which they send",
    "[[traffic]]\nramp = 1\nshape = 'day'": "traffic[1].shape must be left out where there is a ramp",
    "[[traffic]]\nshape = 'night'": "traffic[1].shape must be 'day', or two or more numbers",
    "[[traffic]]\nshape = [1]": "traffic[1].shape must be 'day', or two or more numbers",
    "[[traffic]]\nshape = [0, 0]": "one of them > 0, got [0, 0]",
    "[[traffic]]\nshape = [1, -1]": "numbers >= 0 that multiply the rate",
    "[[traffic]]\ntenants = 0": "traffic[1].tenants must be a whole number from 1 to 100000, or a table",
    "[[traffic]]\ntenants = {}": "must be a table of shares >= 0, one of them > 0, got {}",
    "[[traffic]]\ntenants = { a = -1, b = 2 }": "must be a table of shares >= 0",
    "[[traffic]]\ntenants = 3\ntenant = 'a'": "tenants must be left out where there is one tenant",
    "[[traffic]]\nusers = 2\ntenants = 3": "users must be at least one for each of the 3 tenants",
    "[[traffic]]\nconversations = 2\ntenants = 3": "traffic[1].conversations must be at least one for each",
    "[[traffic]]\nmix = { urgent = 1 }": "mix must be a table whose keys are critical, high, normal, low",
    "[[traffic]]\narrivals = 'even'": "traffic[1].arrivals must be one of 'poisson', 'constant', got 'even'",
    "[config]\nlimit = 0\n[[traffic]]": "from 1 to 100000, got 0 (from [config] of x",
    "[config]\nlimits = 1\n[[traffic]]": "unknown setting 'limits' in [config] of x.toml",
    "config = 1\n[[traffic]]": "config must be a table, got 1",
    "[handler]\nlatency = 'slow'\n[[traffic]]": "handler.latency must be a number of seconds, 'constant:S'",
    "[handler]\nlatency = 'lognormal:1'\n[[traffic]]": "'lognormal:MEDIAN,SIGMA', got 'lognormal:1'",
    "[handler]\nlatency = 'lognormal:0,1'\n[[traffic]]": "(median must be > 0, got 0.0), got",
    "[handler]\nlatency = -1\n[[traffic]]": "handler.latency must be a number of seconds",
    "[handler.latency]\nurgent = 1\n[[traffic]]": "unknown key 'handler.latency.urgent'; known here: other",
    "[handler]\nerrors = 2\n[[traffic]]": "handler.errors must be a number >= 0 and <= 1, got 2",
    "[handler]\nerrors = 0.9\nhangs = 0.9\n[[traffic]]": "errors, busy and hangs must add up to at most 1",
    "[handler]\nlimit = 'ai'\n[[traffic]]": "must be a name in config.provider_limits, of which there is",
    "[handler]\nlimit = 3\n[config.provider_limits]\nai = 3\n[[traffic]]": "provider_limits, 'ai', got 3",
    "[handler]\nfallback = 'x'\n[[traffic]]": "handler.fallback must be a number of seconds",
    "[provider]\n[[traffic]]": "[provider] must have concurrency, rate or both, has neither",
    "[provider]\nrates = 1\n[[traffic]]": "unknown key 'provider.rates'; known here: rate, concurrency",
    "[provider]\nconcurrency = 0\n[[traffic]]": "provider.concurrency must be a whole number from 1",
    "[[outage]]\nfrom = 9\nto = 8\n[[traffic]]": "outage[1].to must be later than from, 9, got 8.0",
    "[[outage]]\nwhat = 'gone'\n[[traffic]]": "must be one of 'busy', 'slow', 'errors', 'hang'",
    "[[outage]]\nuntil = 3\n[[traffic]]": "unknown key 'outage[1].until'; known here: from, to, what",
    "[targets]\nwait_p99 = 1\n[[traffic]]": "unknown key 'targets.wait_p99'; known here: loss, goodput",
    "[targets]\nloss = 2\n[[traffic]]": "targets.loss must be a number >= 0 and <= 1, got 2",
    "[targets.high]\nwait_p95 = 1\n[[traffic]]": "unknown key 'targets.high.wait_p95'; known",
    "[targets]\nlow = 1\n[[traffic]]": "targets.low must be a table, got 1",
    "[targets.tenants.a]\ngoodput = 1\n[[traffic]]": "unknown key 'targets.tenants.a.goodput'",
    "[replay]\nscale = 1": "replay.logs must be an array of file names, got []",
    "[replay]\nlogs = 'a.log'": "replay.logs must be an array of file names, got 'a.log'",
    "[replay]\nlogs = ['a']\nscale = 0": "replay.scale must be a whole number from 1",
    "[replay]\nlogs = ['a']\nby = 'room'": "replay.by must be one of 'file', 'user', got 'room'",
}


@pytest.mark.parametrize("text", BAD)
def test_errors_name_file_key_value_and_what_is_allowed(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        scenario(text)
    assert BAD[text] in str(caught.value)
    assert "x.toml" in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.toml").write_text("a = ")
    (tmp_path / "latin.toml").write_bytes(b"title = '\xff'")
    for name, said in (
        ("none.toml", "No such file or directory; name a scenario file"),
        ("broken.toml", "is not valid TOML: Invalid value"),
        ("latin.toml", "is not UTF-8"),
    ):
        assert main(["simulate", "--scenario", str(tmp_path / name)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert name in err
        assert said in err


# -- those that come with the package ----------------------------------------------------------------------


def played(name: str, **changes: Any) -> Report:
    return Player().play(read(load(name) | changes, name), {}, None)


def test_they_are_there() -> None:
    assert shipped() == [
        "morning-peak", "noisy-neighbour", "provider-outage", "raid", "slow-provider", "ten-people",
    ]  # fmt: skip
    for name in shipped():
        found = read(load(name), name)
        assert found.title
        assert found.targets


@pytest.mark.parametrize(
    "name", ["morning-peak", "noisy-neighbour", "provider-outage", "raid", "slow-provider"]
)
def test_each_meets_its_targets(name: str) -> None:
    report = played(name, duration=420)
    assert report.ok, report.misses
    assert all(aimed.met for aimed in report.aimed)
    assert report.rehearsal.sent > 1000


@pytest.mark.parametrize("seed", range(1, 6))
def test_ten_people_meet_theirs_whatever_the_seed(seed: int) -> None:
    report = played("ten-people", seed=seed)
    assert report.ok, report.misses
    assert len({name for name in report.rehearsal.tenants}) == 3


def test_each_does_what_its_title_says() -> None:
    outage = played("provider-outage", duration=420)
    answered = outage.rehearsal.timeline.outcomes["replied"]
    steps = range(int(305 / outage.rehearsal.timeline.step), int(360 / outage.rehearsal.timeline.step))
    assert outage.busy > 1000
    assert all(answered[step] == 0 for step in steps)
    raid = played("raid", duration=420)
    before, after = (len(raid.rehearsal.timeline.arrivals) * n // 420 for n in (300, 320))
    arrivals = raid.rehearsal.timeline.arrivals
    assert sum(arrivals[after:]) / len(arrivals[after:]) > 2 * sum(arrivals[:before]) / before
    noisy = played("noisy-neighbour", duration=60)
    others = [group.messages for name, group in noisy.rehearsal.tenants.items() if name != "noisy"]
    assert noisy.rehearsal.tenants["noisy"].messages > 60 * sum(others) / len(others)
    slow = played("slow-provider", duration=420)
    assert slow.rehearsal.classes[Priority.LOW].outcomes["expired"] > 100
    peak = played("morning-peak", duration=420)
    assert max(peak.rehearsal.timeline.arrivals) > 3 * min(peak.rehearsal.timeline.arrivals[5:-5])


def test_show_prints_one_that_can_be_changed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["simulate", "--show", "raid"]) == 0
    out, _ = capsys.readouterr()
    assert out == text_of("raid")
    (tmp_path / "own.toml").write_text(out, encoding="utf-8")
    assert load(str(tmp_path / "own.toml")) == load("raid")


def test_list_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--list"]) == 0
    out, _ = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == shipped()
    assert main(["simulate", "--list", "--json"]) == 0
    out, _ = capsys.readouterr()
    assert '"name": "raid"' in out


@pytest.mark.parametrize(
    ("seconds", "step"), [(1, 0.01), (60, 0.5), (100, 1), (180, 1), (181, 2), (3600, 20), (86400, 500)]
)
def test_steps_are_round(seconds: float, step: float) -> None:
    assert step_for(seconds) == pytest.approx(step)
    assert seconds / step_for(seconds) <= 180 * (1 + 1e-9)
