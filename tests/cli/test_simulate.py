"""`ccm simulate`: from arguments to tables, JSON, pictures and exit codes; the same seed, the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from ccm.cli import main
from ccm.cli._simulate._options import split, value_of, varied
from ccm.cli._simulate._show import chart

SMALL = ("simulate", "--users", "500", "--duration", "60", "--rate", "8", "--limit", "7", "--tenants", "12")
TOML = """
title = "small"
duration = 60
[config]
limit = 5
[[traffic]]
users = 100
rate = 6
[[traffic]]
users = 50
rate = 2
tenant = "other"
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(TOML)
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert main(["simulate", *arguments]) == code
    out, err = capsys.readouterr()
    return out, err


def data(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told(capsys, *arguments, "--json", code=code)[0])
    return found


def one(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    (run,) = data(capsys, *arguments, code=code)["runs"]
    found: dict[str, Any] = run
    return found


# -- the same seed, the same bytes -------------------------------------------------------------------------


def in_a_process(hash_seed: str, *arguments: str) -> bytes:
    env = {name: value for name, value in os.environ.items() if not name.startswith("CCM_")}
    done = subprocess.run(
        [sys.executable, "-m", "ccm", *arguments], capture_output=True, timeout=120, check=False,
        env=env | {"PYTHONHASHSEED": hash_seed, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


TROUBLE = (
    "--failures", "errors=0.05,busy=0.05,hangs=0.01", "--set", "max_wait={NORMAL=20,LOW=3}",
    "--set", "timeout=10",
)  # fmt: skip


@pytest.mark.parametrize("extra", [(), ("--json",), ("--vary", "limit=5,9"), TROUBLE, (*TROUBLE, "--json")])
def test_two_processes_print_the_same_bytes(extra: tuple[str, ...]) -> None:
    first, second = (in_a_process(seed, *SMALL, *extra) for seed in ("1", "2"))
    assert first == second
    assert first != in_a_process("1", *SMALL, *extra, "--seed", "2")


def test_the_output_is_that_of_this_process_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Hypothesis, which is loaded here, changes how Trio shuffles."""
    assert (
        in_a_process("0", *SMALL, *TROUBLE, "--json").decode()
        == told(capsys, *SMALL[1:], *TROUBLE, "--json")[0]
    )


def test_nothing_of_the_wall_clock_is_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    out, err = told(capsys, *SMALL[1:])
    assert "simulated 6" in err
    assert "messages a second" in err
    assert "simulated" not in out


# -- what is printed ---------------------------------------------------------------------------------------


def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = told(capsys, *SMALL[1:])
    assert "\x1b" not in out  # colours are for terminals
    for word in ("per class", "CRITICAL", "per tenant, the biggest first", "4 others", "tenant-", "timeline",
                 "wait p99 LOW", "limit 7", "conservation", "OK: every law and target held"):  # fmt: skip
        assert word in out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    run = one(capsys, *SMALL[1:])
    normal = next(row for row in run["classes"] if row["class"] == "NORMAL")
    assert lines["NORMAL"][1:3] == [str(normal["messages"]), str(normal["outcomes"]["replied"])]
    assert f"{run['sent']} messages in 60 s" in out


def test_one_tenant_needs_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = told(capsys, "--users", "5", "--duration", "60", "--tenants", "1")
    assert "per tenant" not in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    found = data(capsys, *SMALL[1:], *TROUBLE)
    assert list(found) == ["command", "ok", "missed", "runs"]
    assert (found["command"], found["ok"], found["missed"]) == ("simulate", True, [])
    (run,) = found["runs"]
    assert run["varied"] == {}
    assert run["scenario"]["config"]["limit"] == 7
    assert run["scenario"]["traffic"] == [{"users": 500, "tenants": 12, "rate": 8.0}]
    assert [row["class"] for row in run["classes"]] == ["CRITICAL", "HIGH", "NORMAL", "LOW"]
    assert len(run["tenants"]) == 12
    tenants = [row["messages"] for row in run["tenants"]]
    assert tenants == sorted(tenants, reverse=True)
    for rows in (run["classes"], run["tenants"], [run["total"]]):
        assert sum(row["messages"] for row in rows) == run["sent"]
        for row in rows:
            assert sum(row["outcomes"].values()) == row["messages"]
            assert set(row["wait"]) == {"count", "mean", "p50", "p90", "p99", "max"} == set(row["service"])
            assert row["loss"] == pytest.approx(1 - row["answered"] / row["messages"])
    line = run["timeline"]
    steps = len(line["arrivals"])
    assert steps >= 60 / line["step"]
    assert sum(line["arrivals"]) == run["sent"]
    for outcome, counts in line["outcomes"].items():
        assert len(counts) == steps
        assert sum(counts) == run["total"]["outcomes"][outcome] > 0
    for column in ("running", "limit", "waiting"):
        assert len(line[column]) == steps
    for waits in (*line["wait_p50"].values(), *line["wait_p99"].values()):
        assert len(waits) == steps
    assert run["peak_waiting"] >= max(line["waiting"])
    assert [check["law"] for check in run["checks"]] == ["G1", "G2", "G3"]
    assert all(check["ok"] for check in run["checks"])
    assert 0 < run["goodput"] < run["used"] < 1
    assert run["busy"] > 0
    assert run["retries"] > 0
    assert run["timeouts"] > 0
    assert run["conservation"].startswith(f"{run['sent']} received = ")


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 1, 2, 4, None, 8], " ▁▂▄ █"), ([0.0, 0.0], "  "), ([1e-9, 1], "▁█"), ([], "")],
)
def test_chart(values: list[float | None], expected: str) -> None:
    assert chart(values, max((v for v in values if v is not None), default=0), " ▁▂▃▄▅▆▇█") == expected


def test_where_blocks_cannot_be_printed_there_are_other_characters() -> None:
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "ccm", *SMALL], capture_output=True, env=env, timeout=120, check=True
    )
    timeline = done.stdout.partition(b"timeline")[2].partition(b"laws")[0]
    assert b"\\u" not in timeline
    assert b"@" in timeline


# -- what is varied ----------------------------------------------------------------------------------------


def test_settings_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    found = data(capsys, *SMALL[1:], "--vary", "limit=4,30", "--vary", "overflow=reject_new,shed_lowest")
    varied = [run["varied"] for run in found["runs"]]
    assert varied == [
        {"limit": "4", "overflow": "reject_new"},
        {"limit": "4", "overflow": "shed_lowest"},
        {"limit": "30", "overflow": "reject_new"},
        {"limit": "30", "overflow": "shed_lowest"},
    ]
    assert [run["limit"] for run in found["runs"]] == [4, 4, 30, 30]
    assert len({run["sent"] for run in found["runs"]}) == 1
    waits = [run["total"]["wait"]["p99"] for run in found["runs"]]
    assert waits[0] > 10 > waits[2]
    out, _ = told(capsys, *SMALL[1:], "--vary", "limit=4,30", "--vary", "overflow=reject_new,shed_lowest")
    assert "side by side" in out
    assert sum(line.split()[:1] == ["30"] for line in out.splitlines()) == 2


def test_users_rate_seed_and_parts_of_settings_can_be_varied(
    capsys: pytest.CaptureFixture[str], file: str
) -> None:
    runs = data(capsys, "--scenario", file, "--vary", "rate=4,16")["runs"]
    assert [run["sent"] / 60 for run in runs] == pytest.approx([4, 16], rel=0.3)
    shares = [row["messages"] for row in runs[1]["tenants"]]
    assert shares[0] / shares[1] == pytest.approx(3, rel=0.4)
    runs = data(capsys, "--scenario", file, "--vary", "users=30,300")["runs"]
    assert [[g["users"] for g in run["scenario"]["traffic"]] for run in runs] == [[20, 10], [200, 100]]
    runs = data(capsys, "--duration", "300", "--vary", "users=1000,4000")["runs"]
    assert runs[1]["sent"] / runs[0]["sent"] == pytest.approx(4, rel=0.2)
    runs = data(capsys, "--scenario", file, "--vary", "seed=1,2", "--vary", "max_wait.LOW=1,9")["runs"]
    assert [run["scenario"]["config"]["max_wait"] for run in runs] == [{"LOW": 1}, {"LOW": 9}] * 2
    assert len({run["sent"] for run in runs}) == 2


def test_values_of_settings() -> None:
    assert split("a,[1, 2],{b = 3, c = [4]},d") == ["a", "[1, 2]", "{b = 3, c = [4]}", "d"]
    values = [value_of(text) for text in ("5", "0.5", "[1, 2]", "{ a = 1 }", "wait", "none", "off", '"7"')]
    assert values == [5, 0.5, [1, 2], {"a": 1}, "wait", None, False, "7"]
    assert varied([]) == [{}]
    assert varied(["rate_limit=[5,10],none"]) == [{"rate_limit": "[5,10]"}, {"rate_limit": "none"}]


# -- options and errors ------------------------------------------------------------------------------------


def test_options_change_a_scenario(capsys: pytest.CaptureFixture[str], file: str) -> None:
    run = one(
        capsys, "--scenario", file, "--limit", "9", "--set", "queue_limit=3", "--duration", "30",
        "--seed", "5", "--mix", "low=1", "--handler-latency", "constant:0.5",
        "--provider", "concurrency=6,retry_after=2", "--step", "1", "--rate", "10",
    )  # fmt: skip
    said = run["scenario"]
    assert said["config"] == {"limit": 9, "queue_limit": 3}
    assert (said["duration"], said["seed"], said["step"]) == (30, 5, 1)
    assert [group["rate"] for group in said["traffic"]] == [7.5, 2.5]
    assert said["provider"] == {"concurrency": 6, "retry_after": 2}
    assert [row["messages"] for row in run["classes"]] == [0, 0, 0, run["sent"]]
    assert run["timeline"]["step"] == 1
    assert run["total"]["service"]["max"] == pytest.approx(0.5)


def test_without_options_it_is_an_hour_of_ten_thousand(capsys: pytest.CaptureFixture[str]) -> None:
    run = one(capsys, "--duration", "30")
    assert run["scenario"] == {"traffic": [{"users": 10000, "tenants": 10}], "duration": 30}
    assert run["sent"] == pytest.approx(30 * 10000 * 6 / 3600, rel=0.2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenario", "nope"], "no scenario 'nope'; there are: morning-peak, noisy-neighbour"),
        (["--show", "nope"], "no scenario 'nope'"),
        (["--users", "0"], "must be a whole number from 1 to 10000000, got '0'"),
        (["--users", "5", "--tenants", "10"], "the options: traffic[1].users must be at least one for each"),
        (
            ["--handler-latency", "fast"],
            "the options: handler.latency must be a number of seconds, 'constant:S'",
        ),
        (["--mix", "critical"], "--mix must be NAME=VALUE,NAME=VALUE,..., got 'critical'"),
        (["--mix", "urgent=1"], "traffic[1].mix must be a table whose keys are critical"),
        (["--failures", "errors=2"], "handler.errors must be a number >= 0 and <= 1, got 2"),
        (["--provider", "speed=2"], "unknown key 'provider.speed'; known here: rate, concurrency, burst"),
        (["--set", "limit"], "--set must be SETTING=VALUE, got 'limit'"),
        (["--set", "limits=3"], "unknown setting 'limits' in [config] of the options; known are: limit,"),
        (["--set", "limit=many"], "limit must be a whole number from 1 to 100000, got 'many'"),
        (["--vary", "limit"], "--vary must be SETTING=VALUE,VALUE,..., got 'limit'"),
        (["--vary", "limit=3,"], "--vary must be SETTING=VALUE,VALUE,..., got 'limit=3,'"),
        (["--vary", "limit=3", "--vary", "limit=4"], "--vary has 'limit' twice; give all its values in one"),
        (["--vary", "limit=5,0"], "limit must be a whole number from 1 to 100000, got 0"),
        (["--vary", "users=none"], "users must be a number > 0, got None"),
        (
            ["--scenario", "raid", "--tenants", "3"],
            "--tenants needs a scenario with one [[traffic]], it has 3",
        ),
        (["--scale", "3"], "--scale needs --replay; leave it out"),
        (["--replay", "x.log", "--users", "3"], "--users is about made-up people, and this is a replay"),
        (["--replay", "none.log"], "cannot read 'none.log': No such file or directory; name chat logs"),
        (["--replay", "x.log", "--vary", "users=3"], "users and rate need a scenario with [[traffic]]"),
        (["--plot", "x.gif"], "--plot must be a file that ends in .png or .svg, got 'x.gif'"),
    ],
)
def test_wrong_usage_says_what_is_right(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = told(capsys, *arguments, "--json", code=2)
    assert out == ""
    assert said in err


def test_a_missed_target_is_exit_code_1(capsys: pytest.CaptureFixture[str], file: str) -> None:
    Path(file).write_text(
        TOML + "[targets]\nloss = 0\nreplies_per_second = 100\n[targets.low]\nwait_p99 = 3\n"
    )
    out, _ = told(capsys, "--scenario", file, code=1)
    assert "MISSED: replies_per_second >= 100, is " in out
    assert "wait_p99 of LOW <= 3, is " in out
    found = data(capsys, "--scenario", file, "--vary", "limit=4,100", code=1)
    assert not found["ok"]
    assert len(found["missed"]) >= 2
    first, second = found["runs"]
    by_figure = {target["figure"]: target for target in first["targets"]}
    assert by_figure["wait_p99"]["met"] is False
    assert by_figure["wait_p99"]["value"] > 3
    assert {target["figure"]: target["met"] for target in second["targets"]} == {
        "loss": True, "replies_per_second": False, "wait_p99": True,
    }  # fmt: skip
    out, _ = told(capsys, "--scenario", file, "--vary", "limit=4,100", code=1)
    assert "MISSED with limit=4: " in out


def test_a_target_of_tenants_is_of_those_that_match(capsys: pytest.CaptureFixture[str], file: str) -> None:
    Path(file).write_text(
        TOML + '[targets.tenants."o*"]\nloss = 1\nresponse_max = 0\n[targets.tenants.nobody]\nwait_max = 0\n'
    )
    run = one(capsys, "--scenario", file, code=1)
    loss, response, nobody = run["targets"]
    other = next(row for row in run["tenants"] if row["tenant"] == "other")
    assert (loss["met"], loss["value"]) == (True, other["loss"])
    assert (response["met"], response["value"]) == (False, other["response"]["max"])
    assert (nobody["met"], nobody["value"]) == (None, None)


# -- pictures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [(), ("--vary", "limit=5,9")])
def test_pictures_of_one_seed_are_the_same_bytes(
    extra: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pictures = {}
    for name in ("a.png", "b.png", "a.svg", "b.SVG"):
        path = tmp_path / name
        told(capsys, *SMALL[1:], *extra, "--plot", str(path))
        pictures[name] = path.read_bytes()
    assert pictures["a.png"] == pictures["b.png"]
    assert pictures["a.png"].startswith(b"\x89PNG")
    assert pictures["a.svg"] == pictures["b.SVG"]
    assert ElementTree.fromstring(pictures["a.svg"]).tag.endswith("svg")
    assert len(pictures["a.png"]) > 20_000


def test_a_picture_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, err = told(capsys, *SMALL[1:], "--plot", str(tmp_path / "none" / "x.png"), code=2)
    assert "No such file or directory; name another --plot file" in err


def test_without_matplotlib_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "ccm.cli._simulate._plot", raising=False)
    monkeypatch.delattr("ccm.cli._simulate._plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    _, err = told(capsys, *SMALL[1:], "--plot", "x.png", code=2)
    assert "pip install 'ccm[plot]'" in err


def test_without_rich_there_is_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("ccm.cli._tables", "ccm.cli._simulate._show"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.delattr(name, raising=False)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert "pip install 'ccm[cli]'" in told(capsys, *SMALL[1:], code=2)[1]
    assert one(capsys, *SMALL[1:])["ok"]


# -- real logs ---------------------------------------------------------------------------------------------


def test_replay(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "one.log"
    log.write_text("[12:00] <ada> please help\nnonsense\n[12:01] <ben> oh no\n")
    out, err = told(capsys, "--replay", str(log), "--scale", "50", "--json")
    assert "one.log:2: no [HH:MM] at the start" in err
    (run,) = json.loads(out)["runs"]
    assert run["sent"] == 100
    assert len(run["tenants"]) == 50
    assert run["scenario"]["replay"] == {"logs": [str(log)], "scale": 50}
    runs = data(capsys, "--replay", str(log), "--vary", "scale=2,4", "--speed", "10", "--by", "user")["runs"]
    assert [run["sent"] for run in runs] == [4, 8]
    assert runs[0]["seconds"] < 400
    out, _ = told(capsys, "--replay", str(log), "--scale", "3")
    assert "OK: every law and target held" in out
