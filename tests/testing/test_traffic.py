from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccm._message import Message, Priority
from ccm.testing import Arrival, IrcLine, MalformedLine, irc_traffic, parse_irc, traffic

MIX = {Priority.CRITICAL: 0.02, Priority.HIGH: 0.18, Priority.NORMAL: 0.6, Priority.LOW: 0.2}


def seen(arrivals: list[Arrival]) -> list[tuple[object, ...]]:
    """Everything about the messages; they compare themselves by all their fields, but be explicit."""
    return [(a.at, a.message.id, a.message.conversation, a.message.user, a.message.text, a.message.tenant,
             a.message.priority) for a in arrivals]  # fmt: skip


def test_one_seed_is_one_workload() -> None:
    def workload(seed: int) -> list[tuple[object, ...]]:
        return seen(list(traffic(rate=50, count=200, seed=seed, mix=MIX, tenants={"a": 3, "b": 1})))

    assert workload(1) == workload(1)
    assert not {row[1] for row in workload(1)} & {row[1] for row in workload(2)}
    assert [row[0] for row in workload(1)] != [row[0] for row in workload(2)]


def test_times_rise_and_the_rate_is_kept() -> None:
    for arrivals in ("poisson", "constant"):
        times = [a.at for a in traffic(rate=20, duration=200, arrivals=arrivals)]
        assert times == sorted(times)
        assert times[0] >= 0
        assert times[-1] < 200
        assert len(times) == pytest.approx(4000, rel=0.05)


def test_constant_arrivals_are_exact_and_poisson_ones_are_bursty() -> None:
    assert [a.at for a in traffic(rate=4, count=4, arrivals="constant")] == [0, 0.25, 0.5, 0.75]
    times = [a.at for a in traffic(rate=1, count=5000)]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    # Exponential gaps: as much spread as mean; a share of 1/e is longer than the mean.
    assert sum(gap > 1 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.03)


def test_shares_of_priorities_and_tenants_are_kept() -> None:
    found = list(traffic(rate=1, count=10_000, mix=MIX, tenants={"big": 9, "small": 1, "none": 0}))
    priorities = Counter(a.message.priority for a in found)
    for priority, share in MIX.items():
        assert priorities[priority] / 10_000 == pytest.approx(share, abs=0.02)
    tenants = Counter(a.message.tenant for a in found)
    assert tenants["small"] / 10_000 == pytest.approx(0.1, abs=0.02)
    assert tenants["none"] == 0


def test_users_and_conversations_belong_to_their_tenant() -> None:
    found = list(traffic(rate=1, count=2000, users=3, conversations=2, tenants={"a": 1, "b": 1}))
    assert {a.message.user for a in found} == {f"{t}/user-{n}" for t in "ab" for n in range(3)}
    assert {a.message.conversation for a in found} == {
        f"{t}/conversation-{n}" for t in "ab" for n in range(2)
    }
    assert all(a.message.user.startswith(a.message.tenant) for a in found)


def test_another_mix_leaves_times_and_senders_alone() -> None:
    plain = list(traffic(rate=5, count=300))
    mixed = list(traffic(rate=5, count=300, mix=MIX, text=lambda rng: f"{rng.random()}"))
    assert {a.message.priority for a in plain} == {None}
    for one, other in zip(plain, mixed, strict=True):
        assert (one.at, one.message.user, one.message.conversation, one.message.id) == (
            other.at, other.message.user, other.message.conversation, other.message.id)  # fmt: skip
    assert len({a.message.text for a in mixed}) == 300


@given(short=st.integers(0, 50), more=st.integers(0, 50))
def test_a_longer_workload_begins_with_the_shorter(short: int, more: int) -> None:
    assert seen(list(traffic(rate=3, count=short, mix=MIX))) == seen(
        list(traffic(rate=3, count=short + more, mix=MIX))[:short]
    )


