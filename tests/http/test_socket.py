"""Chat over the WebSocket: in order, resumable, and nobody's frames harm anybody else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

import ccm
from ccm.http import Settings

from .live import Live, here

pytestmark = pytest.mark.trio
CONFIG = ccm.Config(rate_limit=None, retry=ccm.RetryPolicy(attempts=1), debug=True)


class Client:
    """A client that notes what it is told."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self.socket = socket
        self.frames: list[dict[str, Any]] = []

    async def say(self, **frame: Any) -> None:
        await self.socket.send_message(json.dumps(frame))

    async def until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 10) -> dict[str, Any]:
        """The next frame that is wanted."""
        with trio.fail_after(seconds):
            while True:
                frame = json.loads(await self.socket.get_message())
                self.frames.append(frame)
                if wanted(frame):
                    return frame  # type: ignore[no-any-return]

    async def type(self, kind: str, seconds: float = 10) -> dict[str, Any]:
        return await self.until(lambda frame: frame["type"] == kind, seconds)


@asynccontextmanager
async def connected(live: Live) -> AsyncIterator[WebSocketConnection]:
    """A WebSocket that is closed also when the other side does not answer its goodbye."""
    url = live.url.replace("http", "ws", 1) + "/api/v1/ws"
    socket: WebSocketConnection | None = None
    try:
        async with open_websocket_url(url, subprotocols=["ccm.v1"], disconnect_timeout=1) as socket:
            yield socket
    finally:
        if socket is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await socket._stream.aclose()


@asynccontextmanager
async def client(live: Live, **hello: Any) -> AsyncIterator[Client]:
    async with connected(live) as socket:
        found = Client(socket)
        await found.say(type="hello", **hello)
        yield found


async def words(turn: ccm.Turn) -> str:
    for word in turn.text.split():
        await turn.send(word + " ")
        await trio.sleep(0.01)
    return turn.text + " "


async def hang(turn: ccm.Turn) -> None:
    await trio.sleep_forever()


async def test_messages_are_taken_in_in_the_order_of_their_frames() -> None:
    seen: list[str] = []

    async def handler(turn: ccm.Turn) -> str:
        seen.append(turn.text)
        return turn.text

    async with here(handler, config=CONFIG) as live, client(live) as chat:
        for number in range(30):  # more than may wait in one conversation at a time would be refused
            if number == 15:
                for _ in range(15):
                    await chat.type("outcome")
            await chat.say(type="message", ref=number, user="ada", text=str(number), conversation="c")
        for _ in range(15):
            await chat.type("outcome")
        assert seen == [str(number) for number in range(30)]
        outcomes = [frame["reply"] for frame in chat.frames if frame["type"] == "outcome"]
        assert outcomes == [str(number) for number in range(30)]
        assert [frame["seq"] for frame in chat.frames] == [*range(1, len(chat.frames) + 1)]


async def test_a_reply_comes_as_it_is_written() -> None:
    async with here(words, config=CONFIG) as live, client(live) as chat:
        await chat.say(type="message", ref="r", user="ada", text="one two three", conversation="c", id="m")
        receipt = await chat.type("receipt")
        assert (receipt["ref"], receipt["id"]) == ("r", "m")
        last = await chat.type("outcome")
        pieces = [frame["text"] for frame in chat.frames if frame["type"] == "piece"]
        assert pieces == ["one ", "two ", "three "]
        assert last["reply"] == "one two three "


async def test_the_same_id_again_gives_the_first_answer_and_another_message_none(tmp_path: Path) -> None:
    first: dict[str, Any] = {}
    for _ in range(2):  # also in the next process
        async with here(words, config=CONFIG, storage=tmp_path / "bot.db") as live, client(live) as chat:
            for _ in range(2):
                await chat.say(type="message", ref="r", user="ada", text="one two", id="m")
                receipt, outcome = await chat.type("receipt"), await chat.type("outcome")
                first = first or outcome
                for name in ("id", "turn", "conversation", "event", "reply"):
                    assert outcome[name] == first[name], name
                    assert receipt.get(name, outcome[name]) == outcome[name], name
            assert (receipt["replayed"], receipt["ref"], outcome["event"]) == (True, "r", "created")
            for more in ({"text": "else"}, {"text": "one two", "conversation": "z"}):
                await chat.say(**{"type": "message", "ref": 7, "user": "ada", "id": "m"} | more)
                refused = await chat.type("error")
                assert (refused["ref"], refused["problem"]["status"]) == (7, 422)
                assert (refused["problem"]["reason"], refused["problem"]["id"]) == ("id_reused", "m")
            await chat.say(type="edit", id="m", text="too late")
            assert (await chat.type("edited"))["change"] in ("ended", "unknown")
            assert sum(frame["type"] == "typing" for frame in chat.frames) <= 1


async def test_a_message_that_was_refused_makes_nobody_a_member() -> None:
    strict = ccm.Config(rate_limit=ccm.RateLimit(1, per=60))
    async with here(words, config=strict) as live, client(live) as ada, client(live) as bob:
        for chat, user, number in ((ada, "ada", 1), (bob, "bob", 1), (bob, "bob", 2)):
            await chat.say(type="message", user=user, text="hi", conversation=f"c{number}")
            await chat.type("outcome" if number == 1 else "error")
        await ada.say(type="typing", conversation="c2", user="ada")
        await ada.say(type="typing", conversation="c1", user="ada")
        assert (await bob.until(lambda frame: frame.get("user") == "ada"))["conversation"] == "c1"
        await ada.say(type="stop", conversation="c2")
        assert (await ada.type("error"))["problem"]["status"] == 404


