"""A minute in which four times as many messages arrive as can be answered, without shedding and with it.

On virtual time: it takes a second or two.
"""

from __future__ import annotations

from contextlib import suppress

import trio

import ccm
from ccm.testing import FakeModel, simulate, traffic, uniform

MIX = {ccm.CRITICAL: 1, ccm.HIGH: 4, ccm.NORMAL: 70, ccm.LOW: 25}
SETTINGS = ccm.Config(limit=20, headroom={ccm.CRITICAL: 1}, rate_limit=None, max_sessions=20_000, drain=0)


async def minute(shedding: ccm.Shedding | None) -> ccm.Statistics:
    model = FakeModel(latency=uniform(0.5, 1.5), seed=1)  # 20 slots answer about 20 a second
    async with ccm.open_manager(model, config=SETTINGS.replace(shedding=shedding)) as manager:
        for arrival in traffic(rate=80, duration=60, seed=1, users=2_000, conversations=2_000, mix=MIX):
            await trio.sleep_until(arrival.at)
            with suppress(ccm.Overloaded):  # the queue is full: told at once, with a time to come back
                manager.submit_nowait(arrival.message)
        return manager.statistics()


def main() -> None:
    for title, shedding in (("without", None), ("with", ccm.Shedding())):
        statistics = simulate(minute, shedding)
        counts = {**statistics.outcomes, "waiting": statistics.waiting}
        print(f"{title} shedding")
        print(
            "  " + ", ".join(f"{counts[name]} {name}" for name in ("replied", "shed", "rejected", "waiting"))
        )
        for priority in (ccm.CRITICAL, ccm.HIGH, ccm.NORMAL):
            print(f"  99 in 100 {priority.name} turns started within {statistics.wait[priority].p99:.1f} s")


if __name__ == "__main__":
    main()
