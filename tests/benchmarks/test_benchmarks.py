"""The benchmarks work and judge correctly; nothing here depends on how fast this machine is."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

import ccm
from benchmarks import http, loadcurve, reference, workloads
from benchmarks.__main__ import main, parse
from benchmarks._measure import Absent, Series, Void, interleave
from benchmarks._table import COLUMNS, Reach, Row, markdown, plain, show
from benchmarks.rows import CASES, Case, measure

RIVALS = {
    "telegram": "telegram", "telegram_submit": "telegram", "aiogram": "aiogram",
    "discord": "discord", "discord_all": "discord",
}  # fmt: skip


def row(reach: Reach | None = None) -> Row:
    return Row(name="r", what="w", unit="msg/s", reference_name="ref", reach=reach)


def series(*pairs: tuple[float, float], more_is_better: bool = True) -> Series:
    ours, others = zip(*pairs, strict=True)
    return Series(ours=ours, reference=others, more_is_better=more_is_better)


def test_rounds_alternate_between_ours_and_the_reference() -> None:
    calls: list[str] = []

    def subject(name: str) -> Callable[[int], float]:
        def run(n: int) -> float:
            calls.append(f"{name}{n}")
            return float(len(calls))

        return run

    result = interleave(subject("a"), subject("b"), n=7, rounds=3, more_is_better=True)
    assert calls == ["a7", "b7"] * 3
    assert result.ours == (1, 3, 5)
    assert result.reference == (2, 4, 6)


def test_ratio_is_of_the_bests_and_pairs_give_the_median() -> None:
    figures = series((80, 100), (50, 200), (90, 100))
    assert figures.ratio == 90 / 200
    assert figures.pair_ratio == 0.8
    assert series((4, 5), (3, 2), more_is_better=False).ratio == 3 / 2
    alone = Series(ours=(1.0,), reference=(), more_is_better=True)
    assert alone.ratio is None
    assert alone.pair_ratio is None


@pytest.mark.parametrize(
    ("reach", "verdict"),
    [
        (Reach(">=", 0.8), "reached"),
        (Reach(">=", 0.81), "missed"),
        (Reach("<=", 0.8), "reached"),
        (Reach("<=", 0.79), "missed"),
        (Reach(">=", 80, "figure"), "reached"),
        (Reach("<=", 79, "figure"), "missed"),
        (None, ""),
    ],
)
def test_verdict_at_the_bound(reach: Reach | None, verdict: str) -> None:
    judged = row(reach).measured(series((80, 100)), judge=True)
    assert judged.verdict == verdict
    assert judged.failed is (verdict == "missed")


def test_a_trial_run_is_not_judged() -> None:
    judged = row(Reach(">=", 5)).measured(series((80, 100)), judge=False)
    assert judged.verdict == "not judged"
    assert not judged.failed


@pytest.mark.parametrize(
    ("error", "verdict", "failed"), [(Void, "void", True), (Absent, "not measured", False)]
)
def test_what_could_not_be_measured_says_why(error: type[Exception], verdict: str, failed: bool) -> None:
    def broken(n: int) -> float:
        raise error("the reason")

    done = measure(Case(row=row(Reach(">=", 1)), ours=broken), rounds=2)
    assert (done.verdict, done.note, done.failed, done.ours) == (verdict, "the reason", failed, None)


def test_a_message_without_an_answer_makes_a_measurement_void() -> None:
    async def one_answered() -> ccm.Statistics:
        async with ccm.open_manager(workloads.nothing) as manager:
            await manager.ask(ccm.Message("c", "u", "hello"))
            return manager.statistics()

    statistics = trio.run(one_answered)
    workloads.check(statistics, 1)
    with pytest.raises(Void, match="2 messages were sent, but: 1 received = 1 replied"):
        workloads.check(statistics, 2)


@pytest.mark.parametrize("name", [name for name in CASES if name not in RIVALS])
def test_each_workload_is_answered_completely(name: str) -> None:
    done = measure(CASES[name], rounds=1, quick=True)
    assert done.verdict in ("not judged", ""), done.note
    assert done.ours is not None
    assert done.ours >= 0
    assert (done.reference is None) == (CASES[name].reference is None)


def test_the_endpoint_compared_with_answers_as_many_bytes() -> None:
    # Times have more or fewer digits.
    assert http.size("empty") == pytest.approx(http.size("ccm"), abs=20)


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_is_measured_or_said_to_be_absent(name: str) -> None:
    done = measure(CASES[name], rounds=1, quick=True)
    if importlib.util.find_spec(RIVALS[name]):
        assert done.verdict == "not judged", done.note
    else:
        assert done.verdict == "not measured"
        assert "is not installed; pip install '.[bench]'" in done.note


def test_own_reference_programs_do_their_work() -> None:
    import asyncio  # only here: the library's own tests are Trio's

    assert trio.run(reference.own_channel, 200) > 0
    assert trio.run(reference.own_ask, 200, 8, 4) > 0
    assert asyncio.run(reference.own_seed_style(200)) > 0


def test_table_has_a_line_per_row_with_and_without_figures() -> None:
    full = row(Reach(">=", 0.5)).measured(series((2000, 4000)), judge=True)
    text = plain([full, row()]).splitlines()
    assert text[0].split("  ")[0] == COLUMNS[0]
    assert "2,000 msg/s" in text[1]
    assert "4,000 msg/s (ref)" in text[1]
    assert ">= 0.5 x" in text[1]
    assert text[1].endswith("reached")
    assert len(text) == 3
    assert "| w | 0.50 | >= 0.5 x | 0.50 | 2,000 msg/s | 4,000 msg/s (ref) | `r` |\n" in markdown([full])
    out = io.StringIO()
    show([full], out)
    assert "reached" in out.getvalue()


def test_command_writes_json_and_succeeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    assert main(["build", "ask64", "--quick", "--json", str(file)]) == 0
    written = json.loads(file.read_text(encoding="utf-8"))
    assert [r["name"] for r in written["rows"]] == ["build", "ask64"]
    assert written["rows"][1]["reach"] == ">= 0.6 x"
    assert "ask64" in capsys.readouterr().out
    assert main(["build", "--quick", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["quick"] is True


def test_command_fails_when_a_reach_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Case(row=row(Reach(">=", 2)), ours=float, reference=float, n=1)
    monkeypatch.setitem(CASES, "r", slow)
    assert main(["r", "--rounds", "1"]) == 1


@pytest.mark.parametrize("arguments", [["nonsense"], ["--rounds", "0"]])
def test_command_refuses_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        parse(arguments)
    assert refused.value.code == 2
    assert arguments[-1] in capsys.readouterr().err


@pytest.mark.parametrize("system", loadcurve.PROGRAMS)
def test_below_capacity_everything_is_answered_in_both_systems(system: str) -> None:
    point = loadcurve.measure(system, 0.3, duration=3)
    assert (point.told, point.silent) == (0, 0)
    assert point == loadcurve.measure(system, 0.3, duration=3)


def test_overload_makes_urgent_messages_wait_only_without_ccm() -> None:
    ours, theirs = (loadcurve.measure(system, 3, duration=4) for system in ("ccm", "seed"))
    assert ours.p99["CRITICAL"] < 0.1 < 1 < theirs.p99["CRITICAL"]
    assert ours.silent == 0


def test_the_picture_is_drawn_or_the_extra_is_named(tmp_path: Path) -> None:
    points = {system: [loadcurve.measure(system, 0.5, duration=1)] for system in loadcurve.PROGRAMS}
    file = tmp_path / "curve.svg"
    if importlib.util.find_spec("matplotlib"):
        loadcurve.draw(points, file)
        assert file.read_text(encoding="utf-8").startswith("<?xml")
    else:
        with pytest.raises(SystemExit, match=r"pip install '\.\[plot\]'"):
            loadcurve.draw(points, file)
