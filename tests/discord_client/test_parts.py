"""The small parts: unpacking, inbox, identify budget, progress, views, settings."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
import zlib
from typing import Any

import pytest
import trio
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ccm import ConfigError
from ccm.discord import (
    ChatMessage,
    DiscordSettings,
    Event,
    Gap,
    GatewayInfo,
    Intents,
    Interaction,
    Ready,
    Resumed,
    User,
    snowflake_at,
    snowflake_time,
)
from ccm.discord._identify import DAY, Granted, IdentifyBudget, Later, Refused
from ccm.discord._inbox import Inbox
from ccm.discord._inflate import UnpackError, ZlibInflater, ZstdInflater
from ccm.discord._progress import Progress, place_of
from ccm.discord._sharding import shard_of
from ccm.testing import simulate

# -- unpacking -------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=8), st.integers(1, 40))
def test_zlib_messages_come_whole_however_they_are_cut(messages: list[bytes], size: int) -> None:
    packer, inflater, found = zlib.compressobj(), ZlibInflater(1000), []
    for message in messages:
        data = packer.compress(message) + packer.flush(zlib.Z_SYNC_FLUSH)
        cuts = [data[at : at + size] for at in range(0, len(data), size)]
        found += [text for cut in (*cuts, b"") if (text := inflater.feed(cut)) is not None]
    # Without content there is nothing to flush, so an empty message may not be there at all.
    assert b"".join(found) == b"".join(messages)
    assert [text for text in found if text] == [message for message in messages if message]


@given(st.lists(st.binary(max_size=300).filter(bool), max_size=8))
def test_zstd_messages_come_one_by_one(messages: list[bytes]) -> None:
    packer, inflater = zstd.ZstdCompressor(), ZstdInflater(1000)
    for message in messages:
        data = packer.compress(message) + packer.flush(packer.FLUSH_BLOCK)
        assert inflater.feed(data) == message


@given(st.binary(max_size=200))
def test_garbage_is_an_error_or_nothing(data: bytes) -> None:
    for inflater in (ZlibInflater(1000), ZstdInflater(1000)):
        try:
            inflater.feed(data + b"\x00\x00\xff\xff")
        except UnpackError:
            continue


@pytest.mark.parametrize(("size", "limit"), [(1000, 1000), (1001, 1000), (50_000_000, 100_000)])
def test_a_bomb_is_not_unpacked(size: int, limit: int) -> None:
    packer = zlib.compressobj()
    data = packer.compress(b"a" * size) + packer.flush(zlib.Z_SYNC_FLUSH)
    for inflater, bomb in (
        (ZlibInflater(limit), data), (ZstdInflater(limit), zstd.compress(b"a" * size)),
    ):  # fmt: skip
        tracemalloc.start()
        try:
            with pytest.raises(UnpackError):
                inflater.feed(bomb)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()


def test_frames_without_an_end_are_bounded() -> None:
    inflater = ZlibInflater(1000)
    assert inflater.feed(b"x" * 900) is None
    with pytest.raises(UnpackError, match="1000"):
        inflater.feed(b"x" * 200)
    with pytest.raises(UnpackError, match="1000"):
        ZlibInflater(1000).feed(b"x" * 1001 + b"\x00\x00\xff\xff")


# -- inbox -----------------------------------------------------------------------------------------

RANK = {"INTERACTION_CREATE": 1, "MESSAGE_CREATE": 2, "TYPING_START": 3}
READY = Ready(False, User("1"))


class InboxMachine(RuleBasedStateMachine):
    @initialize(capacity=st.integers(1, 5))
    def begin(self, capacity: int) -> None:
        self.inbox = Inbox(capacity)
        self.capacity = capacity
        self.waiting: list[Any] = []  # without gaps
        self.lost = self.told = self.serial = 0
        self.untold: list[int] = []

    @rule(kind=st.sampled_from([*RANK, "READY"]))
    def put(self, kind: str) -> None:
        self.serial += 1
        item = READY if kind == "READY" else Event(kind, self.serial)
        victim = self.inbox.put_nowait(item)
        self.waiting.append(item)
        if victim is not None:
            self.lost += 1
            self.untold.append(victim.data)
            self.waiting.remove(victim)
            assert all(RANK[victim.type] >= RANK.get(getattr(i, "type", ""), 0) for i in self.waiting)
        elif len(self.waiting) > self.capacity:  # only control items were there
            assert item is READY
            assert all(entry is READY for entry in self.waiting)
            self.waiting.pop(0)

    @precondition(lambda self: self.waiting or self.lost > self.told)
    @rule()
    def get(self) -> None:
        item = simulate(self.inbox.get)
        if isinstance(item, Gap):
            self.told += item.count
            self.untold.clear()
        else:
            assert item is self.waiting.pop(0)
            if isinstance(item, Event):
                assert all(item.data < serial for serial in self.untold), "a gap comes too late"

    @rule()
    def take_commands(self) -> None:
        commands = [item for item in self.waiting if getattr(item, "type", "") == "INTERACTION_CREATE"]
        assert self.inbox.take_commands() == commands
        self.waiting = [item for item in self.waiting if item not in commands]

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "inbox"):
            self.inbox._check()
            assert len(self.inbox) == len(self.waiting)
            assert self.inbox.shed == self.lost >= self.told


TestInbox = InboxMachine.TestCase


def test_a_reader_is_woken_and_one_that_is_cancelled_loses_nothing() -> None:
    async def main() -> None:
        inbox = Inbox(3)
        with trio.move_on_after(1):
            await inbox.get()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def later() -> None:
                await trio.sleep(1)
                inbox.put_nowait(READY)

            assert await inbox.get() is READY
        inbox.fail(KeyError("end"))
        with pytest.raises(KeyError, match="end"):
            await inbox.get()

    simulate(main)


# -- identify --------------------------------------------------------------------------------------

INFO = GatewayInfo("wss://x", total=20, remaining=20, max_concurrency=2)


class BudgetMachine(RuleBasedStateMachine):
    @initialize(begun=st.lists(st.integers(0, 100_000), max_size=10), remaining=st.integers(0, 20))
    def begin(self, begun: list[int], remaining: int) -> None:
        info = GatewayInfo("wss://x", total=20, remaining=remaining, reset_after=1000.0, max_concurrency=2)
        self.wall, self.now = 100_000.0, 0.0
        self.budget = IdentifyBudget(info, 250, map(float, begun), self.wall)  # 5 of 20
        self.begun = [float(time) for time in begun]
        self.last: dict[int, float] = {}

    @rule(step=st.sampled_from([1.0, 4.0, 5.0, 600.0, 30_000.0]))
    def pass_time(self, step: float) -> None:
        self.now += step
        self.wall += step

    @rule(step=st.sampled_from([-50_000.0, -10.0, 10.0]))
    def step_clock(self, step: float) -> None:
        self.wall += step

    @rule(shard=st.integers(0, 5))
    def take(self, shard: int) -> None:
        answer = self.budget.take(shard, self.now, self.wall)
        if isinstance(answer, Granted):
            assert self.now - self.last.get(shard % 2, -10.0) >= 5
            self.last[shard % 2] = self.now
            self.begun.append(self.wall)
            assert len(self.budget.begun()) <= 15
        elif isinstance(answer, Later):
            assert answer.at == self.last[shard % 2] + 5
        else:
            assert answer.retry_after > 0

    @invariant()
    def sound(self) -> None:
        if hasattr(self, "budget"):
            self.budget._check()


TestBudget = BudgetMachine.TestCase


def test_the_count_outlives_the_process_and_the_day_ends_it() -> None:
    budget = IdentifyBudget(INFO, 0, [], 1000.0)
    for time in range(20):
        assert budget.take(0, time * 5.0, 1000.0 + time) == Granted()
    again = IdentifyBudget(INFO, 0, budget.begun(), 2000.0)
    assert again.take(0, 0.0, 2000.0) == Refused(1000.0 + DAY - 2000.0)
    assert again.take(0, 0.0, 1000.0 + DAY) == Granted()


def test_what_discord_says_is_left_counts_too() -> None:
    info = GatewayInfo("wss://x", total=1000, remaining=51, reset_after=60.0)
    budget = IdentifyBudget(info, 50, [], 0.0)
    assert budget.take(0, 0.0, 0.0) == Granted()
    assert budget.take(0, 5.0, 5.0) == Refused(55.0)
    assert budget.take(0, 60.0, 60.0) == Granted()


# -- progress --------------------------------------------------------------------------------------


def test_a_session_goes_on_before_the_first_event_that_is_not_handled() -> None:
    progress = Progress()
    assert progress.safe(1, 9) == 9
    for seq in (4, 5, 6):
        progress.admit(1, seq)
    progress.done(1, 5)
    assert progress.safe(1, 6) == 3
    progress.done(1, 4)
    assert progress.safe(1, 6) == 5
    progress.admit(2, 1)
    assert progress.safe(2, 1) is None  # an event of the earlier session is open
    progress.done(1, 6)
    assert progress.safe(2, 1) == 0


def test_what_is_missing_holds_a_session_until_it_was_fetched() -> None:
    progress = Progress()
    ready = place_of(Ready(True, User("1"), session=2))
    gap = place_of(Gap("hole", 2, 2, seq=4, session=2))
    assert ready is not None
    assert gap is not None
    progress.hold(ready)
    assert progress.safe(2, 1) is None  # the session that was lost is the one to go on with
    progress.hold(gap)
    progress.hold(gap)
    progress.release(ready)
    progress.release(ready)
    assert progress.safe(2, 9) == 3
    progress.release(gap)
    assert progress.safe(2, 9) == 3  # there are two
    progress.release(gap)
    assert progress.safe(2, 9) == 9
    assert progress.safe(2, 9, (2, 8)) == 7
    assert place_of(Resumed(0)) is None


def test_a_gap_of_what_was_shed_begins_with_its_first_event() -> None:
    async def main() -> None:
        inbox = Inbox(1)
        inbox.put_nowait(Event("MESSAGE_CREATE", None, 5, 0, 1))
        assert inbox.missing(0) is None
        for seq in (7, 6, 8):
            inbox.put_nowait(Event("MESSAGE_CREATE", None, seq, 0, 1))
        assert inbox.missing(0) == (1, 6)
        assert isinstance(await inbox.get(), Event)
        assert place_of(await inbox.get()) == (1, 6)
        assert inbox.missing(0) is None

    simulate(main)


# -- views and settings ----------------------------------------------------------------------------


def test_messages_are_viewed_with_what_may_be_missing() -> None:
    raw = {"id": "5", "channel_id": "6", "author": {"id": "7", "bot": True}, "more": 1}
    message = ChatMessage.of(raw)
    assert (message.id, message.author.bot, message.content, message.raw["more"]) == ("5", True, "", 1)
    raw |= {"mentions": [{"id": "1"}], "message_reference": {"message_id": "3"},
            "referenced_message": {"author": {"id": "1"}}}  # fmt: skip
    message = ChatMessage.of(raw)
    assert (message.mentions, message.reply_to, message.reply_author) == (("1",), "3", "1")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "channel_id", "author", "user", "token", "data", "options", "member", "url"]
            ),
            inner,
        )
    ),
)


@given(JSON)
def test_views_take_anything_or_say_what_is_wrong(raw: Any) -> None:
    said = []
    for view in (User, ChatMessage, Interaction, GatewayInfo):
        try:
            view.of(raw)
        except ValueError as error:
            said.append(str(error))
    assert all("must" in text for text in said)


def test_ids_tell_the_time_and_the_shard() -> None:
    assert snowflake_time("175928847299117063") == 1462015105.796
    assert snowflake_at(1462015105.796) == str((175928847299117063 >> 22) << 22)
    assert shard_of("175928847299117063", 10) == (175928847299117063 >> 22) % 10
    assert shard_of(None, 10) == 0


def test_intents_are_discords() -> None:
    assert {each.name: each.value.bit_length() - 1 for each in Intents} == {
        "GUILDS": 0, "GUILD_MODERATION": 2, "GUILD_MESSAGES": 9, "GUILD_MESSAGE_REACTIONS": 10,
        "DIRECT_MESSAGES": 12, "MESSAGE_CONTENT": 15,
    }  # fmt: skip


@pytest.mark.parametrize(
    "field",
    [
        {"token": ""},
        {"token": "a b"},
        {"intents": -1},
        {"shards": 0},
        {"shard_ids": (0,)},
        {"presence": "online"},
        {"presence": {"since": float("nan")}},
        {"presence": {"activities": [object()]}},
        {"presence": {"activities": [{"name": "x" * 4000}]}},
        {"compress": "gzip"},
        {"shards": 2, "shard_ids": (2,)},
        {"shards": 2, "shard_ids": (1, 1)},
        {"inbox": 0},
        {"api_url": "ftp://x"},
        {"gateway_url": "http://x"},
        {"user_agent": "a\nb"},
        {"deadline": 0},
        {"max_invalid": 10_000},
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{list(field)[-1]} must be"):
        DiscordSettings(**{"token": "t", **field})


def test_the_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", "s3cret")
    assert "s3cret" not in repr(DiscordSettings.from_env())
    with pytest.raises(ConfigError) as caught:
        DiscordSettings(token="s3 cret")
    assert "s3 cret" not in str(caught.value)


def test_ccm_itself_loads_nothing_of_it() -> None:
    program = (
        "import ccm, sys, json; print(json.dumps([m for m in sys.modules if 'discord' in m or 'httpx' in m]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
