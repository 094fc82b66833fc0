from __future__ import annotations

import random
import statistics

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ccm._errors import Busy
from ccm._message import Message
from ccm.testing import Failures, FakeModel, ModelError, constant, lognormal, simulate, uniform
from ccm.testing._model import _split


@attrs.define
class Turn:
    """As much of a turn as the model needs."""

    message: Message
    attempt: int = 1
    sent: list[tuple[float, str]] = attrs.field(factory=list)

    async def send(self, piece: str) -> None:
        await trio.lowlevel.checkpoint()
        self.sent.append((trio.current_time(), piece))


def said(number: int, **fields: str) -> Message:
    return Message("conversation", "ada", f"text {number}", **fields)  # type: ignore[arg-type]


async def fates(model: FakeModel, turns: list[Turn]) -> list[str]:
    """How long each call takes and what comes of it."""
    found = []
    for turn in turns:
        start = trio.current_time()
        end = "hangs"
        with trio.move_on_after(1000):
            try:
                end = await model(turn)
            except (Busy, ModelError) as error:
                end = repr(error)
        found.append(f"{trio.current_time() - start:.9f} {end}")
    return found


def test_answers_after_its_latency_and_counts() -> None:
    async def program() -> None:
        model = FakeModel(latency=2.0, reply=str.upper)
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(model, Turn(said(number)))
            await trio.sleep(1)
            assert (model.calls, model.running, model.peak_running) == (3, 3, 3)
        assert trio.current_time() == 2.0
        assert await model(Turn(said(7))) == "TEXT 7"
        with trio.move_on_after(1):
            await model(Turn(said(8)))
        assert (model.calls, model.running, model.peak_running) == (5, 0, 3)
        assert (model.completed, model.failed, model.cancelled) == (4, 0, 1)

    simulate(program)


def test_leaving_messages_out_does_not_move_the_others() -> None:
    profile = {
        "latency": lognormal(1.0, 1.0),
        "failures": Failures(errors=0.3, busy=0.2, hangs=0.1, retry_after=7),
        "seed": 5,
    }
    messages = [said(number, id=f"m{number}") for number in range(60)]
    turns = [Turn(message, attempt) for message in messages for attempt in (1, 2)]
    everything = simulate(fates, FakeModel(**profile), turns, limit=None)  # type: ignore[arg-type]
    backwards = simulate(fates, FakeModel(**profile), turns[::-3], limit=None)  # type: ignore[arg-type]
    assert backwards == everything[::-3]
    assert len(set(everything)) > 50


def test_draws_depend_on_seed_attempt_and_message() -> None:
    def seconds(seed: int, message: Message, attempt: int) -> str:
        return simulate(fates, FakeModel(latency=uniform(0, 1), seed=seed), [Turn(message, attempt)])[0]

    first = said(1, id="m1")
    assert seconds(1, first, 1) == seconds(1, said(1, id="m1"), 1)
    others = [seconds(2, first, 1), seconds(1, first, 2), seconds(1, said(1, id="m2"), 1)]
    others.append(seconds(1, said(1, id="m1", tenant="other"), 1))
    assert len({seconds(1, first, 1), *others}) == 5


def test_a_generated_id_does_not_count() -> None:
    turns = [Turn(said(1)), Turn(said(1)), Turn(said(2))]
    assert turns[0].message.id != turns[1].message.id
    one, same, other = simulate(fates, FakeModel(latency=uniform(0, 1)), turns)
    assert one == same
    assert one != other


def test_failures_come_at_their_rates_and_in_their_ways() -> None:
    failures = Failures(errors=0.3, busy=0.2, hangs=0.1, retry_after=7)
    model = FakeModel(latency=2, failures=failures, seed=3)
    found = simulate(fates, model, [Turn(said(number)) for number in range(1000)], limit=None)
    hangs = sum(fate.startswith("1000.0") and fate.endswith("hangs") for fate in found)
    busy = sum(fate.startswith("0.0") and fate.endswith("Busy(7)") for fate in found)
    errors = sum(fate.startswith("2.0") and "ModelError" in fate for fate in found)
    good = sum(fate.startswith("2.0") and "re: text" in fate for fate in found)
    assert hangs + busy + errors + good == 1000
    assert 60 < hangs < 140
    assert 150 < busy < 250
    assert 250 < errors < 350
    assert (model.cancelled, model.failed, model.completed) == (hangs, busy + errors, good)


def test_streams_its_answer_evenly() -> None:
    turn = Turn(said(1))
    answer = simulate(FakeModel(latency=4, chunks=4, reply=lambda text: "abcdefgh"), turn)
    assert answer == "abcdefgh"
    assert turn.sent == [(1.0, "ab"), (2.0, "cd"), (3.0, "ef"), (4.0, "gh")]


def test_does_not_stream_unless_asked() -> None:
    turn = Turn(said(1))
    simulate(FakeModel(), turn)
    assert turn.sent == []


@given(st.text(), st.integers(1, 20))
def test_pieces_add_up(text: str, pieces: int) -> None:
    parts = _split(text, pieces)
    assert "".join(parts) == text
    assert len(parts) == max(1, min(pieces, len(text)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_profiles_have_the_shape_they_promise() -> None:
    rng = random.Random(1)
    assert {constant(0.5)(rng) for _ in range(10)} == {0.5}
    evenly = [uniform(1, 3)(rng) for _ in range(2000)]
    assert 1 <= min(evenly) < 1.1 < 2.9 < max(evenly) <= 3
    tailed = sorted(lognormal(2.0, 1.0)(rng) for _ in range(4000))
    assert statistics.median(tailed) == pytest.approx(2.0, rel=0.1)
    assert tailed[3960] == pytest.approx(2.0 * 10.24, rel=0.25)


@pytest.mark.parametrize(
    "make",
    [
        lambda: constant(-1),
        lambda: uniform(2, 1),
        lambda: lognormal(0, 1),
        lambda: lognormal(1, float("inf")),
        lambda: Failures(errors=-0.1),
        lambda: Failures(errors=0.6, hangs=0.6),
        lambda: FakeModel(chunks=0),
        lambda: FakeModel(latency=float("nan")),
    ],
)
def test_refuses_impossible_profiles(make: object) -> None:
    with pytest.raises(ValueError, match="got"):
        make()  # type: ignore[operator]
