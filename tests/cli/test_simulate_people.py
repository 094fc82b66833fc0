"""Who sends and who answers in a simulation: rates, shares, copies of logs, failures, the provider."""

from __future__ import annotations

import tomllib
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import attrs
import pytest

from ccm import Priority
from ccm.cli._console import UsageError
from ccm.cli._simulate._bot import Gate
from ccm.cli._simulate._logs import read_logs, replayed, span
from ccm.cli._simulate._people import DRAW, parts, people, times
from ccm.cli._simulate._play import Player
from ccm.cli._simulate._read import read
from ccm.cli._simulate._report import Report
from ccm.cli._simulate._scenario import Provider, Scenario
from ccm.testing import Arrival


def scenario(text: str, **changes: Any) -> Scenario:
    return read(tomllib.loads(text) | changes, "x.toml")


def played(text: str, **changes: Any) -> Report:
    return Player().play(scenario(text, **changes), {}, None)


def when(text: str, seed: str = "1") -> list[float]:
    return list(times(scenario(f"duration = 1000\n[[traffic]]\n{text}").groups[0], seed))


# -- when --------------------------------------------------------------------------------------------------


def test_a_constant_rate() -> None:
    assert when("rate = 0.5\narrivals = 'constant'\nend = 6") == [0, 2, 4]
    found = when("rate = 20")
    assert found == sorted(found)
    assert len(found) == pytest.approx(20_000, rel=0.03)
    gaps = [b - a for a, b in pairwise(found)]
    # Of a Poisson process: one gap in e is longer than the mean.
    assert sum(gap > 1 / 20 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)


def test_start_end_and_ramp() -> None:
    found = when("rate = 10\nstart = 100\nend = 900\nramp = 400")
    assert 100 <= min(found) < max(found) < 900
    early = sum(at < 300 for at in found)
    # Half of the ramp's time has a quarter of the ramp's messages.
    assert early == pytest.approx(10 * 400 / 8, rel=0.15)
    assert sum(at >= 500 for at in found) == pytest.approx(4000, rel=0.1)


def test_a_shape_is_followed() -> None:
    found = when("rate = 10\nshape = [0, 2, 0]\narrivals = 'constant'")
    assert len(found) == pytest.approx(10_000, abs=2)
    for a, b in ((100, 300), (450, 550), (900, 1000)):
        expected = sum(20 * (at if at < 500 else 1000 - at) / 500 for at in range(a, b))
        assert sum(a <= at < b for at in found) == pytest.approx(expected, rel=0.02)
    day = when("rate = 10\nshape = 'day'")
    assert len(day) == pytest.approx(10_000, rel=0.05)
    assert sum(at < 250 for at in day) < 0.3 * sum(at >= 750 for at in day)


def test_another_limit_or_mix_leaves_times_and_senders_as_they_are() -> None:
    text = "duration = 50\n[[traffic]]\nrate = 10\ntenants = 3\n"

    def senders(text: str) -> list[tuple[float, str, str]]:
        return [(a.at, a.message.user, a.message.conversation) for a in people(scenario(text))]

    assert senders(text) == senders(text + "mix = { low = 1 }\n[config]\nlimit = 3\n[handler]\nlatency = 2")
    assert senders(text) != senders("seed = 2\n" + text)


def test_groups_are_merged_in_order() -> None:
    text = "duration = 100\n[[traffic]]\nrate = 3\n[[traffic]]\nrate = 2\ntenant = 'b'\nstart = 50"
    found = list(people(scenario(text)))
    assert [a.at for a in found] == sorted(a.at for a in found)
    assert {a.message.tenant for a in found if a.at < 50} == {""}
    assert {a.message.tenant for a in found if a.at >= 50} == {"", "b"}
    assert len({a.message.text for a in found}) == len(found)


# -- who ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "shares", "expected"),
    [(10, [1, 1], [5, 5]), (3, [1, 1, 1000], [1, 1, 1]), (100, [3, 1, 0.01], [74, 25, 1]), (7, [2], [7])],
)  # fmt: skip
def test_parts(total: int, shares: list[float], expected: list[int]) -> None:
    assert parts(total, shares) == expected


def test_people_belong_to_tenants_and_rooms() -> None:
    text = (
        "duration = 2000\n[[traffic]]\nrate = 10\nusers = 60\nconversations = 12\n"
        "tenants = { big = 2, small = 1, none = 0 }"
    )
    found = [a.message for a in people(scenario(text))]
    tenants = Counter(message.tenant for message in found)
    assert tenants["big"] == pytest.approx(2 * tenants["small"], rel=0.1)
    assert set(tenants) == {"big", "small"}
    assert len({message.user for message in found}) == 60
    assert len({message.conversation for message in found}) == 12
    rooms = {(message.user, message.conversation) for message in found}
    assert len(rooms) == 60  # everybody has one room
    assert {message.user.split("/")[0] for message in found} == {"big", "small"}
    classes = Counter(message.priority for message in found)
    assert classes[Priority.NORMAL] / len(found) == pytest.approx(0.6, abs=0.02)
    assert classes[Priority.CRITICAL] / len(found) == pytest.approx(0.02, abs=0.006)


