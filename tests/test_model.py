"""`ChatModel` against a server on real sockets that streams, stalls, refuses, cuts and sends garbage."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import trio

import ccm
from ccm import Config, HandlerFailed, Message, RetryPolicy
from ccm.model import ChatModel, ModelError, ModelRefused, ModelTimeout
from tests.model_kit import (
    KEY,
    ONCE,
    QUICK,
    Call,
    FakeServer,
    ask,
    failure,
    fake_server,
    good,
    open_bot,
    real,
    refusing,
    sending,
)

# -- what goes well ----------------------------------------------------------------------------------------


@real
async def test_pieces_come_as_they_are_written() -> None:
    next_piece = trio.Event()

    async def slow(call: Call) -> None:
        await call.begin()
        await call.say("Good ")
        await next_piece.wait()
        await call.say("day.")
        await call.end()

    async with fake_server(slow) as server, open_bot(server) as manager:
        pieces: list[Any] = []
        async with manager.stream(Message("c", "ada", "hello")) as stream:
            async for piece in stream:
                pieces.append(piece)
                next_piece.set()
        assert pieces == ["Good ", "day."]
        assert stream.text == "Good day."


@real
async def test_the_request_has_key_prompt_history_and_options() -> None:
    async with fake_server(good) as server:
        options = {"system": "Be kind.", "max_tokens": 7, "options": {"temperature": 0.5}}
        async with open_bot(server, QUICK, options) as manager:
            await manager.ask(Message("c", "ada", "one"))
            reply = await manager.ask(Message("c", "ada", "two"))
            await manager.ask(Message("d", "ada", "three"))
        assert reply.metadata == {"model": "m", "finish": "stop"}
    first, second, third = (call.body for call in server.calls)
    assert first["messages"] == [
        {"role": "system", "content": "Be kind."}, {"role": "user", "content": "one"}
    ]  # fmt: skip
    assert [line["content"] for line in second["messages"]] == ["Be kind.", "one", "Good day.", "two"]
    assert [line["role"] for line in second["messages"]] == ["system", "user", "assistant", "user"]
    assert [line["content"] for line in third["messages"]] == ["Be kind.", "three"]
    assert (first["stream"], first["max_tokens"], first["temperature"]) == (True, 7, 0.5)
    assert server.calls[0].target == "/v1/chat/completions"
    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
    assert server.connections == 1, "the connection is used again"


@real
async def test_the_oldest_utterances_are_left_out_when_there_are_too_many_characters() -> None:
    async with fake_server(good) as server, open_bot(server, QUICK, {"context": 20}) as manager:
        for text in ("x" * 10, "one", "two"):
            await manager.ask(Message("c", "ada", text))
    sent = [[line["content"] for line in call.body["messages"]] for call in server.calls]
    assert sent == [["x" * 10], ["Good day.", "one"], ["one", "Good day.", "two"]]


@real
async def test_a_server_that_does_not_stream_is_understood() -> None:
    choice = {"message": {"content": "whole"}, "finish_reason": "length"}
    body = json.dumps({"choices": [choice], "usage": {"total_tokens": 3}})
    async with fake_server(sending(body, kind="application/json")) as server:
        reply = await ask(server)
    assert reply.text == "whole"
    assert reply.metadata == {"model": "m", "finish": "length", "usage": {"total_tokens": 3}}


@real
async def test_a_reason_to_finish_is_enough_of_an_end() -> None:
    said = 'data: {"choices": [{"delta": {"content": "all"}, "finish_reason": "stop"}]}\n\n'

    async def lingering(call: Call) -> None:
        await call.begin()
        await call.chunk(said)
        await call.until_hung_up()

    async with fake_server(sending(said), lingering) as server:
        assert (await ask(server)).text == "all"
        assert (await ask(server)).text == "all"


@real
async def test_half_a_surrogate_pair_is_replaced() -> None:
    said = 'data: {"choices": [{"delta": {"content": "a\\ud83d"}, "finish_reason": "stop"}]}\n\n'
    async with fake_server(sending(said)) as server:
        assert (await ask(server)).text == "a�"


# -- refusals ----------------------------------------------------------------------------------------------


@real
async def test_busy_comes_back_when_the_server_says() -> None:
    for status in ("429 Too Many Requests", "503 Service Unavailable"):
        async with fake_server(refusing(status, {}, "Retry-After: 0.3"), good) as server:
            start = trio.current_time()
            assert (await ask(server)).text == "Good day."  # one attempt is enough: Busy uses up none
            assert 0.3 <= trio.current_time() - start < 2


@real
async def test_busy_pauses_the_provider_for_all() -> None:
    config = Config(rate_limit=None, provider_limits={"llm": ccm.ProviderLimit(2)}, drain=1)
    async with fake_server(refusing("429 Busy", {}, "Retry-After: 0.4"), good) as server:
        async with open_bot(server, config, {"limit": "llm"}) as manager, trio.open_nursery() as nursery:
            nursery.start_soon(manager.ask, Message("a", "ada", "one"))
            await trio.sleep(0.2)
            nursery.start_soon(manager.ask, Message("b", "ben", "two"))
            await trio.sleep(0.1)
            assert len(server.calls) == 1, "the second turn did not ask during the pause"
        assert len(server.calls) == 3


@real
@pytest.mark.parametrize("status", ["400 Bad", "401 Unauthorized", "404 Not Found", "301 Moved"])
async def test_what_will_never_work_is_not_tried_again(status: str) -> None:
    body = {"error": {"message": f"wrong key {KEY}!", "code": "invalid_api_key"}}
    async with fake_server(refusing(status, body, "Location: http://127.0.0.1:1/")) as server:
        cause = await failure(server, QUICK)
    assert isinstance(cause, ModelRefused)
    assert f"answered {status[:3]}: wrong key [key]!" in str(cause)
    assert len(server.calls) == 1


@real
async def test_an_exhausted_quota_is_no_reason_to_wait() -> None:
    body = {"error": {"message": "pay first", "code": "insufficient_quota"}}
    async with fake_server(refusing("429 Too Many Requests", body)) as server:
        assert isinstance(await failure(server, QUICK), ModelRefused)


@real
async def test_a_server_that_fails_is_asked_again() -> None:
    async with fake_server(refusing("500 Oops", b"<html>"), refusing("502 Bad", b""), good) as server:
        assert (await ask(server, QUICK)).text == "Good day."
    assert len(server.calls) == 3


# -- cuts, silence, garbage --------------------------------------------------------------------------------


@real
async def test_a_cut_stream_is_begun_again_and_said_once() -> None:
    async def cut(call: Call) -> None:
        await call.begin()
        await call.say("Good ", "mor")
        await trio.sleep(0.05)
        await call.stream.aclose()

    async with fake_server(cut, good) as server, open_bot(server) as manager:
        seen: list[Any] = []
        async with manager.stream(Message("c", "ada", "hello")) as stream:
            async for piece in stream:
                seen.append("RESTART" if isinstance(piece, ccm.Restarted) else piece)
        assert seen == ["Good ", "mor", "RESTART", "Good ", "day."]
        assert stream.text == "Good day."


GARBAGE = (
    b"data: {not json\n\n", b"data: 5\n\n", b'data: {"choices": 5}\n\n', b'data: {"choices": [[]]}\n\n',
    b'data: {"choices": [{"delta": {"content": {"a": 1}}}]}\n\n', b"data: " + b"[" * 100_000 + b"\n\n",
    b"", b"data: \xff\xfe\n\n", b'data: {"error": {"message": "broke", "code": 7}}\n\n',
    b'data: {"object": "x"}\n\n',
)  # fmt: skip


@real
async def test_garbage_is_an_error_that_does_not_repeat_it() -> None:
    for chunk in GARBAGE:
        async with fake_server(sending(*([chunk] if chunk else []))) as server:
            cause = await failure(server)
        assert type(cause) is ModelError, chunk[:30]
        assert len(str(cause)) < 300


@real
async def test_a_text_without_end_is_cut_and_its_request_closed() -> None:
    ended = trio.Event()

    async def endless(call: Call) -> None:
        await call.begin()
        try:
            while True:
                await call.say("blah ")
        except trio.BrokenResourceError:
            ended.set()
            raise

    async with fake_server(endless) as server:
        reply = await ask(server, max_text=12)
        assert (reply.text, reply.metadata["finish"]) == ("blah blah bl", "max_text")
        await ended.wait()


@real
async def test_too_many_bytes_are_refused() -> None:
    async with fake_server(sending(b": " + b"x" * 5000 + b"\n\n")) as server:
        cause = await failure(server, QUICK, max_bytes=4000)
    assert isinstance(cause, ModelRefused)
    assert "more than max_bytes = 4000" in str(cause)
    assert len(server.calls) == 1


@real
@pytest.mark.parametrize("when", ["head", "first", "between", "comments"])
async def test_silence_is_not_waited_for_for_ever(when: str) -> None:
    async def stalling(call: Call) -> None:
        if when != "head":
            await call.begin()
        if when == "between":
            await call.say("Good ")
        if when == "comments":
            with trio.move_on_after(1):
                while True:
                    await call.chunk(": still there\n\n")
                    await trio.sleep(0.02)
        await call.until_hung_up()

    limits: dict[str, Any] = (
        {"first": 5.0, "between": 0.2} if when == "between" else {"first": 0.2, "between": 5.0}
    )
    async with fake_server(stalling, good) as server:
        assert (await ask(server, QUICK, **limits)).text == "Good day."
    async with fake_server(stalling) as server:
        start = trio.current_time()
        cause = await failure(server, **limits)
        assert isinstance(cause, ModelTimeout)
        assert "sent nothing for 0.2 s" in str(cause)
        assert 0.2 <= trio.current_time() - start < 2


@real
async def test_a_slow_reader_is_not_taken_for_a_silent_model() -> None:
    patience = {"between": 0.1, "first": 0.3}
    async with fake_server(good) as server, open_bot(server, ONCE, patience) as manager:
        async with manager.stream(Message("c", "ada", "hello")) as stream:
            async for _ in stream:
                await trio.sleep(0.4)
        assert stream.text == "Good day."


@real
async def test_nobody_there() -> None:
    with trio.socket.socket() as closed:
        await closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    cause = await failure(FakeServer((), url=f"http://127.0.0.1:{port}"))
    assert isinstance(cause, ModelError)
    assert f"http://127.0.0.1:{port}/v1/chat/completions: ConnectError" in str(cause)


# -- cancellation ------------------------------------------------------------------------------------------

ALONE = {"connections": 1, "history": 0}


@real
@pytest.mark.parametrize("speaks", [True, False])
async def test_a_cancelled_turn_closes_its_request_and_leaks_no_connection(speaks: bool) -> None:
    arrived, send = trio.open_memory_channel[None](1)[::-1]

    async def endless(call: Call) -> None:
        if call.body["messages"][-1]["content"] == "hello":
            return await good(call)
        await send.send(None)
        if speaks:
            await call.begin()
            await call.say("Well")
        await call.until_hung_up()

    # One connection: a single one that is not given back would stop everything.
    async with fake_server(endless) as server, open_bot(server, QUICK, ALONE) as manager:
        for _ in range(20):
            receipt = await manager.submit(Message("c", "ada", "stop me"))
            await arrived.receive()
            await trio.sleep(0.02)
            await manager.stop("c")
            assert isinstance(await receipt.outcome(), ccm.Cancelled)
            with trio.fail_after(1):
                await server.calls[-1].hung_up.wait()
        assert (await manager.ask(Message("c", "ada", "hello"))).text == "Good day."


@real
async def test_a_turn_cancelled_while_its_reader_holds_it_up_leaks_nothing_either() -> None:
    async def talkative(call: Call) -> None:
        if call.body["messages"][-1]["content"] == "hello":
            return await good(call)
        await call.begin()
        await call.say(*"abcdefghij")
        await call.until_hung_up()

    async with fake_server(talkative) as server, open_bot(server, QUICK, ALONE) as manager:
        for _ in range(5):
            async with manager.stream(Message("c", "ada", "go")) as stream:
                async for _piece in stream:
                    await trio.sleep(0.01)
                    break
            with trio.fail_after(1):
                await server.calls[-1].hung_up.wait()
        assert (await manager.ask(Message("c", "ada", "hello"))).text == "Good day."


@real
async def test_the_time_out_of_the_turn_closes_the_request() -> None:
    async def mute(call: Call) -> None:
        await call.until_hung_up()

    config = Config(rate_limit=None, retry=RetryPolicy(attempts=1), timeout=0.2)
    async with fake_server(mute) as server:
        assert isinstance(await failure(server, config), trio.TooSlowError)
        with trio.fail_after(1):
            await server.calls[0].hung_up.wait()


# -- the rest ----------------------------------------------------------------------------------------------


@real
async def test_the_key_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    for name in (None, "httpx2", "httpcore2"):  # a command that ran in this process may have quietened them
        caplog.set_level(logging.DEBUG, name)
    echo = {"error": {"message": f"no such key: Bearer {KEY}"}}
    behaviours = (refusing("500 x", echo), refusing("429 x", echo, "Retry-After: 0"), refusing("401 x", echo))
    async with fake_server(*behaviours) as server:
        cause = await failure(server, QUICK)
        model = ChatModel(server.url, model="m", key=KEY)
    assert len(server.calls) == 3
    assert KEY not in repr(model) + str(vars(model)) + repr(cause)
    assert "HTTP Request" in caplog.text
    assert KEY not in caplog.text
    with pytest.raises(ValueError, match="key must be printable ASCII") as wrong:
        ChatModel(server.url, model="m", key=KEY + "\n")
    assert KEY not in str(wrong.value)


@real
async def test_it_must_be_open_and_opens_once() -> None:
    model = ChatModel("http://127.0.0.1:1", model="m")
    async with ccm.open_manager(model, config=ONCE) as manager:
        with pytest.raises(HandlerFailed) as failed:
            await manager.ask(Message("c", "ada", "hello"))
        assert "is not open; put 'async with'" in str(failed.value.__cause__)
    async with model:
        with pytest.raises(RuntimeError, match="open already"):
            await model.__aenter__()
