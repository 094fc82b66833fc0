"""Requests against a server in memory, on virtual time: the real client, only the network is replaced."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
import trio

from ccm.discord import DiscordSettings, Rest, RestError, RestStopped, snowflake_at
from ccm.discord._requests import Requests
from ccm.testing import simulate

Reply = tuple[int, dict[str, str], Any]
NEW = snowflake_at(time.time())
MESSAGE = {"id": "5", "channel_id": "1", "author": {"id": "9"}, "content": "x"}
OK: Reply = (200, {}, MESSAGE)
DOWN: Reply = (502, {}, None)


class Server(httpx2.AsyncBaseTransport):
    """Answers with what a test has put in, the last answer for ever, after `latency` seconds."""

    def __init__(self, *replies: Reply | Exception, latency: float = 0.125) -> None:
        self.replies = list(replies)
        self.latency = latency
        self.seen: list[tuple[float, httpx2.Request]] = []
        self.busy = self.most = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append((trio.current_time(), request))
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            await trio.sleep(self.latency)
        finally:
            self.busy -= 1
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        status, headers, body = reply
        content = b"" if body is None else json.dumps(body).encode() if not isinstance(body, bytes) else body
        return httpx2.Response(status, headers=headers, content=content)

    def times(self) -> list[float]:
        return [time for time, _ in self.seen]

    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for _, request in self.seen]


def run(server: Server, program: Callable[[Rest], Awaitable[Any]], **more: Any) -> Any:
    async def main() -> Any:
        settings = DiscordSettings(token="t0ken", **more)
        async with httpx2.AsyncClient(transport=server) as client:
            rest = Rest(Requests(settings, client))
            try:
                return await program(rest)
            finally:
                rest.requests.limits._check()
                assert not any(room.borrowed_tokens for room in rest.requests._rooms)
                assert not rest.requests._lines

    return simulate(main)


def turned_away(after: float, **more: Any) -> Reply:
    return 429, {"via": "1.1 google"}, {"retry_after": after, **more}


# -- a message is sent once ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble", [DOWN, httpx2.ReadTimeout("slow"), httpx2.ConnectError("gone"), turned_away(1.0)]
)
def test_every_attempt_has_the_same_nonce(trouble: Reply | Exception) -> None:
    server = Server(trouble, trouble, OK)
    message = run(server, lambda rest: rest.create_message("1", "@everyone hi", reply_to="4"))
    assert message.id == "5"
    bodies = server.bodies()
    assert len(bodies) == 3
    assert bodies[0] == bodies[1] == bodies[2]
    assert 1 <= len(bodies[0].pop("nonce")) <= 25
    assert bodies[0] == {
        "content": "@everyone hi",
        "enforce_nonce": True,
        "allowed_mentions": {"parse": []},
        "message_reference": {"message_id": "4", "fail_if_not_exists": False},
    }
    request = server.seen[0][1]
    assert request.headers["authorization"] == "Bot t0ken"
    assert str(request.url) == "https://discord.com/api/v10/channels/1/messages"


def test_two_messages_have_two_nonces_and_parts_too() -> None:
    server = Server(OK)

    async def program(rest: Rest) -> None:
        await rest.send_text("1", "word " * 900, reply_to="4", nonce="mine")
        await rest.create_message("1", "a")
        await rest.create_message("1", "a")
        assert await rest.send_text("1", "  ") == []

    run(server, program)
    bodies = server.bodies()
    assert [body["nonce"] for body in bodies[:3]] == ["mine.0", "mine.1", "mine.2"]
    assert ["message_reference" in body for body in bodies[:3]] == [True, False, False]
    assert "".join(body["content"] for body in bodies[:3]) == "word " * 900
    assert bodies[3]["nonce"] != bodies[4]["nonce"]


def test_no_way_of_saying_something_mentions_anybody() -> None:
    server = Server(OK)

    async def program(rest: Rest) -> None:
        await rest.edit_message("1", "2", "x")
        await rest.respond("1", "token", "x")
        await rest.edit_response("1", "token", "x")
        await rest.follow_up("1", "token", "x", hidden=True)

    run(server, program)
    for body in server.bodies():
        assert body.get("data", body)["allowed_mentions"] == {"parse": []}
    assert "authorization" not in server.seen[1][1].headers


# -- trouble ---------------------------------------------------------------------------------------


def test_refusals_are_told_and_not_repeated() -> None:
    server = Server((403, {}, {"code": 50013, "message": "Missing Permissions"}))
    with pytest.raises(RestError, match="Missing Permissions") as caught:
        run(server, lambda rest: rest.delete_message("1", "2", reason="Größe & Co"))
    assert (caught.value.status, caught.value.code) == (403, 50013)
    assert len(server.seen) == 1
    assert server.seen[0][1].headers["x-audit-log-reason"] == "Gr%C3%B6%C3%9Fe%20%26%20Co"


def test_failures_are_repeated_a_few_times_within_the_deadline() -> None:
    server = Server(DOWN)
    with pytest.raises(RestError, match="502"):
        run(server, lambda rest: rest.typing("1"), attempts=3)
    assert len(server.seen) == 3
    slow = Server(OK, latency=1e6)
    with pytest.raises(RestError, match="not within 7 s"):
        run(slow, lambda rest: rest.typing("1"), deadline=7.0)


def test_what_would_be_done_twice_is_not_repeated() -> None:
    server = Server(DOWN)
    with pytest.raises(RestError, match="502"):
        run(server, lambda rest: rest.follow_up("1", "t", "x"))
    assert len(server.seen) == 1


def test_a_pause_longer_than_the_deadline_is_told_at_once() -> None:
    server = Server(turned_away(100.0))

    async def program(rest: Rest) -> None:
        with pytest.raises(RestStopped) as caught:
            await rest.typing("1")
        assert caught.value.retry_after == 100.0
        assert trio.current_time() == 0.125

    run(server, program)


def test_a_global_pause_holds_all_but_answers_to_commands() -> None:
    server = Server(turned_away(3.0, **{"global": True}), OK)

    async def program(rest: Rest) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rest.typing, "1")
            await trio.sleep(1)
            nursery.start_soon(rest.typing, "2")
            await rest.respond("3", "token", "x")

    run(server, program)
    assert server.times() == [0.0, 1.0, 3.125, 3.125]


def test_cloudflares_429_stops_everything() -> None:
    server = Server((429, {}, b"error code: 1015"))

    async def program(rest: Rest) -> None:
        for _ in range(3):
            with pytest.raises(RestStopped, match="Cloudflare"):
                await rest.typing("1")

    run(server, program)
    assert len(server.seen) == 1


def test_after_a_401_nothing_is_sent_any_more() -> None:
    server = Server((401, {}, {"message": "401: Unauthorized"}))

    async def program(rest: Rest) -> None:
        with pytest.raises(RestError, match="Unauthorized"):
            await rest.me()
        with pytest.raises(RestStopped, match="token"):
            await rest.typing("1")

    run(server, program)
    assert len(server.seen) == 1


def test_many_invalid_requests_trip_the_breaker_long_before_a_ban() -> None:
    server = Server((403, {}, {}))

    async def program(rest: Rest) -> int:
        for number in range(20):
            with pytest.raises(RestError) as caught:
                await rest.typing("1")
            if isinstance(caught.value, RestStopped):
                return number
        return -1

    assert run(server, program, max_invalid=7) == 7


def test_while_discord_is_down_it_is_asked_now_and_then() -> None:
    server = Server(DOWN)

    async def program(rest: Rest) -> None:
        async def ask(channel: int) -> None:
            with pytest.raises(RestError):
                await rest.typing(str(channel))

        async with trio.open_nursery() as nursery:
            for channel in range(40):
                nursery.start_soon(ask, channel)

    run(server, program, concurrency=5, attempts=100)
    late = [time for time in server.times() if 10 <= time < 60]
    assert 5 <= len(late) <= 15


# -- limits ----------------------------------------------------------------------------------------


def test_fifty_a_second_and_no_more_at_a_time_than_allowed() -> None:
    server = Server(OK)

    async def program(rest: Rest) -> None:
        async with trio.open_nursery() as nursery:
            for channel in range(200):
                nursery.start_soon(rest.typing, str(channel))

    run(server, program, concurrency=8)
    times = server.times()
    assert len(times) == 200
    assert all(times[n + 50] - times[n] >= 1.0 for n in range(150))
    assert server.most == 8


def test_requests_of_a_channel_go_in_order_and_a_paused_one_holds_up_no_other() -> None:
    first = (200, {"x-ratelimit-bucket": "b", "x-ratelimit-remaining": "0", "x-ratelimit-limit": "1",
                   "x-ratelimit-reset-after": "10"}, MESSAGE)  # fmt: skip
    server = Server(first)

    async def program(rest: Rest) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(rest.create_message, "1", str(number))
                await trio.sleep(0.03125)
            nursery.start_soon(rest.create_message, "2", "other")

    run(server, program, concurrency=2)
    said = [(body["content"], time) for body, time in zip(server.bodies(), server.times(), strict=True)]
    assert [text for text, _ in said if text != "other"] == ["0", "1", "2", "3"]
    assert ("other", 0.125) in said


def test_cancelling_leaves_no_trace() -> None:
    server = Server(OK, latency=5.0)

    async def program(rest: Rest) -> None:
        for pause in (0.0, 1.0):
            with trio.move_on_after(pause):
                async with trio.open_nursery() as nursery:
                    for _ in range(5):
                        nursery.start_soon(rest.typing, "1")
        await rest.typing("1")
        assert rest.requests.limits.ask.__self__._buckets.popitem()[1].flying == 0  # type: ignore[attr-defined]

    run(server, program)


# -- backfill --------------------------------------------------------------------------------------


def test_backfill_takes_page_after_page_oldest_first() -> None:
    def page(ids: range) -> Reply:
        return 200, {}, [{**MESSAGE, "id": str(number)} for number in reversed(ids)]

    server = Server(page(range(11, 111)), page(range(111, 211)), page(range(211, 214)))
    found = run(server, lambda rest: rest.messages_after("1", "10"))
    assert [int(message.id) for message in found] == list(range(11, 214))
    assert [request.url.params["after"] for _, request in server.seen] == ["10", "110", "210"]


@pytest.mark.parametrize("part", [b"", b'{"id": "5", "channel_'])
def test_an_answer_that_is_cut_off_is_asked_for_again(part: bytes) -> None:
    server = Server((200, {}, part), OK)
    assert run(server, lambda rest: rest.create_message("1", "x")).id == "5"
    first, second = server.bodies()
    assert first == second
    with pytest.raises(RestError, match="only a part"):
        run(Server((200, {}, part)), lambda rest: rest.messages_after("1", "3"))


@pytest.mark.parametrize("odd", [[], b"null", {}, [1, None, {"id": "x"}], [{**MESSAGE, "id": "3"}] * 100])
def test_backfill_ends_whatever_comes(odd: Any) -> None:
    server = Server((200, {}, odd))
    assert run(server, lambda rest: rest.messages_after("1", "3")) == []
    assert len(server.seen) == 1


# -- what Discord would refuse ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        lambda rest: rest.create_message("1", " "),
        lambda rest: rest.create_message("1", "x" * 2001),
        lambda rest: rest.create_message("1", "x", nonce="n" * 26),
        lambda rest: rest.create_message("../users", "x"),
        lambda rest: rest.delete_messages("1", ["2"]),
        lambda rest: rest.delete_messages("1", ["2", "2"]),
        lambda rest: rest.delete_messages("1", [NEW] * 2),
        lambda rest: rest.delete_messages("1", [str(int(NEW) + number) for number in range(101)]),
        lambda rest: rest.delete_messages("1", [NEW, snowflake_at(time.time() - 15 * 86_400)]),
        lambda rest: rest.time_out("1", "2", 29 * 86_400),
        lambda rest: rest.ban("1", "2", delete_seconds=-1),
    ],
)
def test_what_discord_would_refuse_is_not_sent(wrong: Callable[[Rest], Awaitable[Any]]) -> None:
    server = Server(OK)
    with pytest.raises(ValueError, match="must"):
        run(server, wrong)
    assert server.seen == []
