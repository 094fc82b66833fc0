"""What one WebSocket can cost: frames count before they are read, garbage ends it, turns are bounded."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed

import ccm
from ccm.http import Settings
from ccm.http import _frames as frames
from ccm.http._frames import BadFrame, parse, ref_of

from .live import here
from .test_socket import CONFIG, Client, client, hang, words

trio_test = pytest.mark.trio


async def end(chat: Client) -> int:
    """The code with which the server closes."""
    with trio.fail_after(10):
        while True:
            try:
                chat.frames.append(json.loads(await chat.socket.get_message()))
            except ConnectionClosed as closed:
                return 0 if closed.reason is None else int(closed.reason.code)


@trio_test
@pytest.mark.parametrize("garbage", ["{", b"\0\1", '{"type": "what"}', '{"type": "message"}'])
async def test_who_sends_garbage_only_is_sent_away(garbage: str | bytes) -> None:
    async with here(words, config=CONFIG) as live, client(live) as chat, client(live) as other:
        for _ in range(20):
            await chat.socket.send_message(garbage)
        assert await end(chat) == 1008
        await other.say(type="ping")
        await other.type("pong")


@trio_test
async def test_a_mistake_now_and_then_is_forgiven() -> None:
    async with here(words, config=CONFIG) as live, client(live) as chat:
        for number in range(60):
            await chat.socket.send_message("{")
            if number % 15 == 0:
                await chat.say(type="ping", ref=number)
                await chat.type("pong")
        await chat.say(type="message", user="ada", text="hi", conversation="c")
        assert (await chat.type("outcome"))["reply"] == "hi "


@trio_test
async def test_garbage_counts_in_the_rate_and_is_not_parsed_beyond_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed: list[str] = []

    def counting(text: str, max_depth: int) -> Any:
        parsed.append(text)
        return parse(text, max_depth)

    monkeypatch.setattr("ccm.http._socket.parse", counting)
    limited = Settings(rate=ccm.RateLimit(6, per=3600))
    async with here(words, limited, config=CONFIG) as live, client(live) as chat:  # one, for the handshake
        for _ in range(5):
            await chat.socket.send_message("{")
        for number in range(30):
            await chat.say(type="ping", ref=number)
        last = await chat.until(lambda frame: frame.get("ref") == 29)
        assert last["problem"]["reason"] == "rate_limited"
        assert last["problem"]["retry_after"] > 0
        reasons = [frame["problem"]["reason"] for frame in chat.frames if frame["type"] == "error"]
        assert reasons == ["frame"] * 5 + ["rate_limited"] * 30
        assert len(parsed) == 6, "the hello and five"


@trio_test
async def test_open_turns_of_a_client_are_bounded() -> None:
    few = Settings(rate=None, max_socket_turns=3)
    async with here(hang, few, config=CONFIG) as live, client(live) as chat:
        for number in range(5):
            await chat.say(type="message", ref=number, user="ada", text="x", conversation=f"c{number}")
        refused = [await chat.type("error"), await chat.type("error")]
        assert [(frame["ref"], frame["problem"]["reason"]) for frame in refused] == [
            (3, "open_turns"), (4, "open_turns"),
        ]  # fmt: skip
        assert refused[0]["problem"]["status"] == 429
        assert live.manager.statistics().received == 3
        await chat.say(type="stop", conversation="c0")
        await chat.type("outcome")
        await chat.say(type="message", ref=9, user="ada", text="x", conversation="c9")
        assert (await chat.type("receipt"))["ref"] == 9


@trio_test
async def test_long_replies_wait_for_a_client_that_does_not_read() -> None:
    """Replies that end at once, of messages that came at once, are not piled up for it either."""

    async def handler(turn: ccm.Turn) -> str:
        return "x" * 300_000

    async with here(handler, config=CONFIG) as live, client(live) as chat:
        with trio.fail_after(20):
            for number in range(12):
                await chat.say(type="message", user="ada", text="go", conversation=f"c{number}")
            await live.manager.wait_idle()
            for _ in range(12):
                assert len((await chat.type("outcome"))["reply"]) == 300_000


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"type": "hunter2"}, "type must be one of hello, message, edit, retract, stop, typing, ping"),
        ({"text": "hunter2"}, "type must be one of"),
        ({"type": "ping", "hunter2": 1}, "ping: it has a member that is not known"),
        ({"type": "ping", "ref": 10**400}, "ping.ref"),
        ({"type": "ping", "ref": 2**53 + 1}, "ping.ref"),
        ({"type": "ping", "ref": "hunter2" * 100}, "ping.ref"),
        ({"type": "ping", "ref": ["hunter2"]}, "ping.ref"),
        ({"type": "message", "user": "hunter2/", "text": "x"}, "message.user"),
        ({"type": "hello", "last_seen": 2**60}, "hello.last_seen"),
    ],
)
def test_errors_say_what_is_wrong_and_repeat_nothing(frame: Any, words: str) -> None:
    with pytest.raises(BadFrame) as caught:
        parse(json.dumps(frame), 32)
    assert words in caught.value.detail
    assert "hunter2" not in caught.value.detail
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ('{"type": "ping", "ref": "a"}', "a"), ('{"ref":-17}', -17), ('{"ref" :\n "" }', ""),
        ('{"text": "\\"ref\\": 3"}', None), ('{"ref": 1e9}', None), ('{"ref": 1234567890123456}', None),
        ('{"ref": "' + "x" * 201 + '"}', None), ("", None), ('{"ref": null}', None),
    ],
)  # fmt: skip
def test_the_ref_of_a_frame_that_is_not_read(text: str, ref: Any) -> None:
    assert ref_of(text) == ref


def test_all_types_are_named() -> None:
    assert len(frames._TYPES) == 7
