"""The witness must find what it is there to find: each law broken on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio

import ccm
from ccm import _events as events
from ccm.cli._replay import Replay, play
from ccm.cli._report import Report, build_report
from ccm.cli._run import Finished, run
from ccm.cli._witness import Witness
from ccm.testing import Arrival, simulate

MESSAGES = tuple(ccm.Message("c", "u", f"text {n}", id=f"m{n}") for n in range(3))


async def answer(turn: ccm.Turn) -> str:
    await trio.sleep(0.01 if turn.text != "text 0" else 0.05)
    return turn.text


async def a_run(witness: Witness, handler: Any, config: ccm.Config | None = None) -> Finished:
    arrivals = [Arrival(0.0, message) for message in MESSAGES]
    return await run(handler, config or ccm.Config(), arrivals, witness)


def finished_run(ordered: bool = True, limit: int = 50) -> tuple[Witness, Finished]:
    witness = Witness(limit=limit)
    router = ccm.Router()
    router.route("chat", ordered=ordered)(witness.watch(answer, ordered=True))
    return witness, simulate(a_run, witness, router)


def judged(witness: Witness, finished: Finished) -> Report:
    return build_report("test", witness, finished, targets={}, answer_all=True, settings={})


def missed(witness: Witness, statistics: ccm.Statistics) -> dict[str, str]:
    return {check.law: check.detail for check in witness.checks(statistics) if not check.ok}


def test_a_good_run_is_good() -> None:
    witness, finished = finished_run()
    report = judged(witness, finished)
    assert report.ok
    assert witness.looks > 2
    assert [check.detail for check in report.checks] == [
        f"exact at {witness.looks} instants, the end among them", "3 of 3", "3 messages, 1 conversations",
        "at most 1 turns at once, limit 50", "none missed",
    ]  # fmt: skip


def test_turns_that_overlap_are_found() -> None:
    witness, finished = finished_run(ordered=False)
    found = missed(witness, finished.statistics)
    assert set(found) == {"G2"}
    assert "started beside another turn" in found["G2"]
    assert "came after that to a later message" in found["G2"]


def test_a_late_start_is_found() -> None:
    witness = Witness(limit=5)
    for message in MESSAGES:
        witness.sending(message, 0.0)
    for number, attempt in [(0, 1), (2, 1), (2, 2), (1, 1)]:
        turn: Any = SimpleNamespace(message=MESSAGES[number], attempt=attempt)
        with witness._handling(turn, ordered=True):
            pass
    assert witness._findings == {"G2": ["m1 started after a later message of its conversation"]}


def test_more_turns_than_slots_are_found() -> None:
    # The manager has the default limit; the witness is told of a smaller one.
    found = missed(*_pair(finished_run(ordered=False, limit=2)))
    assert "3 turns at once" in found["G3"]


def _pair(run: tuple[Witness, Finished]) -> tuple[Witness, ccm.Statistics]:
    return run[0], run[1].statistics


def test_a_lost_message_is_found() -> None:
    witness, finished = finished_run()
    witness.sending(ccm.Message("c", "u", "lost", id="lost"), 0.0)
    found = missed(witness, finished.statistics)
    assert found == {"G1": "4 sent, 3 received", "outcome": "lost got 0 outcomes"}


def test_a_second_outcome_is_found() -> None:
    witness, finished = finished_run()
    reply = ccm.Replied(ccm.Reply("again", turn_id=1))
    witness.note(events.Ended(1.0, 1, "c", "chat", ccm.NORMAL, reply, 0.0, 0.0))
    assert missed(witness, finished.statistics) == {"outcome": "turn 1 got replied after replied"}


def test_a_second_reply_is_found() -> None:
    witness, finished = finished_run()
    simulate(witness.deliver, ccm.Reply("again", turn_id=2), MESSAGES[1])
    found = missed(witness, finished.statistics)
    assert "the reply to m1 came after that to a later message" in found["G2"]
    assert found["outcome"] == "m1 got 2 replies, its outcome is replied"


def test_an_uneven_balance_is_found() -> None:
    witness, finished = finished_run()
    broken = attrs.evolve(finished.statistics, received=4)
    assert "law G1 is broken" in missed(witness, broken)["G1"]


def test_missed_events_make_the_verdict_bad() -> None:
    witness, finished = finished_run()
    witness.note(events.Lagged(1.0, 7))
    assert missed(witness, finished.statistics)["events"].startswith("7 events were not read")


def test_many_findings_are_counted_and_three_shown() -> None:
    witness, finished = finished_run()
    for number in range(10):
        witness.sending(ccm.Message("c", "u", "lost", id=f"lost{number}"), 0.0)
    detail = missed(witness, finished.statistics)["outcome"]
    assert detail == "; ".join(f"lost{n} got 0 outcomes" for n in range(3)) + " (and 7 more)"


def test_failures_show_up_and_are_no_broken_law() -> None:
    async def failing(turn: ccm.Turn) -> str:
        await trio.lowlevel.checkpoint()
        raise KeyError("gone") if turn.text == "text 1" else ccm.Permanent("no")

    witness = Witness(limit=50)
    finished = simulate(a_run, witness, witness.watch(failing, ordered=True))
    report = judged(witness, finished)
    assert all(check.ok for check in report.checks)
    assert report.misses == ("loss 0: 3 unanswered",)
    assert dict(report.failures) == {"Permanent('no')": 2, "KeyError('gone')": 1}
    assert report.rows[ccm.NORMAL].outcomes == {"failed": 3}
    assert report.rows[ccm.NORMAL].response.count == 0


def test_rejections_are_outcomes() -> None:
    witness = Witness(limit=50)
    config = ccm.Config(rate_limit=ccm.RateLimit(1, per=10))
    finished = simulate(a_run, witness, witness.watch(answer, ordered=True), config)
    report = judged(witness, finished)
    assert all(check.ok for check in report.checks)
    assert witness.rejections == {"rate_limited": 2}
    assert report.unanswered == 2


def test_figures_of_a_class_follow_the_turns() -> None:
    witness = Witness(limit=5)
    chat: Sequence[Any] = (
        events.Accepted(1.0, 1, "c", "", "chat", ccm.HIGH), events.Started(1.5, 1, "c", 1, 0.5),
        events.Retrying(2.0, 1, "c", 1, 0.1, "error"), events.Started(2.1, 1, "c", 2, 1.1),
    )  # fmt: skip
    seen = []
    for event in chat:
        witness.note(event)
        figures = witness.classes[ccm.HIGH]
        seen.append((figures.waiting, figures.running))
    assert seen == [(1, 0), (0, 1), (1, 0), (0, 1)]
    reply = ccm.Replied(ccm.Reply("", turn_id=1))
    witness.note(events.Ended(4.0, 1, "c", "chat", ccm.HIGH, reply, 0.5, 1.9))
    assert (figures.waiting, figures.running, figures.outcomes["replied"]) == (0, 0, 1)
    assert figures.wait.max == 0.5
    assert figures.response.max == 3.0


def test_a_target_is_judged_by_the_99th_percentile() -> None:
    witness, finished = finished_run()

    def met(seconds: float) -> bool | None:
        report = build_report("test", witness, finished, targets={ccm.NORMAL: seconds, ccm.HIGH: 1.0},
                              answer_all=True, settings={})  # fmt: skip
        assert report.rows[ccm.HIGH].met is None
        assert report.ok == bool(report.rows[ccm.NORMAL].met)
        return report.rows[ccm.NORMAL].met

    assert met(0.08)
    assert met(0.06) is False


@pytest.mark.parametrize("ordered", [True, False])
def test_a_replay_that_gives_up_the_order_says_so(ordered: bool) -> None:
    job = Replay(logs=(), speed=None)
    program = partial(play, job, [Arrival(0.0, m) for m in MESSAGES], answer, ordered=ordered)
    assert simulate(program).ok is ordered
