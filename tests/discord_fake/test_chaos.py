"""The client against a Discord whose connections break: nothing is lost, doubled or swapped in silence."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from ccm.discord import Event, Gap, Gateway, GatewayClosed, Ready, RestError, RestStopped, Resumed
from ccm.testing import simulate
from tests.discord_fake.chaos import Chaos, open_chaos
from tests.discord_fake.fake import CHANNEL, FakeDiscord, open_fake
from tests.discord_fake.harm import GATEWAY_FAULTS, harm, heal
from tests.discord_fake.sessions import RESUME

INTENTS = (1 << 0) | (1 << 9) | (1 << 12) | (1 << 15)
Seen = list[Any]
Step = Callable[["Bench"], Awaitable[None]]


class Bench:
    """A fake Discord, the proxy in front of it, and what the client has read."""

    def __init__(self, fake: FakeDiscord, chaos: Chaos) -> None:
        self.fake, self.chaos = fake, chaos
        self.seen: Seen = []
        self.said = 0
        self.began: list[int] = []  # how much was said before the session of each `Ready` began
        self.gateway: Gateway

    def say(self, count: int = 1) -> None:
        for _ in range(count):
            self.fake.world.say(str(self.said))
            self.said += 1

    def attend(self, gateway: Gateway) -> None:
        """Note from now on, before anything has come, which sessions begin when."""
        self.gateway = gateway
        began: dict[str, int] = {}
        (shard,) = gateway._shards.values()
        deliver = shard._deliver

        def begins(session: str) -> None:
            began[session] = self.said

        def note(item: Any) -> None:
            if isinstance(item, Ready):
                self.began.append(began[shard.protocol._session_id])
            deliver(item)

        self.fake.hub.watch = begins
        shard._deliver = note

    async def read(self, gateway: Gateway) -> None:
        async for item in gateway:
            if isinstance(item, (Gap, Ready, Resumed)):
                self.seen.append(item)
            elif isinstance(item, Event) and item.type == "MESSAGE_CREATE":
                self.seen.append(int(item.data["content"]))

    def count(self, kind: type) -> int:
        return sum(isinstance(item, kind) for item in self.seen)

    async def settle(self, seconds: float = 900.0) -> None:
        """Heal everything, say one thing more, and wait until it or its loss was heard."""
        heal(self.fake, self.chaos)
        with trio.fail_after(seconds):
            self.say()
            await trio.sleep(1.0)
            while self.gateway.statistics().live == 0:  # noqa: ASYNC110  # there is nothing to be told by
                await trio.sleep(0.25)
            while not self.seen or self.seen[-1] != self.said - 1:
                self.say()
                await trio.sleep(1.0)

    def judge(self) -> None:
        """Each in its order and once. What is missing was said before a new session began that is announced
        between its neighbours, or it was withheld by Discord, and a `Gap` between them counts it."""
        last, before, told = -1, 0, 0
        began = iter(self.began)
        withheld = [json.loads(text) for text in self.fake.hub.withheld]
        gone = {int(each["d"]["content"]) for each in withheld if each.get("t") == "MESSAGE_CREATE"}
        for number, item in enumerate(self.seen):
            if isinstance(item, Ready):
                before = next(began)
                first = not any(isinstance(earlier, Ready) for earlier in self.seen[:number])
                assert item.new_session == (not first), ("a loss is told wrongly", self.seen)
            elif isinstance(item, Gap):
                assert item.messages == item.count > 0, ("nothing is missing", self.seen)
                told += item.count
            elif isinstance(item, int):
                assert item > last, ("twice or out of order", item, last, self.seen)
                missing = set(range(max(last + 1, before), item))
                assert len(missing) <= told, ("lost in silence", item, last, self.seen)
                assert missing <= gone, ("lost by the client", item, last, self.seen)
                last, before, told = item, 0, 0
        # A RESUMED that was lost on its way has a number, and is not said again: see `sessions`.
        asked = sum(op == RESUME for link in self.fake.hub.links for op, _ in link.heard)
        unheard = asked - self.count(Resumed)
        for reason in ("hole", "undecodable"):
            count = sum(item.count for item in self.seen if isinstance(item, Gap) and item.reason == reason)
            assert count <= len(withheld) + unheard, ("more is told than is missing", self.seen, withheld)


@asynccontextmanager
async def bench(*, memory: bool = True, rules: Any = None, **more: Any) -> AsyncIterator[Bench]:
    async with open_fake(memory=memory, **(rules or {})) as fake, open_chaos() as chaos:
        it = Bench(fake, chaos)
        more = {"intents": INTENTS, **more}
        if memory:
            fake.dial = chaos.through(fake.dial)  # type: ignore[method-assign, assignment]
        else:
            for name in ("gateway_url", "resume_url", "api_url"):
                scheme, rest = getattr(fake, name).split("://")
                where, slash, path = rest.partition("/")
                host, port = where.split(":")
                setattr(fake, name, f"{scheme}://{await chaos.listen(host, int(port))}{slash}{path}")
            fake._point()
        async with fake.open_gateway(**more) as gateway, trio.open_nursery() as nursery:
            it.attend(gateway)
            nursery.start_soon(it.read, gateway)
            await fake.until(lambda: it.count(Ready), 60)
            yield it
            nursery.cancel_scope.cancel()


def run(step: Step, **more: Any) -> Bench:
    """Virtual time, streams in memory."""

    async def main() -> Bench:
        async with bench(**more) as it:
            it.say(3)
            await trio.sleep(0.5)
            await step(it)
            await it.settle()
            it.judge()
            return it

    return simulate(main, limit=7200.0)


# -- one fault at a time, on real sockets ----------------------------------------------------------


@pytest.mark.trio
@pytest.mark.parametrize("how", ["rst", "fin", "swallow", "slow", "slice 1", "slice 7", "dead"])
async def test_a_broken_connection_on_real_sockets_loses_nothing(how: str) -> None:
    async with bench(memory=False, rules={"heartbeat_interval": 0.4}) as it:
        it.say(5)
        await it.fake.until(lambda: it.seen[-1] == 4)
        if how == "rst":
            it.chaos.reset()
        elif how == "fin":
            await it.chaos.finish()
        elif how == "swallow":
            it.chaos.swallow()
        elif how == "dead":
            it.chaos.dead = True
            it.chaos.reset()
            await it.fake.until(lambda: it.gateway.statistics().live == 0)
            it.chaos.dead = False
        elif how == "slow":
            it.chaos.delay = 0.02
        else:
            it.chaos.slice = int(how.split()[1])
        it.say(20)
        cut = how in ("rst", "fin", "swallow", "dead")
        await it.fake.until(lambda: 24 in it.seen and it.count(Resumed) >= cut, 30)
        assert [item for item in it.seen if isinstance(item, int)] == list(range(25))
        assert it.count(Resumed) == cut
        assert it.count(Gap) == 0
        assert it.count(Ready) == 1


# -- one fault at a time, on virtual time ----------------------------------------------------------


@pytest.mark.parametrize("code", [None, 1000, 1001, 4000, 4001, 4002, 4003, 4005, 4007, 4008, 4009])
def test_every_close_code_that_can_be_mended_is(code: int | None) -> None:
    async def step(it: Bench) -> None:
        it.fake.close(code)
        it.say(3)

    it = run(step)
    again = code in (4003, 4005, 4007, 4009)
    assert it.count(Ready) == 1 + again
    assert it.count(Resumed) == (not again)
    assert any(op == 6 for link in it.fake.hub.links for op, _ in link.heard) == (not again)


@pytest.mark.parametrize("code", [4004, 4010, 4011, 4012, 4013, 4014])
def test_every_close_code_that_cannot_be_mended_ends_the_loop(code: int) -> None:
    async def step(it: Bench) -> None:
        it.fake.close(code)

    with pytest.raises(BaseExceptionGroup) as caught:
        run(step)
    found: BaseException = caught.value
    while isinstance(found, BaseExceptionGroup):
        (found,) = found.exceptions
    assert isinstance(found, GatewayClosed)
    assert found.code == code


@pytest.mark.parametrize("where", ["live", "hello", "resuming"])
@pytest.mark.parametrize("op", ["7", "9 true", "9 false"])
def test_op_7_and_9_may_come_at_any_point(op: str, where: str) -> None:
    async def step(it: Bench) -> None:
        def send() -> None:
            if op == "7":
                it.fake.reconnect()
            else:
                it.fake.invalidate(op == "9 true")

        if where == "live":
            send()
        else:
            before = it.fake.hub.links[-1]
            it.fake.faults.hello = "late" if where == "hello" else ""
            it.chaos.reset()
            await it.fake.until(lambda: it.fake.links and it.fake.links[-1] is not before)
            if where == "resuming":
                await it.fake.until(lambda: it.fake.links[-1].session)
            it.fake.faults.hello = ""
            send()
        it.say(3)

    it = run(step)
    assert it.count(Ready) == (2 if op == "9 false" else 1)


def test_a_zombie_is_left_and_its_session_goes_on() -> None:
    async def step(it: Bench) -> None:
        it.fake.faults.mute = True
        await it.fake.until(lambda: it.gateway.statistics().connections > 1, 200)

    it = run(step)
    assert it.count(Ready) == 1
    assert it.count(Resumed) >= 1


def test_a_dead_resume_host_costs_the_session_nothing() -> None:
    async def step(it: Bench) -> None:
        it.fake.faults.dead.add("resume")
        it.chaos.reset()
        it.say(3)
        await it.fake.until(lambda: it.count(Resumed), 60)

    assert run(step).count(Ready) == 1


@pytest.mark.parametrize("seconds", [30.0, 100.0, 3600.0])
def test_a_clock_that_jumps_makes_no_burst_of_heartbeats(seconds: float) -> None:
    async def step(it: Bench) -> None:
        link = it.fake.links[0]
        before = len(link.heard)
        trio.lowlevel.current_clock().jump(seconds)  # type: ignore[attr-defined]  # a MockClock
        await trio.sleep(1.0)
        assert len(link.heard) - before <= 2
        it.say(3)

    # The server is patient here: it would be right to cut a client that was silent for an hour.
    assert run(step, rules={"patience": 10_000.0}).gateway.statistics().connections == 1


@pytest.mark.parametrize("step_by", [-86_400.0, 86_400.0])
def test_a_wall_clock_that_is_set_breaks_nothing(step_by: float, monkeypatch: pytest.MonkeyPatch) -> None:
    async def step(it: Bench) -> None:
        import time

        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + step_by)
        it.fake.invalidate(False)
        await it.fake.until(lambda: it.count(Ready) == 2, 120)
        monkeypatch.undo()

    assert run(step).count(Ready) == 2


# -- requests --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["user", "global", "shared"])
def test_a_429_is_waited_for_and_obeyed(scope: str) -> None:
    async def step(it: Bench) -> None:
        it.fake.api.turn_away(scope, 7.0, route="POST")
        begun = trio.current_time()
        made = await it.gateway.rest.create_message(CHANNEL, "hi")
        assert 7.0 <= trio.current_time() - begun < 9.0
        assert [m["content"] for m in it.fake.world.messages[CHANNEL].values()].count("hi") == 1
        assert made.content == "hi"

    _requests(step)


def test_cloudflare_is_not_asked_again() -> None:
    async def step(it: Bench) -> None:
        it.fake.api.turn_away("cloudflare", 60.0, route="POST")
        for _ in range(2):
            with pytest.raises(RestStopped):
                await it.gateway.rest.create_message(CHANNEL, "hi")
        assert sum(seen.status == 429 for seen in it.fake.api.seen) == 1

    _requests(step)


@pytest.mark.parametrize("trouble", ["500", "502", "lost"])
def test_a_message_whose_answer_was_lost_is_there_once(trouble: str) -> None:
    async def step(it: Bench) -> None:
        if trouble == "lost":
            it.fake.api.lose(times=2, route="POST")
        else:
            it.fake.api.fail(int(trouble), times=2, route="POST", carried_out=True)
        await it.gateway.rest.create_message(CHANNEL, "hi")
        assert [m["content"] for m in it.fake.world.messages[CHANNEL].values()] == ["hi"]

    _requests(step)


def test_what_fails_for_ever_is_an_error() -> None:
    async def step(it: Bench) -> None:
        it.fake.api.fail(503, times=1000, route="POST")
        with pytest.raises(RestError):
            await it.gateway.rest.create_message(CHANNEL, "hi")

    _requests(step)


def _requests(step: Step) -> None:
    """Without anybody who reads numbers: the bot's own message is an event, too."""

    async def main() -> None:
        async with bench(events={"TYPING_START"}) as it:
            await step(it)

    simulate(main, limit=7200.0)


# -- any of them, in any order ---------------------------------------------------------------------

FAULTS = st.sampled_from((*GATEWAY_FAULTS, "nothing"))
SCHEDULES = st.lists(st.tuples(st.integers(0, 240), FAULTS, st.integers(0, 4)), max_size=12)


@pytest.mark.parametrize("compress", [None, "zlib-stream"])
@settings(max_examples=60, deadline=None)
@given(schedule=SCHEDULES, random=st.random_module())
def test_any_schedule_of_faults_loses_nothing_in_silence(
    compress: str | None, schedule: list[tuple[int, str, int]], random: object
) -> None:
    async def step(it: Bench) -> None:
        for eighths, fault, said in schedule:
            it.say(said)
            await trio.sleep(eighths / 8)
            await harm(it.fake, it.chaos, fault)
            it.say(said)

    run(step, compress=compress)
