"""A bot behind a bridge: what was said while nobody heard it, and what goes wrong on the way."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import trio

import ccm
from ccm.discord import Bridge, Event, GatewayClosed, _bridge, _missed, snowflake_at, snowflake_time
from ccm.discord._channels import AT_ONCE, Behind, Channels
from ccm.discord._indicator import AFTER, EVERY, PAUSE, TypingIndicator
from tests.discord_client.bridge_kit import stage
from tests.storage.durable_kit import Slow

NOW = int(snowflake_at(time.time()))
GUILD = {"guild_id": "7"}


async def echo(turn: ccm.Turn) -> str:
    return f"re {turn.text}"


async def loses_the_thread(turn: ccm.Turn) -> str:
    """Says something at once, and the rest never, unless the text is "new"."""
    if turn.text != "new":
        await turn.send("half")
        await trio.sleep_forever()
    return "re new"


class Flaky(Slow):
    """Commits fail as often as they are told to."""

    def latency(self) -> float:
        return 0.0


# -- backfilling -----------------------------------------------------------------------------------


@pytest.mark.trio
async def test_after_a_gap_known_channels_are_backfilled_before_anything_newer() -> None:
    heard: list[str] = []

    async def note(turn: ccm.Turn) -> str:
        heard.append(turn.text)
        return f"re {turn.text}"

    async with stage(note) as bot:
        await bot.say(NOW, "0")
        await bot.until("re 0")
        bot.missed(NOW, "0")
        bot.missed(NOW + 1, "1")
        bot.missed(NOW + 2, "2")
        bot.missed(NOW + 3, "3")
        await bot.peer.raw("{")
        await bot.say(NOW + 3, "3")
        await bot.until("re 0", "re 1", "re 2", "re 3")
        assert heard == ["0", "1", "2", "3"]


@pytest.mark.trio
async def test_numbers_that_were_left_out_when_a_session_goes_on_are_backfilled() -> None:
    async with stage(echo) as bot:
        await bot.say(NOW, "0")
        await bot.until("re 0")
        bot.missed(NOW + 1, "left out")
        await bot.peer.vanish()
        bot.peer = await bot.server.next()
        await bot.peer.resume()
        bot.seq += 1  # of what is left out
        await bot.say(NOW + 2, "replayed")
        await bot.event("RESUMED", {})
        await bot.wait(lambda: sorted(bot.rest.texts()) == ["re 0", "re left out", "re replayed"])


@pytest.mark.trio
async def test_numbers_that_were_left_out_while_a_session_is_live_are_backfilled() -> None:
    async with stage(echo) as bot:
        await bot.say(NOW, "0")
        await bot.until("re 0")
        bot.missed(NOW + 1, "left out")
        bot.seq += 1  # of what is left out
        await bot.say(NOW + 2, "next")
        await bot.wait(lambda: sorted(bot.rest.texts()) == ["re 0", "re left out", "re next"])
        assert bot.gateway.statistics().holes == 1


@pytest.mark.trio
async def test_what_is_too_old_is_not_backfilled() -> None:
    long_ago = int(snowflake_at(time.time() - 3600))
    async with stage(echo, max_age=600.0) as bot:
        await bot.say(long_ago, "0")
        await bot.until("re 0")
        bot.missed(long_ago + 1, "old")
        await bot.peer.raw("{")
        await bot.say(NOW, "new")
        await bot.until("re 0", "re new")
        (path,) = [path for method, path in bot.rest.calls if method == "GET" and "after=" in path]
        after = path.partition("after=")[2].partition("&")[0]
        assert 590 < time.time() - snowflake_time(after) < 660


@pytest.mark.trio
async def test_what_the_inbox_had_no_room_for_is_backfilled() -> None:
    async with stage(echo) as bot:
        await bot.say(NOW, "0")
        await bot.until("re 0")
        bot.missed(NOW + 1, "shed")
        inbox = bot.gateway._inbox
        inbox._note(Event("MESSAGE_CREATE", None, bot.seq, 0, 1))
        await bot.say(NOW + 2, "next")
        await bot.wait(lambda: sorted(bot.rest.texts()) == ["re 0", "re next", "re shed"])
        assert inbox.shed == 1


@pytest.mark.trio
async def test_after_a_lost_session_new_channels_are_backfilled_and_old_ones_left() -> None:
    async with stage(echo) as bot:
        before = NOW - (60_000 << 22)
        channels = [{"id": "5", "last_message_id": str(before)}]
        await bot.event("GUILD_CREATE", {"id": "7", "channels": channels})
        await bot.say(NOW, "hi", **GUILD)
        await bot.until("re hi")
        assert not [path for method, path in bot.rest.calls if method == "GET" and "/messages" in path]
        bot.missed(NOW + 3, "b")  # in the known channel: fetched first, and newer than what is in the others
        bot.missed(NOW + 1, "a", "6")
        bot.missed(NOW - 1, "old", "8")
        await bot.lose_the_session()
        channels = [
            {"id": "5", "last_message_id": str(NOW + 3)},
            {"id": "6", "last_message_id": str(NOW + 1)},
            {"id": "8", "last_message_id": str(NOW - 1)},
        ]
        await bot.event("GUILD_CREATE", {"id": "7", "channels": channels})
        await bot.say(NOW + 4, "c", **GUILD)
        await bot.wait(lambda: sorted(bot.rest.texts()) == ["re a", "re b", "re c", "re hi"])


@pytest.mark.trio
async def test_a_new_process_backfills_the_conversations_that_its_storage_knows(tmp_path: Path) -> None:
    async with stage(echo, storage=tmp_path / "bot.db") as bot:
        await bot.say(NOW, "hi")
        await bot.until("re hi")
    bot.missed(NOW, "hi")
    bot.missed(NOW + 1, "missed")
    async with stage(echo, storage=tmp_path / "bot.db", rest=bot.rest) as bot:
        await bot.until("re hi", "re missed")
    assert [path for method, path in bot.rest.calls if method == "GET" and path.startswith("/channels/")] == [
        f"/channels/5/messages?after={NOW}&limit=100"
    ]


@pytest.mark.trio
async def test_a_backfill_that_failed_is_left_to_the_next_process() -> None:
    async with stage(echo) as bot:
        await bot.say(NOW, "hi")
        await bot.until("re hi")
        progress = bot.gateway._progress[0]
        bot.rest.history["5"] = 500
        await bot.peer.raw("{")
        await bot.say(NOW + 1, "more")
        await bot.until("re hi", "re more")
        assert progress.safe(1, bot.seq) == 2
        bot.rest.history["5"] = 403
        await bot.peer.raw("{")
        await bot.say(NOW + 2, "again")
        await bot.until("re hi", "re more", "re again")
        assert progress.safe(1, bot.seq) == 2
        assert progress._held.total() == 1


@pytest.mark.trio
async def test_a_backfill_that_failed_is_tried_again_and_then_it_is_handled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_missed, "AGAIN", (0.05, 0.1))
    handed_in: list[str] = []
    config = ccm.Config(rate_limit=ccm.RateLimit(3, per=3600))
    async with stage(echo, config=config) as bot:
        submit = bot.manager.submit

        async def note(message: ccm.Message) -> ccm.Receipt:
            handed_in.append(message.text)
            return await submit(message)

        monkeypatch.setattr(bot.manager, "submit", note, raising=False)
        await bot.say(NOW, "hi")
        await bot.until("re hi")
        progress = bot.gateway._progress[0]
        bot.rest.history["5"] = 500
        await bot.peer.raw("{")
        await bot.say(NOW + 2, "more")
        await bot.until("re hi", "re more")
        del bot.rest.history["5"]
        for number, text in enumerate(("hi", "missed", "more")):
            bot.missed(NOW + number, text)
        await bot.until("re hi", "re more", "re missed")
        with trio.fail_after(10):
            while progress._held:  # noqa: ASYNC110  # after the last request, and soon
                await trio.sleep(0.01)
        assert progress.safe(1, bot.seq) == bot.seq
        assert handed_in == ["hi", "more", "missed"]


@pytest.mark.trio
async def test_a_backfill_that_found_the_token_refused_is_left_to_the_next_process() -> None:
    with pytest.RaisesGroup(GatewayClosed, flatten_subgroups=True):
        async with stage(echo) as bot:
            await bot.say(NOW, "hi")
            await bot.until("re hi")
            progress = bot.gateway._progress[0]
            bot.rest.history["5"] = 401
            await bot.peer.raw("{")
            with trio.fail_after(20):
                await trio.sleep_forever()
    assert progress._held.total() == 1


def test_channels_are_asked_from_what_was_heard_last() -> None:
    channels = Channels("100")
    channels.recall("1", "", "90")
    channels.heard("2", "7", "120")
    channels.heard("2", "7", "110")
    channels.recall("2", "7", "95")
    assert channels.behind(lambda guild: True, "0") == [Behind("2", "7", "120"), Behind("1", "", "90")]
    assert channels.behind(lambda guild: not guild, "92") == [Behind("1", "", "92")]
    assert channels.compare("7", (("3", "130"),), "0") == []  # nothing is lost
    channels.lost("7")
    channels.heard("2", "7", "150")
    channels.lost("7")
    found = channels.compare("7", (("2", "150"), ("3", "130"), ("4", "119")), "0")
    assert found == [Behind("3", "7", "120")]
    assert channels.compare("7", (("3", "130"),), "0") == []
    channels.lost("8")
    assert channels.compare("8", (("5", "99"), ("6", "101")), "0") == [Behind("6", "8", "100")]
    channels.unheard("80")
    channels.lost("9")
    assert channels.compare("9", (("9", "99"),), "0") == [Behind("9", "9", "80")]
    for number in range(2 * AT_ONCE):
        channels.heard(str(1000 + number), "7", str(1000 + number))
    assert len(channels.behind(lambda guild: True, "0")) == AT_ONCE


# -- replies that are cut --------------------------------------------------------------------------


@pytest.mark.trio
async def test_what_was_shown_of_a_reply_says_that_a_newer_message_cut_it() -> None:
    config = ccm.Config(on_busy=ccm.OnBusy.INTERRUPT)
    async with stage(loses_the_thread, config=config, every=0.5) as bot:
        await bot.say(NOW, "old")
        await bot.until("half")
        await bot.say(NOW + 1, "new")
        await bot.wait(lambda: sorted(bot.rest.texts()) == [
            "half\n\n*(interrupted by a newer message)*", "re new"
        ])  # fmt: skip


@pytest.mark.trio
async def test_what_was_shown_of_a_reply_says_that_it_was_stopped() -> None:
    async with stage(loses_the_thread, every=0.5) as bot:
        await bot.say(NOW, "old")
        await bot.until("half")
        await bot.manager.stop("5")
        await bot.until("half\n\n*(stopped)*")


@pytest.mark.trio
async def test_a_turn_that_starts_anew_writes_over_what_was_shown() -> None:
    async with stage(loses_the_thread, every=0.5) as bot:
        await bot.say(NOW, "old")
        await bot.until("half")
        edit = {"id": str(NOW), "channel_id": "5", "edited_timestamp": "2026-01-01T00:00:00+00:00"}
        await bot.event("MESSAGE_UPDATE", {**edit, "content": "new"})
        await bot.until("re new")
        assert sum(call == ("POST", "/channels/5/messages") for call in bot.rest.calls) == 1


# -- trouble ---------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_a_storage_that_fails_is_asked_again_and_then_it_is_told() -> None:
    disk = Flaky()
    async with stage(echo, storage=disk) as bot:
        disk.fail += [False, False]
        await bot.say(NOW, "hi")
        await bot.until("re hi")
        disk.fail += [False] * 100  # longer than the bridge is patient
        await bot.say(NOW + 1, "lost")
        await bot.wait(lambda: len(bot.rest.messages) == 2)
        assert "I cannot note anything down at the moment." in bot.rest.texts()[1]
        assert bot.gateway.unhandled == 0


@pytest.mark.trio
async def test_a_message_that_comes_while_the_bot_leaves_is_left_to_the_next_process() -> None:
    async with stage(echo) as bot:
        await bot.manager.drain()
        await bot.say(NOW, "hi")
        await bot.event("GUILD_CREATE", {"id": "7", "channels": []})
        with trio.fail_after(5):
            # The first of the two is open, and the second, which came, is handled.
            seen, left = bot.gateway._shards[0].protocol, bot.gateway._progress[0]._open
            while seen.seq != 3 or left != {(1, 2)}:  # noqa: ASYNC110  # nothing tells of it
                await trio.sleep(0.01)
        assert bot.rest.texts() == []


@pytest.mark.trio
async def test_events_that_were_missed_leave_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bridge, "BUFFER", 1)

    async def broken(turn: ccm.Turn) -> str:
        raise ccm.Permanent("no")

    async with stage(broken, config=ccm.Config(rate_limit=None, debug=True)) as bot:
        for number in range(30):
            await bot.say(NOW + number, "hi", channel_id=str(50 + number))
        await bot.wait(lambda: len(bot.rest.messages) == 30)


# -- typing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"every": 0.4}, {"every": float("inf")}, {"max_age": -1}, {"max_age": "1"}]
)
def test_settings_of_a_bridge_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be finite seconds"):
        Bridge(None, **wrong)  # type: ignore[arg-type]  # it is not looked at


def test_typing_is_shown_while_anybody_waits() -> None:
    shown = TypingIndicator()
    assert shown.next_deadline() == float("inf")
    shown.start("5", 10.0)
    shown.start("5", 10.1)
    assert shown.next_deadline() == 10.0 + AFTER
    assert shown.due(10.0) == []
    assert shown.due(10.0 + AFTER) == ["5"]
    assert shown.next_deadline() == 10.0 + AFTER + EVERY
    shown.stop("5")
    shown._check()
    assert shown.due(20.0) == ["5"]
    shown.stop("5")
    shown.stop("5")
    assert shown.due(30.0) == []
    shown.start("5", 30.0)
    shown.refused("5", 31.0)
    assert shown.next_deadline() == 31.0 + PAUSE
    shown.stop("5")
    shown.start("5", 32.0)
    assert shown.next_deadline() == 31.0 + PAUSE
    shown._check()


@pytest.mark.trio
async def test_the_bot_is_shown_as_typing_also_where_a_message_still_waits() -> None:
    free = trio.Event()

    async def holds(turn: ccm.Turn) -> str:
        await free.wait()
        return f"re {turn.text}"

    async with stage(holds, config=ccm.Config(limit=1, headroom={}, rate_limit=None)) as bot:
        await bot.say(NOW, "runs")
        await bot.called("POST", "/channels/5/typing")
        await bot.say(NOW + 1, "waits", channel_id="6")
        await bot.called("POST", "/channels/6/typing")
        assert bot.manager.statistics().waiting == 1
        free.set()
        await bot.wait(lambda: sorted(bot.rest.texts()) == ["re runs", "re waits"])
        with trio.fail_after(5):
            while bot.bridge._replies._typing.next_deadline() < float("inf"):  # noqa: ASYNC110  # untold
                await trio.sleep(0.01)


@pytest.mark.trio
async def test_a_channel_where_the_bot_may_not_type_is_asked_once() -> None:
    free = trio.Event()

    async def waits(turn: ccm.Turn) -> Any:
        await free.wait()
        return f"re {turn.text}"

    async with stage(waits) as bot:
        bot.rest.refuse["/channels/5/typing"] = (403, 50_013)
        typing = ("POST", "/channels/5/typing")
        await bot.say(NOW, "a")
        await bot.called(*typing)
        await bot.say(NOW + 1, "b")
        await bot.say(NOW + 2, "c", channel_id="6")
        await bot.called("POST", "/channels/6/typing")
        free.set()
        await bot.wait(lambda: sorted(bot.rest.texts()) == ["re a", "re b", "re c"])
        assert bot.rest.calls.count(typing) == 1
