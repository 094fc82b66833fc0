"""The built-in responder: what it says, that it remembers, streams, stops and is the same every time."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import ccm
from ccm import responder
from ccm.testing import simulate


@pytest.mark.parametrize("text", ["hello", "Hi there", "who are you?", "Are you a human?", "are you an AI"])
def test_it_is_honest_when_greeted_or_asked(text: str) -> None:
    said = responder.answer([text])
    assert "small offline program" in said
    assert "no language model" in said


def test_it_turns_the_person_around() -> None:
    answers = {responder.answer(["I need my keys and you"], seed=seed) for seed in range(20)}
    assert answers == {
        "What would it change if you got your keys and I?",
        "Why your keys and I, and why now?",
    }


def test_it_remembers_names_and_topics() -> None:
    assert responder.answer(["my name is Ada", "what is my name?"]) == "You told me that it is Ada."
    assert responder.answer(["what is my name?"]) == "You have not told me yet."
    said = ["my garden is dry", "so it goes"]
    assert any("your garden is dry" in responder.answer(said, seed=seed) for seed in range(20))
    assert not any("garden" in responder.answer(said[1:], seed=seed) for seed in range(20))


def test_it_does_not_say_the_same_twice_in_a_row() -> None:
    for seed in range(50):
        first = responder.answer(["hm"], seed=seed)
        assert responder.answer(["hm", "hm"], [first], seed=seed) != first


@given(st.lists(st.text(max_size=300), min_size=1, max_size=6), st.integers(0, 5))
def test_any_text_gets_the_same_answer_every_time(said: list[str], seed: int) -> None:
    once = responder.answer(said, seed=seed)
    assert once
    assert "{" not in once or any("{" in line for line in said)
    assert responder.answer(said, seed=seed) == once


def test_counting_is_bounded() -> None:
    assert responder.answer(["count to 3"]) == "1, 2, 3."
    assert responder.answer(["count to 9999"]).endswith("199, 200.")


def test_it_streams_word_by_word_and_remembers_in_the_session() -> None:
    async def program() -> None:
        async with ccm.open_manager(responder.router(pace=0.5)) as manager:
            await manager.ask(ccm.Message("c", "ada", "my name is Ada"))
            start, times, pieces = trio.current_time(), [], []
            async with manager.stream(ccm.Message("c", "ada", "what is my name?")) as stream:
                async for piece in stream:
                    pieces.append(piece)
                    times.append(trio.current_time() - start)
            assert pieces == ["You ", "told ", "me ", "that ", "it ", "is ", "Ada."]
            assert times == [0.5 * n for n in range(1, 8)]
            stranger = await manager.ask(ccm.Message("other", "bob", "what is my name?"))
            assert stranger.text == "You have not told me yet."

    simulate(program)


def test_the_classes_can_be_seen() -> None:
    async def program() -> None:
        async with ccm.open_manager(responder.router(pace=0)) as manager:
            for text in ("well", "why?", "see http://x.example"):
                await manager.ask(ccm.Message(text[:3], "ada", text))
            await manager.wait_idle()
            counted = {
                priority.name: figures.count for priority, figures in manager.statistics().wait.items()
            }
            assert counted == {"CRITICAL": 1, "HIGH": 1, "NORMAL": 2, "LOW": 3}

    simulate(program)


def test_it_fails_when_asked_and_keeps_a_slot_when_asked() -> None:
    async def program() -> None:
        config = ccm.Config(retry=ccm.RetryPolicy(attempts=2, base=0))
        async with ccm.open_manager(responder.router(pace=0), config=config) as manager:
            with pytest.raises(ccm.HandlerFailed) as failed:
                await manager.ask(ccm.Message("c", "ada", "please fail"))
            assert isinstance(failed.value.__cause__, responder.Demonstration)
            assert [letter.attempts for letter in manager.dead_letters()] == [2]
            start = trio.current_time()
            await manager.ask(ccm.Message("d", "ada", "take 5 seconds and go on"))
            assert trio.current_time() - start == 5
            start = trio.current_time()
            await manager.ask(ccm.Message("e", "ada", "take 900 seconds"))
            assert trio.current_time() - start == responder.MAX_SECONDS
        async with ccm.open_manager(responder.router(pace=0, fallback=True), config=config) as manager:
            reply = await manager.ask(ccm.Message("c", "ada", "please fail"))
            assert reply.metadata["degraded"] == "failed"

    simulate(program)


def test_pace_is_checked() -> None:
    with pytest.raises(ValueError, match="pace must be seconds from 0 to 10, got -1"):
        responder.Responder(pace=-1)
