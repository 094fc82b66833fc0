"""Alerts of a manager on virtual time: what raises them, who is told, and that nobody pays without them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio

import ccm
from ccm import AlertRules, ConversationManager, Priority, Router, Threshold
from ccm.events import AlertCleared, AlertRaised
from ccm.testing import CancelAt, simulate
from tests.manager.kit import echo, say, simulated, takes

OFF: dict[str, Any] = {
    "depth": None, "dead_letters": None, "idle": None, "wait": {}, "error_rate": None, "shed_rate": None,
    "stuck": None, "storage": None,
}  # fmt: skip


class Log:
    """What `on_alert` was told, shortened."""

    def __init__(self) -> None:
        self.news: list[tuple[float, str, str, str]] = []

    async def __call__(self, event: AlertRaised | AlertCleared) -> None:
        await trio.lowlevel.checkpoint()
        level = event.alert.level if isinstance(event, AlertRaised) else "clear"
        self.news.append((event.at, event.alert.kind, event.alert.subject, level))


@asynccontextmanager
async def watched(
    handler: Any, on_alert: Any = None, *, config: dict[str, Any] | None = None, **rules: Any
) -> AsyncIterator[ConversationManager]:
    settings = ccm.Config(**{"debug": True, "rate_limit": None} | (config or {}))
    alerts = AlertRules(**OFF | rules)
    async with ccm.open_manager(handler, config=settings, alerts=alerts, on_alert=on_alert) as manager:
        yield manager


async def slow(data: object) -> None:
    await trio.sleep(1)


@simulated
async def test_the_depth_of_a_service_rises_and_falls() -> None:
    log = Log()
    async with watched(echo, log, depth=Threshold(10, 20)) as manager:
        manager.service("work", slow)
        for n in range(24):
            manager.send_nowait("work", n)
        await trio.sleep_until(1.5)
        (alert,) = manager.alerts
        assert (alert.kind, alert.subject, alert.level, alert.threshold) == ("depth", "work", "critical", 20)
        await manager.wait_idle()
        assert manager.alerts == ()
        figures = manager.statistics().alerts
        assert (figures.active, figures.raised, figures.cleared) == (0, 1, 1)
    levels = [level for _, _, _, level in log.news]
    assert levels == ["critical", "warning", "clear"]
    (_, _, _, _), (warned, *_), (cleared, *_) = log.news
    # Left below 16 and below 8: 24 items, one at work, and one less each second.
    assert abs(warned - 8) <= 1
    assert abs(cleared - 16) <= 1


@simulated
async def test_events_tell_of_alerts_too() -> None:
    seen: list[ccm.Event] = []
    async with watched(echo, idle=Threshold(3, 6)) as manager, trio.open_nursery() as nursery:

        async def read() -> None:
            async with manager.events() as stream:
                async for event in stream:
                    seen.append(event)

        nursery.start_soon(read)
        manager.service("lazy", slow)
        await trio.sleep_until(6.5)
        await manager.call("lazy", 1)
        await trio.sleep_until(8.5)
        nursery.cancel_scope.cancel()
    alerts = [event for event in seen if isinstance(event, (AlertRaised, AlertCleared))]
    assert [type(event).__name__ for event in alerts] == ["AlertRaised", "AlertRaised", "AlertCleared"]
    assert [event.at for event in alerts] == [3, 6, 7]


@simulated
async def test_dead_letters_raise_until_they_are_dealt_with() -> None:
    async def fails(turn: ccm.Turn) -> str:
        await trio.lowlevel.checkpoint()
        raise ccm.Permanent

    log = Log()
    async with watched(fails, log, dead_letters=Threshold(2, 3)) as manager:
        for n in range(3):
            await manager.submit(say(conversation=f"c{n}"))
        await trio.sleep(1.5)
        for letter in manager.dead_letters():
            manager.discard(letter.id)
        await trio.sleep(1)
    assert log.news == [(1, "dead_letters", "", "critical"), (2, "dead_letters", "", "clear")]


@simulated
async def test_the_oldest_wait_of_a_class() -> None:
    log = Log()
    config = {"limit": 1, "headroom": {}}
    wait = {Priority.NORMAL: Threshold(2, 100), Priority.LOW: Threshold(2, 100)}
    async with watched(takes(5), log, wait=wait, config=config) as manager:
        for n in range(2):
            await manager.submit(say(conversation=f"c{n}"))
        await trio.sleep(6.5)
    # The second one starts at 5, in the same instant as a look: one schedule sees it, one does not.
    raised, cleared = log.news
    assert raised == (2, "wait", "NORMAL", "warning")
    assert cleared[1:] == ("wait", "NORMAL", "clear")
    assert cleared[0] in (5, 6)


@simulated
async def test_the_error_rate_of_the_last_seconds() -> None:
    broken = True

    async def handler(turn: ccm.Turn) -> str:
        await trio.lowlevel.checkpoint()
        if broken:
            raise ccm.Permanent
        return "ok"

    log = Log()
    rule = Threshold(0.5, 1.0)
    async with watched(handler, log, error_rate=rule, window=4, least=3) as manager:
        await manager.submit(say())
        await manager.submit(say())
        await trio.sleep(1.25)  # two of two failed: too few to judge
        await manager.submit(say())
        await trio.sleep(1)
        assert [alert.value for alert in manager.alerts] == [1.0]
        broken = False
        for _ in range(5):
            await manager.submit(say())
        await trio.sleep(6)
    assert log.news == [(2, "error_rate", "", "critical"), (3, "error_rate", "", "clear")]


@simulated
async def test_the_error_rate_is_of_all_turns_and_of_nothing_but_turns() -> None:
    """What was refused has not failed, and has not gone well either; side routes fail like others."""

    async def fails(turn: ccm.Turn) -> None:
        await trio.sleep(0.5)
        raise ccm.Permanent

    router = Router()
    router.route("watch", answers=False, ordered=False)(fails)
    router.route("chat")(takes(0.5))
    async with watched(router, error_rate=Threshold(0.25, 1.0), least=8) as manager:
        for n in range(4):
            await manager.submit(say(conversation=f"c{n}", id=f"m{n}"))
            for _ in range(3):
                with pytest.raises(ccm.Duplicate):
                    await manager.submit(say(conversation=f"c{n}", id=f"m{n}"))
        await trio.sleep(1.5)
        figures = manager.statistics()
        assert (figures.side_outcomes["failed"], figures.outcomes["replied"]) == (4, 4)
        assert figures.outcomes["rejected"] == 12
        assert [alert.value for alert in manager.alerts] == [0.5]


@simulated
async def test_the_rate_of_shedding() -> None:
    log = Log()
    config = {"limit": 1, "headroom": {}, "queue_limit": 1}
    async with watched(takes(0.5), log, shed_rate=Threshold(1, 3), window=2, config=config) as manager:
        for n in range(8):
            with suppress(ccm.Overloaded):
                await manager.submit(say(conversation=f"c{n}"))
        await trio.sleep(4.5)
    assert log.news == [(1, "shed_rate", "", "critical"), (3, "shed_rate", "", "clear")]


@pytest.mark.parametrize(
    ("config", "lost"),
    [
        ({"queue_limit": 1}, 4),
        ({"queue_limit": 1, "overflow": "shed_lowest"}, 4),
        ({"max_sessions": 2}, 4),
        ({"max_wait": {Priority.NORMAL: 1.0, Priority.HIGH: 1.0}}, 5),
        ({"rate_limit": ccm.RateLimit(2, per=60)}, 0),
    ],
    ids=["overloaded", "shed", "sessions", "expired", "rate limit"],
)
@simulated
async def test_what_overload_costs_is_counted_per_second(config: dict[str, Any], lost: int) -> None:
    config = {"limit": 1, "headroom": {}, "timeout": 60.0} | config
    async with watched(takes(9), shed_rate=Threshold(1, 9), config=config) as manager:
        for n in range(6):
            with suppress(ccm.Rejected):
                priority = Priority.HIGH if n > 1 else Priority.NORMAL
                await manager.submit(say(conversation=f"c{n}", priority=priority))
        await trio.sleep(2.5)
        # The last look was after two seconds.
        assert [alert.value for alert in manager.alerts] == ([lost / 2.0] if lost else [])


@simulated
async def test_turns_that_do_not_end() -> None:
    async def stubborn(turn: ccm.Turn) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        return "late"

    log = Log()
    async with watched(stubborn, log, stuck=Threshold(1, 5), config={"timeout": 1.0}) as manager:
        await manager.submit(say())
        await trio.sleep(6.5)
    raised, cleared = log.news
    assert raised[1:] == ("stuck", "", "warning")
    assert 2 <= raised[0] <= 3  # told to end at 1, given a second, looked at each second
    assert cleared[1:] == ("stuck", "", "clear")
    assert 5 <= cleared[0] <= 6


@simulated
async def test_a_fallback_outside_of_the_slots_that_does_not_end() -> None:
    async def stubborn(turn: ccm.Turn) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(9)
        return "late"

    log = Log()
    router = Router()
    router.route("chat", fallback=stubborn)(takes(30))
    config = {"limit": 1, "headroom": {}, "max_wait": {Priority.NORMAL: 1.0}, "timeout": 60.0, "drain": 60.0}
    async with watched(router, log, stuck=Threshold(1, 5), config=config) as manager:
        for key in "ab":
            await manager.submit(say(conversation=key))
        await trio.sleep(12)
    raised, cleared = log.news
    # Expires at 1; its fallback is told to end at 6, given a second, and ends at 10.
    assert raised[1:] == ("stuck", "", "warning")
    assert 7 <= raised[0] <= 8
    assert cleared[1:] == ("stuck", "", "clear")
    assert 10 <= cleared[0] <= 11


@simulated
async def test_readers_of_events_do_not_wait_for_the_callback() -> None:
    seen: list[tuple[float, str]] = []

    async def slow_callback(event: ccm.Event) -> None:
        await trio.sleep(0.25)

    async with watched(echo, slow_callback, idle=Threshold(3, 6)) as manager, trio.open_nursery() as nursery:

        async def read() -> None:
            async with manager.events() as stream:
                async for event in stream:
                    if isinstance(event, AlertRaised):
                        seen.append((trio.current_time(), event.alert.subject))

        nursery.start_soon(read)
        for name in ("one", "two", "three"):
            manager.service(name, slow)
        await trio.sleep_until(5)
        nursery.cancel_scope.cancel()
    assert seen == [(3, "one"), (3, "two"), (3, "three")]


@simulated
async def test_a_callback_that_fails_or_hangs_is_counted_and_harms_nobody() -> None:
    calls: list[float] = []

    async def bad(event: ccm.Event) -> None:
        calls.append(trio.current_time())
        if len(calls) == 1:
            raise OSError("no network")
        await trio.sleep_forever()

    async with watched(takes(0.5), bad, idle=Threshold(2, 4)) as manager:
        manager.service("lazy", slow)
        await trio.sleep(4.5)
        assert [alert.level for alert in manager.alerts] == ["critical"]
        assert str(await manager.ask(say())) == "re: hello"
        await trio.sleep_until(9.5)  # the second call was given up at 9
        assert manager.statistics().alerts.failed_callbacks == 2
        await manager.call("lazy", 1)
        assert calls == [2, 4, 10]
        assert manager.alerts == ()
    assert trio.current_time() == 10.5  # the third call is cancelled with the manager


@simulated
async def test_without_rules_there_is_no_task_and_no_alert() -> None:
    async with ccm.open_manager(echo) as manager:
        before = trio.lowlevel.current_statistics().tasks_living
        assert manager.alerts == ()
        assert manager.statistics().alerts == ccm.AlertStatistics()
    async with ccm.open_manager(echo, alerts=AlertRules()):
        assert trio.lowlevel.current_statistics().tasks_living == before + 1
    await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == 0


@simulated
async def test_a_callback_that_must_end_the_program_does() -> None:
    async def bad(event: ccm.Event) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyboardInterrupt

    async def program() -> None:
        async with watched(echo, bad, idle=Threshold(1, 2)) as manager:
            manager.service("lazy", slow)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        await program()


def test_cancel_the_manager_at_every_step() -> None:
    async def program(scope: trio.CancelScope) -> None:
        managers: list[ConversationManager] = []
        with scope:
            async with watched(takes(1), Log(), idle=Threshold(1, 2), depth=Threshold(1, 2)) as manager:
                managers.append(manager)
                manager.service("work", slow)
                for n in range(4):
                    manager.send_nowait("work", n)
                await manager.submit(say())
                await trio.sleep(5)
        for manager in managers:
            manager.statistics().check()

    n, fired = 0, True
    while fired:
        n += 1
        cancel = CancelAt(n, scope := trio.CancelScope())
        simulate(program, scope, instruments=[cancel], seed=n % 3)
        fired = cancel.fired
    assert n > 20


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"alerts": 5}, TypeError, "alerts"),
        ({"on_alert": Log()}, ValueError, "on_alert needs rules"),
        ({"alerts": AlertRules(), "on_alert": print}, TypeError, "on_alert"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], kind: type[Exception], text: str) -> None:
    async def program() -> None:
        async with ccm.open_manager(echo, **arguments):
            pass

    with pytest.raises(kind, match=text):
        simulate(program)
