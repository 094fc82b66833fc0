"""Messages of made-up people: when, who, where, how urgent, and how long the answer will take."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import accumulate

from ccm import Message, Priority
from ccm.testing import Arrival, Latency
from ccm.testing._stamp import Stamp

from ._scenario import Group, Scenario

Draw = Callable[[Priority], tuple[float, float]]
"""For a class: which fate the call has, from 0 to 1, and the seconds of the answer."""
STAMP = Stamp(Message("room", "user", "text"))
DRAW = "draw"
"""Where in a message's metadata it stands: what happens to a message does not depend on when it is
handled."""


def drawing(seed: str, latency: Mapping[Priority, Latency]) -> Draw:
    """Draws for one message after the other; the same seed, the same draws."""
    generator = random.Random(seed)
    fate = generator.random
    by_class = [latency[priority] for priority in Priority]
    return lambda priority: (fate(), by_class[priority](generator))


def people(scenario: Scenario) -> Iterator[Arrival]:
    """The messages of all groups in order of arrival.

    Times, senders and draws of a group come from generators of their own: another limit, latency or mix
        leaves times and senders as they are.
    """
    groups = [
        _group(group, f"{scenario.seed}/{number}", number, scenario.answers.latency)
        for number, group in enumerate(scenario.groups)
    ]
    return groups[0] if len(groups) == 1 else merge(*groups, key=lambda arrival: arrival.at)


def _group(group: Group, seed: str, number: int, latency: Mapping[Priority, Latency]) -> Iterator[Arrival]:
    names, users, rooms = shared_out(group)
    # The first user of each tenant; the last bound is left out, so that every number has a tenant.
    firsts = [0, *accumulate(users)][:-1]
    prefixes = [f"{name}/" if name else "" for name in names]
    total = sum(users)
    classes = [priority for priority in Priority if group.mix.get(priority)]
    bounds = [*accumulate(group.mix[priority] for priority in classes)]
    scale = bounds.pop()
    uniform = random.Random(f"{seed}/senders").random
    draw = drawing(f"{seed}/answers", latency)
    alone = len(names) == 1
    for count, at in enumerate(times(group, f"{seed}/times")):
        user = int(uniform() * total)
        tenant = 0 if alone else bisect_right(firsts, user) - 1
        prefix, own = prefixes[tenant], user - firsts[tenant]
        priority = classes[bisect_right(bounds, uniform() * scale)]
        yield Arrival(
            at,
            STAMP(
                f"{prefix}room-{own % rooms[tenant]}", f"{prefix}user-{own}", f"{number}-{count}",
                names[tenant], priority, {DRAW: draw(priority)},
            ),
        )  # fmt: skip


def shared_out(group: Group) -> tuple[list[str], list[int], list[int]]:
    """The tenants with at least one user each, their users and their conversations, in proportion to the
    shares."""
    names = [name for name, share in group.tenants.items() if share > 0]
    shares = [group.tenants[name] for name in names]
    return names, parts(group.users, shares), parts(group.conversations, shares)


def parts(total: int, shares: Sequence[float]) -> list[int]:
    """`total`, at least as many as there are shares, in parts of at least 1 in proportion to the shares."""
    spare, whole = total - len(shares), sum(shares)
    bounds = [round(spare * bound / whole) for bound in accumulate(shares)]
    return [1 + bound - before for before, bound in zip([0, *bounds], bounds, strict=False)]


def times(group: Group, seed: str) -> Iterator[float]:
    """When messages arrive: a Poisson process (or evenly spaced arrivals) whose rate follows `points`.

    Unit-rate arrivals are mapped through the inverse of the integrated rate (Çinlar, 1975).
    """
    exponential, even = random.Random(seed).expovariate, group.arrivals == "constant"
    wanted, before = 0.0 if even else exponential(1.0), 0.0
    for (start, low), (end, high) in zip(group.points, group.points[1:], strict=False):
        length = end - start
        slope, area = (high - low) / length, (low + high) / 2 * length
        while wanted < before + area:
            part = wanted - before
            # From part = low*t + slope*t*t/2, in the form that does not cancel.
            root = low + math.sqrt(max(0.0, low * low + 2 * slope * part))
            yield min(end, start + 2 * part / root) if root else start
            wanted += 1.0 if even else exponential(1.0)
        before += area