# -- logs --------------------------------------------------------------------------------------------------

GENERAL = "[12:00] <ada> bot: hello\n[12:00] <ben> please help\n[12:02] <ada> nice\n"
HELP = "[09:00] <cy> what is this?\nnonsense\n[09:01] <ada> a log\n"


@pytest.fixture
def logs(tmp_path: Path) -> list[str]:
    (tmp_path / "general.log").write_text(GENERAL)
    (tmp_path / "help.log").write_text(HELP)
    return [str(tmp_path / "general.log"), str(tmp_path / "help.log")]


def replay(logs: list[str], **settings: Any) -> tuple[Scenario, list[Arrival]]:
    found = read({"replay": {"logs": logs, **settings}}, "x.toml")
    assert found.replay is not None
    said, _ = read_logs(found.replay)
    return found, list(replayed(found, said))


def test_a_log_as_it_was_said(logs: list[str]) -> None:
    _, found = replay(logs)
    assert [(a.at, a.message.user, a.message.tenant) for a in found] == [
        (0, "general.log/ada#1", "general.log#1"),
        (0, "help.log/cy#1", "help.log#1"),
        (30, "general.log/ben#1", "general.log#1"),
        (60, "help.log/ada#1", "help.log#1"),
        (120, "general.log/ada#1", "general.log#1"),
    ]
    assert [a.message.priority for a in found] == [
        Priority.NORMAL, Priority.HIGH, Priority.HIGH, Priority.NORMAL, Priority.NORMAL,
    ]  # fmt: skip
    assert {a.message.conversation for a in found} == {"general.log#1", "help.log#1"}


def test_copies_have_their_own_people_rooms_and_times(logs: list[str]) -> None:
    for by, rooms in (("file", 2), ("user", 4)):
        found, said = replay(logs, scale=50, shift=600, by=by)
        assert found.replay is not None
        assert len(said) == 250
        assert [a.at for a in said] == sorted(a.at for a in said)
        assert len({a.message.user for a in said}) == 200
        assert len({a.message.conversation for a in said}) == 50 * rooms
        assert len({a.message.tenant for a in said}) == 100
        assert len({a.message.text for a in said}) == 250
        starts = [a.at for a in said if a.message.user.startswith("help.log/cy")]
        assert min(starts) == 0
        assert len(set(starts)) == 50
        assert max(starts) <= 600
        assert sum(starts) / 50 == pytest.approx(300, rel=0.3)
        for copy in ("#1", "#2", "#50"):  # the gaps inside a copy are those of the log
            times_ = [a.at for a in said if a.message.tenant == f"general.log{copy}"]
            assert [b - a for a, b in pairwise(times_)] == pytest.approx([30, 90])
        assert max(a.at for a in said) <= span(found.replay, read_logs(found.replay)[0])
    assert replay(logs, scale=3)[1] == replay(logs, scale=3)[1]


def test_speed(logs: list[str]) -> None:
    _, found = replay(logs, speed=60, scale=20)
    assert found[-1].at <= 62
    assert max(a.at for a in found if a.message.tenant == "general.log#1") == 2


def test_a_bot_is_asked_about_every_message(logs: list[str]) -> None:
    report = Player().play(read({"replay": {"logs": logs, "scale": 4}}, "x.toml"), {}, None)
    assert report.ok
    assert report.rehearsal.sent == 20
    assert report.rehearsal.total.outcomes["replied"] == 20
    assert report.rehearsal.duration == max(a.at for a in replay(logs, scale=4)[1])
    cut = Player().play(read({"duration": 45, "replay": {"logs": logs}}, "x.toml"), {}, None)
    assert cut.rehearsal.sent == 3


def test_logs_without_a_message(tmp_path: Path) -> None:
    (tmp_path / "empty.log").write_text("nothing\n")
    with pytest.raises(UsageError, match=r"no message in these logs; a line looks like this"):
        replay([str(tmp_path / "empty.log")])


# -- who answers -------------------------------------------------------------------------------------------

CALM = "duration = 200\n[[traffic]]\nrate = 5\n[config]\nrate_limit = false\n"


def test_the_draws_of_a_message_do_not_depend_on_when_it_is_handled() -> None:
    text = CALM + "[handler]\nlatency = 'uniform:1,3'\n"
    draws = [a.message.metadata[DRAW] for a in islice(people(scenario(text)), 50)]
    assert all(0 <= fate < 1 <= seconds <= 3 for fate, seconds in draws)
    assert len(set(draws)) == 50
    for limit in (2, 50):
        run = played(text.replace("rate_limit = false", f"rate_limit = false\nlimit = {limit}")).rehearsal
        assert 0.97 <= run.total.service.quantile(0) <= run.total.service.max <= 3 + 1e-9


