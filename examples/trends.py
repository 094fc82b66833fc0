"""Three minutes of a bot that is flooded in the second one, drawn from `trends()`; on virtual time."""

from contextlib import suppress

import trio

import ccm
from ccm.testing import FakeModel, lognormal, simulate, traffic


async def three_minutes() -> ccm.Trends:
    model = FakeModel(latency=lognormal(1.0, 0.5), seed=1)
    config = ccm.Config(limit=8, queue_limit=100, rate_limit=None)
    async with ccm.open_manager(model, config=config) as manager:
        for begin, rate in ((0, 3), (60, 12), (120, 3)):
            for arrival in traffic(rate=rate, duration=60, users=200, conversations=200, seed=begin):
                await trio.sleep_until(begin + arrival.at)
                with suppress(ccm.Overloaded):  # counted as rejected
                    manager.submit_nowait(arrival.message)
        await trio.sleep_until(180)
        return manager.trends()  # step=60: minutes, a whole day of them


def line(name: str, values: tuple[float | None, ...], width: int = 60) -> str:
    """One character for each few seconds: their highest value; None is nothing to show."""
    each = -(-len(values) // width)
    groups = [values[i : i + each] for i in range(0, len(values), each)]
    peaks = [max((value for value in group if value is not None), default=None) for group in groups]
    most = max((peak for peak in peaks if peak is not None), default=0) or 1
    bars = "".join(" " if peak is None else "▁▂▃▄▅▆▇█"[round(7 * peak / most)] for peak in peaks)
    return f"{name:>9} {bars} {most:4.3g}"


trends = simulate(three_minutes)
print(f"{len(trends.at)} seconds from {trends.at[0]:g} s on; the last number is the highest value")
for name in ("received", "waiting", "slots_in_use"):
    print(line(name.partition("_")[0], getattr(trends, name)))
print(line("replied", trends.outcomes["replied"]))
print(line("rejected", trends.outcomes["rejected"]))
print(line("wait p99", trends.wait[ccm.NORMAL].p99))
