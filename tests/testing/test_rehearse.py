"""`rehearse` against a plain program under `simulate`, and what it counts."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import trio

import ccm
from ccm import Config, Message, Priority, Reason
from ccm.testing import (
    Arrival,
    Deadlock,
    FakeModel,
    Rehearsal,
    constant,
    lognormal,
    rehearse,
    simulate,
    traffic,
)
from ccm.testing._performance import Performance
from ccm.testing._stamp import Stamp

NORMAL = Priority.NORMAL


def said(at: float, text: str, conversation: str = "", **fields: Any) -> Arrival:
    return Arrival(at, Message(conversation or text, "ada", text, **fields))


# -- it does what a plain program does ---------------------------------------------------------------------


class Journal:
    """A handler that notes when each attempt started and ended; everything is drawn beforehand."""

    def __init__(self, seed: int, count: int) -> None:
        draw = random.Random(seed)
        # Times are whole numbers of 2**-20 s, so that floats are exact, and odd enough not to meet.
        self.arrivals = sorted(draw.randrange(1, 30 << 20) / (1 << 20) for _ in range(count))
        self.seconds = [draw.randrange(1, 4 << 20) / (1 << 20) for _ in range(count)]
        self.fails = [draw.random() < 0.1 for _ in range(count)]
        self.messages = [
            Message(f"room {draw.randrange(12)}", "ada", str(number), tenant=f"guild {draw.randrange(3)}",
                    priority=Priority(draw.randrange(4)))
            for number in range(count)
        ]  # fmt: skip
        self.lines: list[tuple[Any, ...]] = []
        self.calls = 0

    async def __call__(self, turn: ccm.Turn) -> str:
        number = int(turn.message.text)
        self.calls += 1
        started = trio.current_time()
        await trio.sleep(self.seconds[number] / turn.attempt)
        self.lines.append((number, turn.attempt, started, trio.current_time()))
        if self.fails[number] and turn.attempt < 3:
            raise RuntimeError("made to fail")
        return "yes"

    async def plain(self, config: Config) -> tuple[ccm.Statistics, list[str]]:
        """The same workload in the plainest way: a task per message, which waits for its outcome."""
        ends = ["" for _ in self.messages]

        async def send(number: int, at: float, message: Message) -> None:
            await trio.sleep_until(at)
            try:
                receipt = await manager.submit(message)
            except ccm.Rejected as rejected:
                ends[number] = f"rejected {rejected.reason}"
            else:
                ends[number] = (await receipt.outcome()).name

        async with ccm.open_manager(self, config=config) as manager, trio.open_nursery() as nursery:
            for number, (at, message) in enumerate(zip(self.arrivals, self.messages, strict=True)):
                nursery.start_soon(send, number, at, message)
        return manager.statistics(), ends


CONFIGS = {
    "light": Config(limit=40, rate_limit=None),
    "heavy": Config(limit=7, rate_limit=None, conversation_limit=100),
    "small queue": Config(limit=4, rate_limit=None, queue_limit=10),
    "displacing": Config(limit=4, rate_limit=None, queue_limit=10, overflow=ccm.Overflow.SHED_LOWEST),
    "waiting senders": Config(limit=6, rate_limit=None, queue_limit=5, overflow=ccm.Overflow.WAIT),
    "impatient": Config(limit=4, rate_limit=None, max_wait={NORMAL: 2, Priority.LOW: 1}, timeout=2.5),
    "preempting": Config(limit=8, rate_limit=None, preempt=True, headroom={}),
    "rated": Config(limit=9, rate_limit=ccm.RateLimit(4, per=3), headroom={}),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_attempt_starts_and_ends_when_it_does_in_a_plain_program(name: str) -> None:
    config = CONFIGS[name]
    for seed in range(4):
        plain, fast = Journal(seed, 150), Journal(seed, 150)
        statistics, ends = simulate(plain.plain, config, seed=seed, limit=None)
        arrivals = map(Arrival, fast.arrivals, fast.messages)
        run = rehearse(arrivals, fast, config=config, seed=seed)
        assert run.ok, run.checks
        assert sorted(fast.lines) == sorted(plain.lines)
        assert dict(run.statistics.outcomes) == dict(statistics.outcomes)
        assert run.statistics.wait == statistics.wait
        assert run.statistics.service == statistics.service
        assert run.peak_waiting >= 1 or name == "light"
        # Its own figures say what the senders of the plain program saw.
        for priority in Priority:
            own = [
                end for end, message in zip(ends, plain.messages, strict=True) if message.priority is priority
            ]
            found = run.classes[priority]
            assert found.messages == len(own)
            for outcome in run.total.outcomes:
                assert found.outcomes[outcome] == sum(end.split()[0] == outcome for end in own), outcome
            assert found.wait.summary() == statistics.wait[priority]
        rejected = {end.removeprefix("rejected ") for end in ends if end.startswith("rejected")}
        assert {reason for outcome, reason in run.total.reasons if outcome == "rejected"} == rejected
        for tenant, figures in run.tenants.items():
            assert figures.messages == sum(message.tenant == tenant for message in plain.messages)


def test_the_configurations_are_different_enough() -> None:
    """What the comparison above is worth: each of them does something that the light one does not."""
    ends, cut_short = {}, {}
    for name, config in CONFIGS.items():
        journal = Journal(0, 150)
        ends[name] = rehearse(map(Arrival, journal.arrivals, journal.messages), journal, config=config)
        cut_short[name] = journal.calls - len(journal.lines)
    assert ends["light"].total.outcomes["replied"] == 150
    assert ends["heavy"].total.wait.quantile(0.5) > 1
    assert ends["small queue"].total.reasons[("rejected", "overloaded")] > 10
    assert ends["displacing"].total.reasons[("shed", "displaced")] > 10
    assert ends["waiting senders"].total.outcomes["replied"] > 100
    assert ends["impatient"].total.outcomes["expired"] > 10
    assert ends["rated"].total.reasons[("rejected", "rate_limited")] > 3
    assert sum(route.timeouts for route in ends["impatient"].statistics.routes.values()) > 10
    assert cut_short["preempting"] >= 3 > cut_short["heavy"]


# -- what it counts ----------------------------------------------------------------------------------------


def test_figures_by_hand() -> None:
    """One slot, answers of 2 s: the second message waits 1 s, the third is refused."""
    arrivals = [
        said(1, "a", tenant="x", priority=Priority.HIGH),
        said(2, "b", tenant="y"),
        said(2.5, "c", tenant="y"),
    ]  # fmt: skip
    config = Config(limit=1, queue_limit=1)
    run = rehearse(arrivals, FakeModel(latency=constant(2)), config=config, duration=10, step=1)
    assert run.ok
    assert (run.sent, run.duration, run.seconds, run.peak_waiting) == (3, 10, 10, 1)
    assert (run.capacity, run.used, run.goodput, run.replies_per_second) == (10, 0.4, 0.4, 0.2)
    high, normal = run.classes[Priority.HIGH], run.classes[NORMAL]
    assert (high.messages, high.answered, high.loss) == (1, 1, 0)
    assert (normal.messages, normal.answered, normal.loss) == (2, 1, 0.5)
    assert normal.reasons == {("rejected", "overloaded"): 1}
    assert (high.wait.max, normal.wait.max) == (0, 1)
    assert (high.service.max, normal.response.max) == (2, 3)
    assert list(run.tenants) == ["y", "x"]
    assert (run.tenants["x"].wait.max, run.tenants["y"].wait.max, run.tenants["y"].service.max) == (0, 1, 2)
    assert run.tenants["y"].reasons == {("rejected", "overloaded"): 1}
    line = run.timeline
    assert line.step == 1
    assert list(line.arrivals) == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert list(line.outcomes["replied"]) == [0, 0, 1, 0, 1, 0, 0, 0, 0, 0]
    assert list(line.outcomes["rejected"]) == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert list(line.running) == [0, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert list(line.waiting) == [0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert list(line.limit) == [1] * 10
    assert list(line.wait_p50[NORMAL]) == [None, None, 1, *[None] * 7]
    assert list(line.wait_p99[Priority.HIGH]) == [0, *[None] * 9]


def test_what_goes_on_after_the_window_is_on_the_timeline_but_not_in_the_shares() -> None:
    run = rehearse(
        [said(0, "a"), said(0.5, "b"), said(2.5, "late")], FakeModel(latency=constant(1)),
        config=Config(limit=1), duration=1.5, step=1,
    )  # fmt: skip
    assert (run.sent, run.seconds, run.used) == (2, 2, 1)
    assert run.replies_per_second == 1 / 1.5
    assert list(run.timeline.running) == [1, 1]
    assert list(run.timeline.outcomes["replied"]) == [1, 1]


def test_without_a_duration_the_window_ends_with_the_last_arrival() -> None:
    run = rehearse([said(4, "a"), said(8, "b")], FakeModel(latency=constant(1)))
    assert (run.duration, run.seconds, len(run.timeline.arrivals)) == (8, 9, 9)


def test_nothing_at_all() -> None:
    run = rehearse([], FakeModel())
    assert run.ok
    assert (run.sent, run.duration, run.seconds, run.goodput, run.total.loss) == (0, 0, 0, 0, 0)


def test_the_fallback_answers_for_those_that_got_no_slot() -> None:
    async def excuse(turn: ccm.Turn) -> str:
        return "later"

    run = rehearse(
        [said(0, "a"), said(0.5, "b")], FakeModel(latency=constant(9)), fallback=excuse,
        config=Config(limit=1, max_wait={NORMAL: 1}),
    )  # fmt: skip
    assert run.total.outcomes["replied"] == 2
    assert run.statistics.fallbacks == 1
    assert run.total.response.max == 9


def test_progress_is_told_step_by_step() -> None:
    told: list[float] = []
    rehearse([said(2.5, "a")], FakeModel(latency=0.25), duration=4, step=1, progress=told.append)
    assert told == [1, 2, 3, 4]


def test_a_real_workload_holds_every_law() -> None:
    arrivals = list(traffic(rate=40, duration=60, users=200, conversations=100, tenants={"a": 1, "b": 3}))
    run = rehearse(arrivals, FakeModel(latency=lognormal(0.8, 0.6)), config=Config(rate_limit=None))
    assert run.ok, run.checks
    assert run.sent == len(arrivals)
    details = {check.law: check.detail for check in run.checks}
    assert details["G1"] == f"exact for {len(arrivals)} messages"
    assert details["G2"].endswith(
        f"attempts in {len({a.message.conversation for a in arrivals})} conversations"
    )
    assert 30 < run.statistics.peak_running <= 50


def test_disabled_there_is_neither_order_nor_limit() -> None:
    run = rehearse(
        [said(n / 8, str(n), "one room") for n in range(100)], FakeModel(latency=constant(60)),
        config=Config(limit=2, enabled=False, timeout=100),
    )  # fmt: skip
    assert run.ok
    assert run.total.outcomes["replied"] == 100
    assert "gives up the order" in run.checks[1].detail


def test_one_seed_is_one_run() -> None:
    def figures(seed: int) -> list[Any]:
        model = FakeModel(latency=lognormal(0.5, 1.0), seed=1)
        arrivals = traffic(rate=30, count=300, seed=1, users=40, conversations=40)

        async def flaky(turn: ccm.Turn) -> str:
            if turn.attempt == 1 and turn.message.text.endswith("7"):
                raise RuntimeError("retries are delayed at random")
            return await model(turn)

        run = rehearse(arrivals, flaky, config=Config(limit=10), seed=seed)
        return [run.classes[NORMAL].wait.summary(), run.timeline]

    assert figures(1) == figures(1)
    assert figures(1) != figures(2)


# -- what goes wrong ---------------------------------------------------------------------------------------


async def never(turn: ccm.Turn) -> str:
    await trio.sleep_forever()
    raise AssertionError


@pytest.mark.parametrize("name", ["duration", "step", "patience"])
@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_bad_arguments(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be finite seconds > 0, got"):
        rehearse([], never, **{name: value})  # type: ignore[arg-type]


def test_arrivals_must_be_in_order() -> None:
    with pytest.raises(ValueError, match=r"in order of time, got one at 1 after 2"):
        rehearse([said(2, "a"), said(1, "b")], FakeModel())


def test_errors_of_the_workload_come_out() -> None:
    def broken() -> Iterator[Arrival]:
        yield said(1, "a")
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        rehearse(broken(), FakeModel())
    with pytest.raises(ValueError, match="at most 10 bytes"):
        rehearse([said(1, "much too long a text")], FakeModel(), config=Config(max_text=10))


def test_what_ends_the_manager_comes_out() -> None:
    class Worse(BaseException):
        pass

    async def crash(turn: ccm.Turn) -> str:
        raise Worse

    with pytest.raises(Worse):
        rehearse([said(1, "a"), said(2, "b")], crash)


def test_handlers_that_never_end_are_cancelled_when_patience_is_over() -> None:
    run = rehearse(
        [said(1, "a"), said(2, "b")],
        never,
        config=Config(timeout=float("inf"), drain=3),
        patience=10,
        duration=5,
    )
    assert run.ok
    assert run.total.outcomes["cancelled"] == 2
    assert run.seconds == 18  # 5 s window, 10 s patience, 3 s drain


def test_a_handler_that_cannot_be_ended_is_a_deadlock() -> None:
    async def stubborn(turn: ccm.Turn) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
        raise AssertionError

    with pytest.raises(Deadlock) as caught:
        rehearse([said(1, "a")], stubborn, config=Config(drain=0), patience=10, duration=5)
    assert any("stubborn" in task for task in caught.value.tasks)


# -- the laws are really looked at -------------------------------------------------------------------------


def checked(monkeypatch: pytest.MonkeyPatch, name: str, value: Any, arrivals: Iterable[Arrival]) -> Rehearsal:
    monkeypatch.setattr(Performance, name, value)
    return rehearse(arrivals, FakeModel(latency=constant(1)), config=Config(limit=2))


def test_a_message_that_is_not_counted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = Performance._ended

    def forgetful(self: Performance, record: Any, *rest: Any) -> None:
        if record.id != 3:
            ended(self, record, *rest)

    run = checked(monkeypatch, "_ended", forgetful, [said(n, str(n)) for n in range(5)])
    assert [check.law for check in run.checks if not check.ok] == ["G1"]
    assert "5 accepted, 4 ended" in run.checks[0].detail


def test_turns_out_of_order_or_side_by_side_are_found() -> None:
    from ccm.testing._verdicts import OrderWitness

    witness = OrderWitness(ordered=True)
    message = Message("room", "ada", "x")
    for turn in (1, 2, 4, 3):
        witness.accepted(turn, message)
    witness.start("room", 2)
    witness.running.discard("room")
    witness.start("room", 2)  # a retry
    witness.start("room", 4)
    witness.running.discard("room")
    witness.start("room", 1)
    found = witness.order()
    assert not found.ok
    assert f"{message.id} became turn 3, after 4" in found.detail
    assert "turn 4 of 'room' started beside another one" in found.detail
    assert "turn 1 of 'room' started after turn 4" in found.detail
    witness.peak = 3
    assert witness.capacity(3).ok
    assert not witness.capacity(2).ok


# -- messages by the million -------------------------------------------------------------------------------


def test_a_stamped_message_is_like_any_other() -> None:
    template = Message("a", "b", "c", channel="lounge", deadline=9.0)
    stamped = Stamp(template)("room", "ada", "7", "guild", Priority.LOW, {"k": 1})
    built = Message(
        "room", "ada", "7", id="7", tenant="guild", channel="lounge", priority=Priority.LOW, deadline=9.0,
        metadata={"k": 1},
    )  # fmt: skip
    assert stamped == built
    assert stamped.generated_id
    assert not built.generated_id
    assert repr(stamped) == repr(built)
    assert hash(stamped) == hash(built)
    assert stamped.replace(text="8").text == "8"
    with pytest.raises(TypeError):
        stamped.metadata["k"] = 2  # type: ignore[index]


def test_reasons_are_words_of_the_enumeration() -> None:
    run = rehearse(
        [said(n / 10, str(n)) for n in range(9)], never, config=Config(limit=1, queue_limit=1, timeout=1)
    )
    assert {reason for _, reason in run.total.reasons} <= {reason.value for reason in Reason}