def test_is_endless_unless_it_is_told_where_to_end() -> None:
    assert len(list(itertools.islice(traffic(rate=1), 500))) == 500
    assert len(list(traffic(rate=1, count=10, duration=1e9))) == 10


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"count": -1}, "count"),
        ({"duration": -1.0}, "duration"),
        ({"users": 0}, "users"),
        ({"conversations": 0}, "conversations"),
        ({"arrivals": "bursty"}, "arrivals"),
        ({"tenants": {}}, "tenants"),
        ({"tenants": {"a": -1}}, "tenants"),
        ({"mix": {Priority.LOW: 0}}, "mix"),
    ],
)
def test_refuses_a_wrong_argument_before_the_first_message(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        traffic(**{"rate": 1, **arguments})


def test_reads_what_was_said_and_done() -> None:
    log = [
        "[11:25] <ada> hello  all \n",
        "[11:25] <pirate>\r\n",
        "[11:26]  * bob waves <3\n",
        "[11:27] <zcat[1] > hi",
    ]
    assert list(parse_irc(log, name="x.log")) == [
        IrcLine("x.log", 1, 685, "ada", "hello  all "),
        IrcLine("x.log", 2, 685, "pirate", ""),
        IrcLine("x.log", 3, 686, "bob", "waves <3", action=True),
        IrcLine("x.log", 4, 687, "zcat[1]", "hi"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "empty line"),
        ("   ", "empty line"),
        ("=== ada joined", "no [HH:MM] at the start"),
        ("[1:25] <ada> hi", "no [HH:MM] at the start"),
        ("[24:00] <ada> hi", "no such time: [24:00]"),
        ("[11:60] <ada> hi", "no such time: [11:60]"),
        ("[11:25]", "neither <nick> nor * nick after the time"),
        ("[11:25] <> hi", "neither <nick> nor * nick after the time"),
        ("[11:25] < > hi", "neither <nick> nor * nick after the time"),
        ("[11:25] ada: hi", "neither <nick> nor * nick after the time"),
        ("[١١:٢٥] <ada> hi", "no [HH:MM] at the start"),  # noqa: RUF001 - digits, but not these
    ],
)
def test_a_malformed_line_is_a_value(line: str, reason: str) -> None:
    log = ["[11:00] <ada> one", line, "[11:01] <ada> two"]
    one, bad, two = parse_irc(log, name="x.log")
    assert bad == MalformedLine("x.log", 2, line, reason)
    assert isinstance(one, IrcLine)
    assert isinstance(two, IrcLine)
    assert (one.line, two.line) == (1, 3)


NICKS = st.text("abcXYZ019[]_-^`|", min_size=1, max_size=20)
TEXTS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=40)


@given(st.lists(st.text() | st.builds("[{}] <{}> {}".format, st.text(), st.text(), st.text())))
def test_nothing_makes_it_raise_and_no_line_is_lost(lines: list[str]) -> None:
    found = list(parse_irc(lines, name="any"))
    assert [line.line for line in found] == list(range(1, len(lines) + 1))


@given(st.lists(st.tuples(st.integers(0, 1439), NICKS, TEXTS, st.booleans())))
def test_a_written_log_is_read_back(said: list[tuple[int, str, str, bool]]) -> None:
    lines = [
        f"[{clock // 60:02}:{clock % 60:02}] " + (f" * {nick} {text}" if action else f"<{nick}> {text}")
        for clock, nick, text, action in said
    ]
    found = list(parse_irc(lines, name="any"))
    assert all(isinstance(line, IrcLine) for line in found)
    assert [(line.nick, line.text, line.action) for line in found] == [entry[1:] for entry in said]  # type: ignore[union-attr]
    minutes = [line.minute for line in found]  # type: ignore[union-attr]
    assert minutes == sorted(minutes)


@given(st.integers(0, 1439), st.lists(st.integers(0, 1439 - 60)))
def test_midnights_are_crossed(start: int, gaps: list[int]) -> None:
    minutes = list(itertools.accumulate(gaps, initial=start))
    lines = [f"[{m % 1440 // 60:02}:{m % 60:02}] <ada> hi" for m in minutes]
    assert [line.minute for line in parse_irc(lines, name="any")] == minutes  # type: ignore[union-attr]


