"""Services on virtual time: order, bounds, instances, shutdown, and what is refused."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import pytest
import trio

import ccm
from ccm import CRITICAL, HIGH, LOW, NORMAL, Service
from ccm.testing import simulate
from tests.manager.kit import echo, opened, say, simulated, takes
from tests.turns.service_kit import Worker


@simulated
async def test_a_call_returns_what_the_service_returns() -> None:
    async with opened(echo) as manager:
        service = manager.service("work", Worker())
        assert await manager.call("work", 1) == "did 1"
        assert await service.call(2) == "did 2"
        figures = service.statistics()
        assert (figures.received, figures.done, figures.processing_time.count) == (2, 2, 2)
        assert figures.processing_time.mean == 1.0


@simulated
async def test_a_handler_calls_a_service_with_the_urgency_of_its_turn() -> None:
    seen: list[ccm.ServiceItem] = []

    async def work(data: str) -> str:
        await trio.lowlevel.checkpoint()
        seen.append(Service.current())
        return data.upper()

    async def handler(turn: ccm.Turn) -> str:
        return str(await turn.call("work", turn.text))

    async with opened(handler) as manager:
        manager.service("work", work)
        assert str(await manager.ask(say("hello", priority=HIGH))) == "HELLO"
    (item,) = seen
    assert (item.service, item.source, item.priority, item.attempt) == ("work", "chat", HIGH, 1)
    with pytest.raises(RuntimeError, match="no service is at work"):
        Service.current()


@simulated
async def test_urgent_items_come_first_and_each_class_in_order() -> None:
    worker = Worker()
    async with opened(echo) as manager:
        manager.service("work", worker)
        for data, priority in (("first", LOW), ("a", LOW), ("b", NORMAL), ("c", CRITICAL), ("d", NORMAL)):
            await manager.send("work", data, priority=priority)
        await manager.wait_idle()
    assert worker.order == ["first", "c", "b", "d", "a"]


@simulated
async def test_instances_share_the_load_and_no_more_of_them_run() -> None:
    worker = Worker()
    async with opened(echo) as manager:
        manager.service("work", worker, concurrency=3)
        for n in range(7):
            await manager.send("work", n)
        await manager.wait_idle()
        assert trio.current_time() == 3
    assert worker.peak == 3
    assert [at for at, _ in worker.begun] == [0, 0, 0, 1, 1, 1, 2]


@simulated
async def test_a_full_queue_makes_senders_wait_in_order() -> None:
    worker = Worker()
    came: list[tuple[float, str]] = []

    async with opened(echo) as manager, trio.open_nursery() as nursery:
        manager.service("work", worker, queue=1)

        async def send(data: str, priority: ccm.Priority) -> None:
            await manager.send("work", data, priority=priority)
            came.append((trio.current_time(), data))

        for data, priority in (("0", NORMAL), ("1", NORMAL), ("2", LOW), ("3", LOW), ("4", HIGH)):
            nursery.start_soon(send, data, priority)
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            manager.send_nowait("work", "too much")
        figures = manager.statistics().services["work"]
        assert (figures.senders, figures.refused, figures.depth) == (3, 1, 4)
        assert figures.is_bottleneck
        assert manager.statistics().bottlenecks == ("work",)
    assert came == [(0, "0"), (0, "1"), (1, "4"), (2, "2"), (3, "3")]
    assert worker.order == ["0", "1", "4", "2", "3"]


@simulated
async def test_an_idle_service_costs_no_task() -> None:
    async with opened(echo) as manager:
        before = trio.lowlevel.current_statistics().tasks_living
        manager.service("work", Worker(), concurrency=5)
        assert trio.lowlevel.current_statistics().tasks_living == before
        for n in range(9):
            manager.send_nowait("work", n)
        assert trio.lowlevel.current_statistics().tasks_living == before + 5
        await manager.wait_idle()
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
        await trio.sleep(7)
        figures = manager.statistics().services["work"]
        assert (figures.idle, figures.last_activity) == (7, 2)


@simulated
async def test_an_instance_has_the_context_of_nobody_who_sends() -> None:
    who: ContextVar[str] = ContextVar("who", default="nobody")
    seen: list[str] = []

    async def work(data: str) -> None:
        await trio.lowlevel.checkpoint()
        seen.append(who.get())

    async with opened(echo) as manager:
        manager.service("work", work)
        who.set("sender")
        await manager.call("work", "x")
    assert seen == ["nobody"]


@simulated
async def test_a_function_that_never_waits_lets_others_run() -> None:
    async def work(data: int) -> None:
        pass

    ticks = 0
    async with opened(echo) as manager:
        manager.service("work", work, queue=200)
        for n in range(200):
            manager.send_nowait("work", n)
        while manager.statistics().services["work"].done < 200:
            await trio.lowlevel.checkpoint()
            ticks += 1
    assert ticks > 100


# -- the end ---------------------------------------------------------------------------------------------


@simulated
async def test_services_outlive_the_turns_that_use_them() -> None:
    worker = Worker(2)

    async def handler(turn: ccm.Turn) -> str:
        await trio.sleep(1)
        await turn.call("work", "called")
        manager.send_nowait("work", "sent")
        return "done"

    async with opened(handler, drain=30) as manager:
        manager.service("work", worker)
        receipt = await manager.submit(say())
    assert isinstance(await receipt.outcome(), ccm.Replied)
    assert worker.order == ["called", "sent"]
    assert trio.current_time() == 5
    assert manager.statistics().services["work"].done == 2


@simulated
async def test_what_is_left_at_the_end_of_the_drain_is_cancelled_and_counted() -> None:
    worker = Worker(4)
    errors: list[BaseException] = []

    async def caller(data: str) -> None:
        try:
            await manager.call("work", data)
        except trio.ClosedResourceError as error:
            errors.append(error)

    async with trio.open_nursery() as nursery:
        async with opened(takes(3), drain=5) as manager:
            manager.service("work", worker, queue=2)
            for data in "abcd":
                nursery.start_soon(caller, data)
                await trio.testing.wait_all_tasks_blocked()
            await manager.submit(say())
        assert trio.current_time() == 5  # not 3 + 5: services have what is left of the drain's time
    figures = manager.statistics().services["work"]
    # The second one, which ran at the deadline, and the two that waited.
    assert (figures.received, figures.done, figures.cancelled) == (4, 1, 3)
    assert len(errors) == 3
    assert worker.cancelled == ["b"]
    with pytest.raises(trio.ClosedResourceError):
        await manager.send("work", "too late")


@simulated
async def test_while_it_closes_only_services_may_send() -> None:
    outside: list[BaseException] = []
    done: list[int] = []

    async def work(data: int) -> None:
        await trio.sleep(1)
        done.append(data)
        if data < 3:
            await manager.send("work", data + 1)

    async def outsider() -> None:
        await trio.sleep(1.5)
        try:
            await manager.send("work", 99)
        except trio.ClosedResourceError as error:
            outside.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(outsider)
        async with opened(echo) as manager:
            manager.service("work", work)
            await manager.send("work", 1)
    assert done == [1, 2, 3]
    assert len(outside) == 1


@simulated
async def test_a_task_that_outlives_its_item_is_an_outsider_then() -> None:
    outside: list[BaseException] = []

    async def later() -> None:
        await trio.sleep(2)
        with pytest.raises(trio.ClosedResourceError) as caught:
            await manager.send("work", "late")
        outside.append(caught.value)

    async def work(data: str) -> None:
        await trio.lowlevel.checkpoint()
        if data == "spawn":
            nursery.start_soon(later)
        else:
            await trio.sleep(3)

    async with trio.open_nursery() as nursery, opened(echo) as manager:
        manager.service("work", work)
        await manager.send("work", "spawn")
        await manager.send("work", "long")
    assert len(outside) == 1


@simulated
async def test_items_that_wait_to_be_tried_again_are_waited_for_and_then_given_up() -> None:
    async def work(data: str) -> None:
        await trio.lowlevel.checkpoint()
        raise ccm.Busy(retry_after=2 if data == "soon" else 60)

    async with opened(echo, drain=5) as manager:
        service = manager.service("work", work)
        manager.send_nowait("work", "soon")
        manager.send_nowait("work", "late")
    assert trio.current_time() == 5
    assert service.statistics().cancelled == 2
    assert service.statistics().errors == 4


@simulated
async def test_wait_idle_waits_for_services_and_the_turns_they_begin() -> None:
    async def work(data: str) -> None:
        await trio.sleep(1)
        await manager.submit(say(data))

    async with opened(takes(1)) as manager:
        manager.service("work", work)
        await manager.send("work", "hello")
        await manager.wait_idle()
        assert trio.current_time() == 2
        assert manager.statistics().outcomes["replied"] == 1


@simulated
async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    async with opened(echo) as manager:
        manager.service("work", Worker(9))
        manager.send_nowait("work", 1)
        with trio.move_on_after(1):
            await manager.wait_idle()
        assert manager._services._idlers == []
        await manager.wait_idle()
        assert trio.current_time() == 9


# -- misuse ------------------------------------------------------------------------------------------------


@simulated
async def test_names_are_unique_and_known() -> None:
    async with opened(echo) as manager:
        manager.service("one", Worker())
        manager.service("two", Worker())
        with pytest.raises(ValueError, match="there is a service 'one' already"):
            manager.service("one", Worker())
        for use in (manager.send("three", 1), manager.call("three", 1)):
            with pytest.raises(KeyError, match="no service 'three'; known: 'one', 'two'"):
                await use
        with pytest.raises(KeyError, match="three"):
            manager.send_nowait("three", 1)


@pytest.mark.parametrize(
    "arguments",
    [{"concurrency": 0}, {"concurrency": 1.0}, {"queue": 0}, {"retry": 3}, {"name": ""}, {"fn": print}],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    async def program() -> None:
        async with opened(echo) as manager:
            given: dict[str, Any] = {"name": "work", "fn": Worker()} | arguments
            with pytest.raises((TypeError, ValueError), match=next(iter(arguments))):
                manager.service(**given)
            assert manager.statistics().services == {}

    simulate(program)


@simulated
async def test_bad_items_are_refused_and_change_nothing() -> None:
    async with opened(echo) as manager:
        manager.service("work", Worker())
        with pytest.raises(ValueError, match="priority"):
            await manager.send("work", 1, priority=7)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="source"):
            await manager.send("work", 1, source=None)  # type: ignore[arg-type]
        assert manager.statistics().services["work"].received == 0
