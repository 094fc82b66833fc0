"""Break a bot at every step of the run loop, and look at it whenever it stands still."""

from functools import partial
from itertools import count

import trio

import ccm
from ccm.testing import CancelAt, FakeModel, WhenIdle, constant, simulate

model = FakeModel(latency=constant(1.0))
config = ccm.Config(limit=2, drain=0, debug=True)


async def ask_some(manager: ccm.ConversationManager, scope: trio.CancelScope) -> None:
    with scope:
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(manager.ask, ccm.Message(f"dm-{number}", f"user-{number}", "hello"))


async def program(scope: trio.CancelScope) -> ccm.Statistics:
    async with ccm.open_manager(model, config=config) as manager:
        # A free slot while somebody waits would be a lost wake-up.
        with WhenIdle(lambda: idle_slot(manager.statistics())) as watch:
            await ask_some(manager, scope)
            await manager.wait_idle()
            assert watch.checks or scope.cancelled_caught
        return manager.statistics()


def idle_slot(now: ccm.Statistics) -> str | None:
    return f"{now.waiting} wait beside a free slot" if now.waiting and now.slots_in_use < now.limit else None


def test_callers_may_be_cancelled_at_any_step() -> int:
    for n in count(1):
        scope = trio.CancelScope()
        cancel = CancelAt(n, scope)
        now = simulate(partial(program, scope), instruments=[cancel])
        now.check()
        assert now.waiting == now.running == now.slots_in_use == 0
        if not cancel.fired:  # there is no n-th step: every one has been tried
            return n - 1
    raise AssertionError


if __name__ == "__main__":
    steps = test_callers_may_be_cancelled_at_any_step()
    print(f"cancelled before each of {steps} steps, and nothing was left over")
