"""At most so many messages of one user in any stretch of so many seconds: an exact sliding log.

A counter per window lets twice the limit through at the seam of two windows, and a token bucket lets a
full bucket plus what drips in meanwhile through. A log of the last ``count`` events does neither, and it
knows to the float when the next event is allowed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from math import inf, nextafter
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from .._policies import RateLimit

__all__ = ["RateLimiter"]

_SWEEP: Final = 2  # idle users forgotten per event: more than come in, so they cannot pile up


def _at_or_after(now: float, per: float) -> float:
    """The first float that is not before the real number now + per. O(1).

    A sum that was rounded down would make the window an ulp too short. What rounding took away is
    computed exactly by Knuth's TwoSum (The Art of Computer Programming, volume 2, 4.2.2).
    """
    release = now + per
    back = release - now
    lost = (now - (release - back)) + (per - back)
    return nextafter(release, inf) if lost > 0.0 else release


class _Log(list[float]):
    """When each of a user's last `count` events leaves the window, for two events and more; a ring once full.

    `head` is the oldest entry; ``log[head - 1]`` is the newest, while the list grows (head 0) and later.
    """

    __slots__ = ("head",)

    def __init__(self, first: float, second: float) -> None:
        super().__init__((first, second))
        self.head = 0

    def take_out(self, release: float) -> None:
        """Remove one entry that is equal to this; the rest is no full ring any more. O(count)."""
        self[:] = self[self.head :] + self[: self.head]
        self.head = 0
        self.remove(release)


def _newest(log: float | _Log) -> float:
    """When the newest event of a log leaves the window. O(1)."""
    return log[log.head - 1] if isinstance(log, _Log) else log


class _Group:
    """The users under one and the same limit. They are ordered by their newest event, because all of
    them are idle after the same `per`; users under different limits would not be."""

    __slots__ = ("count", "due", "latest", "logs", "per")

    # logs    (tenant, user) -> log, ascending by the newest entry that the log has had: one that was given
    #         back keeps its user's place; of a lone event, and with a count of 1, only the number: most users
    #         say one thing and go
    # latest  the newest entry of all logs ever: an event never leaves before one recorded earlier
    # due     nobody is forgotten before this time: not after the newest entry that the first log has had

    def __init__(self, limit: RateLimit) -> None:
        self.count = limit.count
        self.per = float(limit.per)
        self.logs: OrderedDict[tuple[str, str], float | _Log] = OrderedDict()
        self.latest = -inf
        self.due = inf

    def first_idle(self) -> float:
        """When the first user in the order is idle; infinity when there is none. O(1)."""
        for log in self.logs.values():
            return _newest(log)
        return inf

    def sweep(self, now: float, most: int) -> int:
        """Forget up to `most` users that are idle and return how many. O(forgotten)."""
        for forgotten in range(most):
            self.due = self.first_idle()
            if self.due > now:
                return forgotten
            self.logs.popitem(last=False)
        return most


@final
class RateLimiter:
    """A sliding limit per user of a tenant.

    If `record` is called only when `check` returned 0.0 at the same time, at most ``count`` events of a user
    lie in any window ``(t - per, t]``, exactly, in the arithmetic of real numbers. The clock must not go
    backwards; if it does, it is taken to stand still. Users whose events all left the window are
    forgotten. When `max_users` are remembered, the one recorded longest ago is forgotten for a new one
    and counted in `evicted`: that user starts afresh, so a flood of strangers never locks anyone out.

    An event that came to nothing can be given back. Its user is then allowed what he would be allowed without
    it; but he is remembered as long, and as one recorded as late, as with it.

    Args:
        default: the limit of every tenant that is not in `overrides`; None is off.
        overrides: limits by tenant; None is off.
        max_users: users remembered at most, 1 or more.
    """

    __slots__ = ("_default", "_groups", "_max_users", "_tenants", "_tracked", "evicted")

    # _groups   one group per distinct limit
    # _tenants  tenant -> its group, None where the limit is off; other tenants have _default
    # _tracked  logs in all groups, at most _max_users
    # evicted   users forgotten because of the bound, before they were idle

    def __init__(
        self,
        *,
        default: RateLimit | None,
        overrides: Mapping[str, RateLimit | None] | None = None,
        max_users: int = 100_000,
    ) -> None:
        if max_users < 1:
            raise ValueError(f"max_users must be 1 or more, not {max_users!r}")
        overrides = overrides or {}
        groups = {limit: _Group(limit) for limit in (default, *overrides.values()) if limit is not None}
        self._groups = tuple(groups.values())
        self._default = None if default is None else groups[default]
        self._tenants = {
            tenant: None if limit is None else groups[limit] for tenant, limit in overrides.items()
        }
        self._max_users = max_users
        self._tracked = 0
        self.evicted = 0

    @property
    def tracked(self) -> int:
        """Users remembered, among them perhaps idle ones that were not swept yet."""
        return self._tracked

    def check(self, tenant: str, user: str, now: float) -> float:
        """How long the user has to wait for one more event. Changes nothing. O(1).

        Returns:
            0.0 when it is allowed now; else seconds such that it is allowed at ``now + seconds``, computed
            in floats, and at no earlier time.
        """
        group = self._tenants.get(tenant, self._default) if self._tenants else self._default
        if group is None:
            return 0.0
        log = group.logs.get((tenant, user))
        if log is None:
            return 0.0
        if isinstance(log, float):
            if group.count > 1:
                return 0.0
            release = log
        elif len(log) < group.count:
            return 0.0
        else:
            release = log[log.head]
        if release <= now:
            return 0.0
        wait = release - now
        while now + wait < release:  # rounded down: one step is enough
            wait = nextafter(wait, inf)
        return wait

    def record(self, tenant: str, user: str, now: float) -> None:
        """Count one event, allowed or not.

        O(1) amortised; for a new user at the bound O(distinct limits).
        """
        group = self._tenants.get(tenant, self._default) if self._tenants else self._default
        if group is not None:
            key = (tenant, user)
            self._count(group, key, group.logs.get(key), now)

    def take(self, tenant: str, user: str, now: float) -> float:
        """`check`, and `record` if it is allowed; the same result as `check`. O(1) amortised."""
        group = self._tenants.get(tenant, self._default) if self._tenants else self._default
        if group is None:
            return 0.0
        key = (tenant, user)
        log = group.logs.get(key)
        if log is not None and (group.count == 1 or (isinstance(log, _Log) and len(log) >= group.count)):
            wait = self.check(tenant, user, now)
            if wait:
                return wait
        self._count(group, key, log, now)
        return 0.0

    def give_back(self, tenant: str, user: str, at: float) -> None:
        """Undo one event that `take` allowed when it was `at`. Once per event. O(count of the limit).

        From now on `check` and `take` answer as if that event had never been, to the float, whatever was
        taken before and after it; what they answered meanwhile stands. An event that has left the window may
        be forgotten already, which makes no difference. One that was taken while the clock went backwards
        may go on counting, and who was evicted for it stays so.
        """
        group = self._tenants.get(tenant, self._default) if self._tenants else self._default
        if group is None:
            return
        key = (tenant, user)
        log = group.logs.get(key)
        # What `_count` noted. Of several events at one time it does not matter which is meant.
        release = _at_or_after(at, group.per)
        if not isinstance(log, _Log):
            if log == release:
                del group.logs[key]
                self._tracked -= 1
        elif release in log:
            # What the ring has overwritten had left the window when `take` allowed this event.
            log.take_out(release)
            if len(log) == 1:
                group.logs[key] = log[0]  # in the place that it has

    def _count(self, group: _Group, key: tuple[str, str], log: float | _Log | None, now: float) -> None:
        per = group.per
        release = now + per
        if now < per:
            release = _at_or_after(now, per)
        elif release - now < per:  # exact, as release is at most 2 * now; so the sum was rounded down
            release = nextafter(release, inf)
        if release < group.latest:
            release = group.latest
        else:
            group.latest = release
        if group.due <= now:
            self._tracked -= group.sweep(now, _SWEEP)
            log = group.logs.get(key)
        if log is None:
            if self._tracked >= self._max_users:
                self._make_room(now)
            group.logs[key] = release
            if release < group.due:
                group.due = release
            self._tracked += 1
            return
        group.logs.move_to_end(key)
        if isinstance(log, float):
            group.logs[key] = _Log(log, release) if group.count > 1 else release
        elif len(log) < group.count:
            log.append(release)
        else:
            head = log.head
            log[head] = release
            head += 1
            log.head = head if head < group.count else 0

    def expire(self, now: float) -> int:
        """Forget the users that are idle, and would be without giving back, and return how many.

        O(forgotten + distinct limits).
        """
        forgotten = sum(group.sweep(now, len(group.logs)) for group in self._groups)
        self._tracked -= forgotten
        return forgotten

    def next_deadline(self) -> float:
        """When the first user can be forgotten; infinity when there is none. O(distinct limits)."""
        return min((group.first_idle() for group in self._groups), default=inf)

    def _make_room(self, now: float) -> None:
        """Forget idle users, or else the one recorded longest ago. O(distinct limits)."""
        self._tracked -= sum(group.sweep(now, 1) for group in self._groups)
        if self._tracked >= self._max_users:
            oldest = min(self._groups, key=lambda group: group.first_idle() - group.per)
            oldest.logs.popitem(last=False)
            self._tracked -= 1
            self.evicted += 1

    def _check(self) -> None:
        """Assert every invariant. O(events held)."""
        assert self._tracked == sum(len(group.logs) for group in self._groups) <= self._max_users
        assert self.evicted >= 0
        for group in self._groups:
            assert all(_newest(log) <= group.latest for log in group.logs.values())
            for log in group.logs.values():
                if isinstance(log, float):
                    continue
                assert 2 <= len(log) <= group.count
                assert 0 <= log.head < len(log)
                assert log.head == 0 or len(log) == group.count
                in_order = log[log.head :] + log[: log.head]
                assert in_order == sorted(in_order)
