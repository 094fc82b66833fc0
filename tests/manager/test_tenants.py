"""Policies of tenants in a manager: slots, places in the queue, rates."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import ccm
from ccm import CRITICAL, LOW, Config, Message, Overflow, Overloaded, RateLimit, Reason, TenantPolicy
from tests.manager.kit import Gate, Recorder, opened, say, simulated, takes

CROWD: dict[str, Any] = {"drain": 1000, "timeout": 500, "max_sessions": 5000}


def from_(tenant: str, number: int, **fields: Any) -> Message:
    return say(f"{tenant}{number}", f"{tenant}/{number}", tenant=tenant, **fields)


@simulated
async def test_a_tenant_has_at_most_its_slots_and_others_the_rest() -> None:
    handler = Recorder(takes(1))
    async with opened(
        handler, limit=4, headroom={}, tenants={"x": TenantPolicy(limit=1)}, **CROWD
    ) as manager:
        for number in range(3):
            manager.submit_nowait(from_("x", number))
            manager.submit_nowait(from_("y", number))
        await trio.sleep(0.5)
        assert manager.statistics().slots_in_use == 4
    assert [(at, text) for at, text in handler.starts if text[0] == "x"] == [(0, "x0"), (1, "x1"), (2, "x2")]
    assert [at for at, text in handler.starts if text[0] == "y"] == [0, 0, 0]


@simulated
async def test_one_end_may_let_two_turns_start() -> None:
    """Law G7: the conversation goes on with another tenant's turn, and the tenant has its slot back."""
    handler = Recorder(takes(1))
    async with opened(
        handler, limit=3, headroom={}, tenants={"x": TenantPolicy(limit=1)}, **CROWD
    ) as manager:
        manager.submit_nowait(say("first", "a", tenant="x"))
        manager.submit_nowait(say("then", "a", tenant="y"))
        manager.submit_nowait(say("held", "b", tenant="x"))
    assert sorted(handler.starts) == [(0, "first"), (1, "held"), (1, "then")]


@simulated
async def test_slots_of_a_tenant_are_given_back_whatever_ends_the_turn() -> None:
    async def fails(turn: ccm.Turn) -> None:
        if turn.text.endswith("0"):
            raise ConnectionError
        await trio.sleep(1)

    policy = TenantPolicy(limit=1)
    async with opened(
        fails, tenant=policy, timeout=2, drain=100, retry=ccm.RetryPolicy(attempts=2)
    ) as manager:
        receipts = [manager.submit_nowait(from_("x", number)) for number in range(4)]
        with trio.move_on_after(0.5):
            await manager.ask(from_("x", 9))
        await manager.stop("x/1")
        outcomes = [(await receipt.outcome()).name for receipt in receipts]
    assert outcomes == ["failed", "cancelled", "replied", "replied"]


@pytest.mark.parametrize("overflow", list(Overflow))
@simulated
async def test_a_tenant_fills_its_share_of_the_queue_and_no_more(overflow: Overflow) -> None:
    gate = Gate()
    settings: dict[str, Any] = {"limit": 1, "headroom": {}, "queue_limit": 10, "overflow": overflow}
    async with opened(gate, tenant=TenantPolicy(queue_share=0.3), **settings, **CROWD) as manager:
        manager.submit_nowait(from_("x", 0))
        for number in range(1, 4):
            manager.submit_nowait(from_("x", number))
        with pytest.raises(Overloaded) as refused:
            manager.submit_nowait(from_("x", 4))
        assert refused.value.reason is Reason.QUEUE_SHARE
        assert refused.value.retry_after is not None
        manager.submit_nowait(from_("y", 1))  # others still have theirs
        assert manager.statistics().rejected == {"queue_share": 1}
        gate.open()


@simulated
async def test_an_urgent_message_displaces_one_of_its_own_tenant() -> None:
    gate = Gate()
    settings: dict[str, Any] = {
        "limit": 1,
        "headroom": {},
        "queue_limit": 10,
        "overflow": Overflow.SHED_LOWEST,
    }
    async with opened(gate, tenant=TenantPolicy(queue_share=0.2), **settings, **CROWD) as manager:
        manager.submit_nowait(from_("x", 0))
        own = [manager.submit_nowait(from_("x", number)) for number in (1, 2)]
        others = [manager.submit_nowait(from_("y", number, priority=LOW)) for number in (1, 2)]
        manager.submit_nowait(from_("x", 3, priority=CRITICAL))
        assert (await own[1].outcome()).name == "shed"
        gate.open()
        assert {(await receipt.outcome()).name for receipt in [own[0], *others]} == {"replied"}


@simulated
async def test_a_message_that_starts_at_once_needs_no_place() -> None:
    gate = Gate()
    share = TenantPolicy(queue_share=0.01)
    settings: dict[str, Any] = {"limit": 2, "headroom": {CRITICAL: 1}, "queue_limit": 10}
    async with opened(gate, tenants={"x": share}, **settings, **CROWD) as manager:
        manager.submit_nowait(from_("x", 0))
        manager.submit_nowait(from_("x", 1))
        assert manager.submit_nowait(from_("x", 2, priority=CRITICAL)).position == 0
        gate.open()


@simulated
async def test_rates_differ_by_tenant() -> None:
    config: dict[str, Any] = {
        "rate_limit": RateLimit(1, per=10),
        "tenants": {
            "vip": TenantPolicy(rate_limit=RateLimit(2, per=10)),
            "own": TenantPolicy(rate_limit=False),
        },
    }
    async with opened(takes(0), **config) as manager:
        for tenant, accepted in (("", 1), ("vip", 2), ("own", 3)):
            for number in range(accepted):
                manager.submit_nowait(from_(tenant, number))
            if tenant != "own":
                with pytest.raises(ccm.RateLimited) as refused:
                    manager.submit_nowait(from_(tenant, accepted))
                assert refused.value.retry_after == 10


@simulated
async def test_a_rate_for_one_tenant_alone() -> None:
    policy = TenantPolicy(rate_limit=RateLimit(1, per=10))
    async with opened(takes(0), rate_limit=None, tenants={"x": policy}) as manager:
        manager.submit_nowait(from_("x", 0))
        with pytest.raises(ccm.RateLimited):
            manager.submit_nowait(from_("x", 0))
        for _ in range(3):
            manager.submit_nowait(from_("y", 0))


def test_a_share_is_at_least_one_place() -> None:
    from ccm._core.tenants import Tenants

    assert Tenants(Config(queue_limit=10, tenant=TenantPolicy(queue_share=0.01))).places("x") == 1
    assert Tenants(Config(queue_limit=10)).places("x") == 10