def test_a_clock_set_back_is_no_new_day() -> None:
    log = [f"[{clock}] <ada> hi" for clock in ("02:59", "02:00", "02:30", "03:01", "03:00")]
    assert [line.minute for line in parse_irc(log, name="x")] == [179, 179, 179, 181, 181]  # type: ignore[union-attr]


@pytest.fixture
def logs(tmp_path: Path) -> list[Path]:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    one.write_text(
        "[23:59] <ada> hi\n[23:59] <bob> Ada: hello\x0b\ryou\n[23:59] <bob>\n[23:59]  * ada waves\n"
        "[00:01] <ada> bob, bye\n[00:01] <ada> carol: are you there?\n",
        encoding="utf-8",
    )
    two.write_bytes(b"[08:00] <carol> caf\xe9\n[08:00] <carol> ada: hm\n")
    return [one, two]


def test_replays_logs_side_by_side_and_spreads_each_minute(logs: list[Path]) -> None:
    found = list(irc_traffic(logs, speed=2))
    assert [(a.at, a.message.id) for a in found] == [
        (0.0, "one.log:1"), (0.0, "two.log:1"), (7.5, "one.log:2"), (15.0, "one.log:3"),
        (15.0, "two.log:2"), (22.5, "one.log:4"), (60.0, "one.log:5"), (75.0, "one.log:6"),
    ]  # fmt: skip


def by_id(logs: list[Path], **options: Any) -> dict[str, Message]:
    return {a.message.id: a.message for a in irc_traffic(logs, **options)}


def test_knows_who_is_spoken_to_in_the_same_file(logs: list[Path]) -> None:
    found = {key: dict(message.metadata) for key, message in by_id(logs).items()}
    assert {key: value for key, value in found.items() if value} == {
        "one.log:2": {"to": "ada"},
        "one.log:4": {"action": True},
        "one.log:5": {"to": "bob"},
    }


def test_a_conversation_is_a_file_or_a_person(logs: list[Path]) -> None:
    shared, alone = by_id(logs), by_id(logs, by="user", tenant=lambda line: line.file)
    assert {m.conversation for m in shared.values()} == {"one.log", "two.log"}
    assert {m.conversation for m in alone.values()} == {"one.log/ada", "one.log/bob", "two.log/carol"}
    assert {m.tenant for m in shared.values()} == {""}
    assert {(m.tenant, m.user) for m in alone.values()} == {
        ("one.log", "ada"), ("one.log", "bob"), ("two.log", "carol")}  # fmt: skip
    assert by_id(logs, tenant="t")["one.log:1"].tenant == "t"
    assert shared["two.log:1"].text == "caf\ufffd"
    assert shared["one.log:2"].text == "Ada: hello\x0b\ryou"


def test_malformed_lines_are_refused_or_handed_over(logs: list[Path]) -> None:
    logs[1].write_text("[08:00] <carol> hi\nnoise\n")
    with pytest.raises(ValueError, match=r"two\.log:2: no \[HH:MM\] at the start, got 'noise'"):
        irc_traffic(logs)
    bad: list[MalformedLine] = []
    assert len(list(irc_traffic(logs, malformed=bad.append))) == 7
    assert [line.text for line in bad] == ["noise"]


def test_refuses_wrong_arguments_at_once(logs: list[Path]) -> None:
    with pytest.raises(ValueError, match="speed must be > 0"):
        irc_traffic(logs, speed=0)
    with pytest.raises(ValueError, match="by must be"):
        irc_traffic(logs, by="day")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="file names must differ"):
        irc_traffic([logs[0], logs[0]])
    with pytest.raises(FileNotFoundError):
        irc_traffic([logs[0].with_name("none.log")])


def test_no_files_and_empty_files_have_no_messages(tmp_path: Path) -> None:
    (tmp_path / "empty.log").touch()
    assert list(irc_traffic([])) == []
    assert list(irc_traffic([tmp_path / "empty.log"])) == []