def test_latencies_by_class() -> None:
    run = played(CALM + "[handler.latency]\ncritical = 0.25\nother = 2").rehearsal
    assert run.classes[Priority.CRITICAL].service.max == pytest.approx(0.25)
    assert run.classes[Priority.LOW].service.max == pytest.approx(2)


def test_failures() -> None:
    report = played(CALM + "[handler]\nlatency = 1\nerrors = 0.2\nbusy = 0.1\nhangs = 0.05\nretry_after = 2")
    run, route = report.rehearsal, report.rehearsal.statistics.routes["chat"]
    assert report.ok
    assert report.busy == pytest.approx(0.1 * report.calls, rel=0.3)
    assert route.timeouts == pytest.approx(0.05 * report.calls, rel=0.5)
    assert route.failed_attempts == pytest.approx(0.35 * report.calls, rel=0.2)
    assert 0 < run.total.outcomes["failed"] < 0.1 * run.sent


@pytest.mark.parametrize(
    ("outage", "calls", "busy", "timeouts"),
    [
        ("what = 'busy'\nretry_after = 60", (1.1, 1.6), (0.2, 0.6), 0),
        ("what = 'errors'", (1.3, 2.5), (0, 0), 0),
        ("what = 'slow'\nfactor = 5", (1, 1), (0, 0), 0),
        ("what = 'hang'", (1.01, 1.6), (0, 0), 20),
        ("what = 'errors'\nshare = 0.5", (1.1, 1.6), (0, 0), 0),
    ],
)
def test_outages(outage: str, calls: tuple[float, float], busy: tuple[float, float], timeouts: int) -> None:
    text = CALM + f"[handler]\nlatency = 1\n[[outage]]\nfrom = 50\nto = 100\n{outage}"
    report = played(text)
    run = report.rehearsal
    assert report.ok
    assert calls[0] * run.sent <= report.calls <= calls[1] * run.sent
    assert busy[0] * run.sent <= report.busy <= busy[1] * run.sent
    assert run.statistics.routes["chat"].timeouts >= timeouts
    slow = run.total.service.max
    assert (slow == pytest.approx(5)) if "slow" in outage else slow <= 30
    line = run.timeline
    answered = line.outcomes["replied"]
    quiet = sum(answered[int(55 / line.step) : int(100 / line.step)])
    assert (quiet < 5) == ("share" not in outage and "slow" not in outage), quiet


def test_the_fallback_says_something_in_time() -> None:
    text = CALM + "max_wait = { NORMAL = 1, LOW = 1 }\nlimit = 2\n[handler]\nlatency = 1\n"
    assert played(text).rehearsal.total.outcomes["expired"] > 100
    run = played(text + "fallback = 0.25").rehearsal
    assert run.statistics.fallbacks > 100
    assert run.total.outcomes["expired"] < 100


def gate(**settings: Any) -> Gate:
    values = {"concurrency": None, "rate": None, "burst": 1, "retry_after": None} | settings
    return Gate(Provider(**values))


def test_a_provider_takes_so_many_at_a_time() -> None:
    one = gate(concurrency=2)
    assert [one.enter(0), one.enter(0), one.enter(0)] == [None, None, 1]
    one.inside -= 1
    assert one.enter(0) is None


def test_a_provider_takes_so_many_a_second() -> None:
    one = gate(rate=2, burst=3)
    assert [one.enter(0) for _ in range(4)] == [None, None, None, 0.5]
    assert one.enter(0.25) == 0.25
    assert [one.enter(0.5), one.enter(0.5)] == [None, 0.5]
    assert [one.enter(100) for _ in range(4)] == [None, None, None, 0.5]
    assert gate(rate=2, burst=1, retry_after=7).enter(0) is None
    two = gate(rate=2, burst=1, retry_after=7)
    assert [two.enter(0), two.enter(0)] == [None, 7]


def test_beyond_what_the_provider_takes_it_is_busy() -> None:
    text = CALM + "[handler]\nlatency = 1\n[provider]\n"
    assert played(text + "concurrency = 50").busy == 0
    tight = played(text + "concurrency = 4\nrate = 4.5")
    assert tight.busy > 100
    assert tight.ok
    for step, running in enumerate(tight.rehearsal.timeline.running):
        assert running <= 4 + 1e-6, step


def test_a_handler_that_keeps_to_the_providers_limit_is_not_told_that_it_is_busy() -> None:
    text = CALM + "[config.provider_limits]\nmodel = 4\n[handler]\nlatency = 1\nlimit = 'model'\n"
    run = played(text + "[provider]\nconcurrency = 4")
    assert run.ok
    assert run.busy == 0
    assert run.rehearsal.total.outcomes["replied"] == run.rehearsal.sent
    assert run.rehearsal.statistics.peak_running > 4  # waiting for a permit, they keep their slots
    assert played(text + "[provider]\nconcurrency = 3").busy > 0


def test_all_of_it_is_plain_data() -> None:
    found = scenario(CALM)
    assert attrs.asdict(found)["source"] == tomllib.loads(CALM)
