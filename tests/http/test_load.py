"""`ccm load`: what it sends, how it judges, and its exit codes, against real and failing servers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

import ccm
from ccm.cli import main
from ccm.cli._load_mix import PRESETS, TEST, Preset
from ccm.cli._load_run import Load, Result, run_load
from ccm.cli._web import Target
from ccm.http import Settings
from tests.model_kit import Call, fake_server, real

from .live import in_thread

FREE = ccm.Config(rate_limit=None)


async def quick(turn: ccm.Turn) -> str:
    await turn.send("well ")
    await turn.send("said")
    return "well said"


def run(url: str, *arguments: str) -> int:
    return main(["load", url, "--users", "5", "--rate", "40", "--duration", "1", "--json", *arguments])


@pytest.mark.parametrize("more", [[], ["--stream"]])
def test_a_quick_server_holds_every_target(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with in_thread(quick, config=FREE) as server:
        assert run(server.url, "--target", "CRITICAL=1", *more) == 0
        report = json.loads(capsys.readouterr().out)
        figures = server.manager.statistics()
    (sent,) = report["runs"]
    assert report["ok"]
    assert sent["sent"] == sent["answers"]["200"] == figures.received
    assert sum(row["answered"] for row in sent["classes"]) == sent["sent"] > 20
    assert {row["class"] for row in sent["classes"]} == {"CRITICAL", "HIGH", "NORMAL", "LOW"}
    for row in sent["classes"]:
        assert row["response"]["count"] == row["wait"]["count"] == row["sent"]
        assert row["first"]["count"] == (row["sent"] if more else 0)
        assert figures.wait[ccm.Priority[row["class"]]].count == row["sent"], "the class was sent along"


def test_a_target_that_is_missed_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    async def slow(turn: ccm.Turn) -> str:
        await trio.sleep(0.1)
        return "late"

    with in_thread(slow, config=ccm.Config(rate_limit=None, limit=1, headroom={})) as server:
        assert run(server.url, "--preset", "ai", "--target", "HIGH=0.05") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert any(text.startswith("HIGH: 99 in 100 waited up to") for text in report["runs"][0]["missed"])


def test_refusals_are_counted_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    with in_thread(quick, Settings(rate=ccm.RateLimit(10, per=10)), config=FREE) as server:
        assert run(server.url) == 1
    (sent,) = json.loads(capsys.readouterr().out)["runs"]
    assert sent["answers"]["429"] == sum(row["refused"] for row in sent["classes"]) > 0
    assert any("429: the server's rate limits" in text for text in sent["missed"])


def test_tables_and_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with in_thread(quick, config=FREE) as server:
        arguments = ["load", server.url, "--rate", "10", "--duration", "0.5", "--preset", "performance"]
        assert main([*arguments, "--target", "CRITICAL=1"]) == 0
    out, err = capsys.readouterr()
    for name in TEST:
        assert f"{name}: " in err
        assert f"{name}: 20 people" in out
    assert "OK: every target held" in out


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", "http://127.0.0.1:9"]) == 2
    assert "is 'ccm serve' running there?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--users", "0"], "from 1 to 100000"), (["--rate", "0"], "above 0"),
        (["--preset", "calm"], "invalid choice: 'calm'"),
        (["--target", "SOON=1"], "must be like CRITICAL=0.1"),
        (["--target", "HIGH=0"], "above 0"),
    ],
)  # fmt: skip
def test_wrong_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["load", "http://127.0.0.1:9", *arguments]) == 2
    assert said in capsys.readouterr().err


async def cut(call: Call) -> None:
    await call.stream.aclose()


async def broken(call: Call) -> None:
    await call.refuse("500 Oops", {"title": "oops"})


async def odd(call: Call) -> None:
    await call.refuse("200 OK", b"[1]")


async def late_problem(call: Call) -> None:
    await call.begin()
    await call.chunk('event: piece\ndata: {"text": "a"}\n\n')
    await call.chunk('event: outcome\ndata: {"problem": {"status": 502}}\n\n')
    await call.end(done=False)


@real
@pytest.mark.parametrize(
    ("behaviour", "fate", "status"),
    [
        (cut, "lost", "RemoteProtocolError"), (broken, "failed", "500"), (odd, "failed", "200"),
        (late_problem, "failed", "502"),
    ],
)  # fmt: skip
async def test_what_goes_wrong_is_told_apart(behaviour: Any, fate: str, status: str) -> None:
    async with fake_server(behaviour) as server:
        load = Load(preset=PRESETS["stress"], users=2, rate=5, duration=0.5)
        result = await run_load(Target(server.url.removesuffix("/v1")), load)
    sent = sum(row.sent for row in result.classes.values())
    assert sent
    assert sum(getattr(row, fate) for row in result.classes.values()) == sent
    assert result.answers == {status: sent}
    assert f"{sent} of {sent} messages {fate}" in result.missed()


def test_presets_are_what_they_say() -> None:
    assert set(PRESETS) == set(TEST)
    for preset in PRESETS.values():
        assert sum(preset.mix.values()) == pytest.approx(1)
        assert set(preset.mix) <= set(preset.texts)
    assert PRESETS["stress"].answered is None


def test_nothing_sent_is_no_success() -> None:
    calm = Preset(name="calm", meaning="", mix={ccm.LOW: 1.0})
    assert Result(Load(preset=calm, users=1, rate=1, duration=1)).missed() == [
        "nothing was sent: raise --rate or --duration"
    ]