async def test_edit_and_stop() -> None:
    async with here(hang, config=CONFIG) as live, client(live) as chat:
        await chat.say(type="message", user="ada", text="first", conversation="c", id="m1")
        await chat.say(type="message", user="ada", text="second", conversation="c", id="m2")
        await chat.say(type="edit", ref=1, id="m2", text="changed")
        assert (await chat.type("edited"))["change"] == "replaced"
        await chat.say(type="retract", ref=2, id="m2")
        assert (await chat.type("edited"))["change"] == "cancelled"
        await chat.say(type="stop", ref=3, conversation="c")
        stopped = await chat.type("stopped")
        assert (stopped["ref"], stopped["waiting"], stopped["running"]) == (3, 0, 1)
        await chat.say(type="stop", conversation="unknown")
        assert (await chat.type("error"))["problem"]["status"] == 404
        assert live.manager.statistics().outcomes["cancelled"] == 2


async def test_a_client_that_was_cut_off_goes_on_where_it_was() -> None:
    async with here(words, config=CONFIG) as live:
        async with client(live) as chat:
            token = (await chat.type("welcome"))["resume"]
            await chat.say(type="message", user="ada", text="a b c d e f g h i j k l", conversation="c")
            seen = (await chat.type("piece"))["seq"]
            await chat.socket._stream.aclose()  # no goodbye
        async with client(live, resume=token, last_seen=seen) as again:
            last = await again.type("outcome")
            assert last["reply"] == "a b c d e f g h i j k l "
            welcome = next(frame for frame in again.frames if frame["type"] == "welcome")
            assert welcome["resumed"] is True
            assert [frame["seq"] for frame in again.frames] == [*range(seen + 1, last["seq"] + 1)]
            pieces = [f["text"] for f in [*chat.frames, *again.frames] if f["type"] == "piece"]
            assert "".join(pieces) == last["reply"]
        assert live.manager.statistics().outcomes["replied"] == 1


@pytest.mark.parametrize("goodbye", [True, False])
async def test_turns_of_a_client_that_does_not_come_back_are_cancelled(goodbye: bool) -> None:
    frugal = Settings(rate=None, resume_window=0.2)
    async with here(hang, frugal, config=CONFIG) as live:
        async with client(live) as chat:
            await chat.say(type="message", user="ada", text="hello", conversation="c")
            await chat.type("receipt")
            if not goodbye:
                await chat.socket._stream.aclose()
        with trio.fail_after(10):
            await live.manager.wait_idle()
        assert live.manager.statistics().outcomes["cancelled"] == 1
        with trio.fail_after(10):
            await live.app.streams_ended()


async def test_a_token_is_good_for_its_own_client_only() -> None:
    async with here(words, config=CONFIG) as live:
        async with client(live, resume="made-up") as chat:
            assert (await chat.type("welcome"))["resumed"] is False
        async with client(live) as chat:
            token = (await chat.type("welcome"))["resume"]
            async with client(live, resume=token, last_seen=10_000) as other:
                assert (await other.type("welcome"))["resumed"] is False


async def test_others_in_the_conversation_see_that_somebody_writes() -> None:
    async with here(words, config=CONFIG) as live, client(live) as ada, client(live) as bob:
        for chat, user in ((ada, "ada"), (bob, "bob")):
            await chat.say(type="message", user=user, text="hi", conversation="c")
            await chat.type("outcome")
        await ada.say(type="typing", conversation="c", user="ada")
        assert (await bob.until(lambda frame: frame.get("user") == "ada"))["type"] == "typing"


async def test_the_front_end_says_farewell() -> None:
    async with here(words, config=CONFIG) as live, client(live) as chat:
        await chat.type("welcome")
        live.front.begin_farewell()
        await chat.type("farewell")
        with pytest.raises(ConnectionClosed) as caught, trio.fail_after(10):
            await chat.socket.get_message()
        assert caught.value.reason is not None
        assert caught.value.reason.code == 1001


async def test_a_slow_reader_slows_its_own_turn_only() -> None:
    reached = {"slow": 0, "quick": 0}

    async def handler(turn: ccm.Turn) -> str:
        for _ in range(2_000):  # more than the system's buffers hold
            await turn.send("x" * 10_000)
            reached[turn.message.user] += 1
        return ""

    async with here(handler, config=CONFIG) as live, client(live) as slow, client(live) as quick:
        await slow.say(type="message", user="slow", text="go", conversation="a")
        await quick.say(type="message", user="quick", text="go", conversation="b")
        await quick.type("outcome")
        assert reached["quick"] == 2_000
        assert reached["slow"] < 2_000


frames = st.one_of(
    st.text(max_size=60),
    st.binary(max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=8,
    ).map(json.dumps),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["hello", "message", "edit", "retract", "stop", "typing", "ping"])},
        optional={
            "user": st.text(max_size=3), "text": st.text(max_size=5), "conversation": st.text(max_size=3),
            "id": st.text(max_size=3), "ref": st.integers() | st.text(max_size=3),
            "priority": st.text(max_size=4),
            "last_seen": st.integers(-2, 5), "resume": st.text(max_size=3),
            "metadata": st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
        },
    ).map(json.dumps),
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(frames, max_size=12), st.booleans())
async def test_no_frames_of_one_client_harm_another(sent: list[str | bytes], polite: bool) -> None:
    async with here(words, config=CONFIG) as live, client(live) as good:
        await good.type("welcome")
        async with connected(live) as bad:
            try:
                if polite:
                    await bad.send_message('{"type": "hello"}')
                for frame in sent:
                    await bad.send_message(frame)
            except ConnectionClosed:
                pass  # it may be sent away
            await good.say(type="message", user="good", text="still here", conversation="good")
            assert (await good.type("outcome"))["reply"] == "still here "
        live.manager.statistics().check()
