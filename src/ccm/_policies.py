"""The small policies that settings are made of; every value is checked when it is set."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import attrs

from ._checks import INF, by_class, instance_of, number, optional, refuse, whole
from ._message import Priority


class Overflow(enum.StrEnum):
    """What happens to a message that arrives when the queue is at its bound."""

    REJECT_NEW = "reject_new"
    SHED_LOWEST = "shed_lowest"
    WAIT = "wait"


@attrs.frozen
class RateLimit:
    """At most `count` messages of one user in any `per` seconds.

    Args:
        count: 1 to 1,000,000.
        per: seconds, > 0.
    """

    count: int = attrs.field(validator=whole(1, 1_000_000))
    per: float = attrs.field(kw_only=True, validator=number(0, above=True))


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How often and when a failed turn is tried again: full jitter below a doubling bound.

    Args:
        attempts: attempts in all, 1 to 100; 1 means no retry.
        base: upper bound of the first delay, seconds, >= 0; doubles with every attempt.
        cap: upper bound of every delay, seconds, >= 0.
    """

    attempts: int = attrs.field(default=3, validator=whole(1, 100))
    base: float = attrs.field(default=0.1, validator=number(0))
    cap: float = attrs.field(default=10.0, validator=number(0))


@attrs.frozen(kw_only=True)
class AdaptiveLimit:
    """A number of slots that follows what the provider can take: additive increase, multiplicative decrease.

    When an attempt is told `Busy`, or runs into its time-out, the limit falls at once: to what it was when
    the window began, less `decrease` times the share of attempts refused in this window, among all that ended
    in it or still run. It is one less at least, and in one window never less than `1 - decrease` of that. A
    window without a refusal in which all of the limit was in use raises it by `increase`. So a provider that
    is down brings it to the floor in a few windows, one that is slightly overrun lowers it slightly, and a
    limit that nobody uses does not grow.

    A raise that was refused is tried again after 2, 4, ... at most 32 such windows. A share of refusals below
    1 % neither lowers nor raises. Other failures are no signal, and neither is latency: a slow answer is not
    an overload.

    Args:
        floor: slots it never falls below, 1 or more; None is a tenth of the configured limit.
        increase: slots per window, > 0; None is a 25th of the configured limit, at least 1.
        decrease: share taken off when every attempt was refused, > 0 and <= 0.99.
        window: seconds, > 0.
    """

    floor: int | None = attrs.field(default=None, validator=optional(whole(1, 100_000)))
    increase: float | None = attrs.field(default=None, validator=optional(number(0, above=True)))
    decrease: float = attrs.field(default=0.7, validator=number(0, 0.99, above=True))
    window: float = attrs.field(default=1.0, validator=number(0, above=True))


DEFAULT_TARGETS: Mapping[Priority, float] = MappingProxyType(
    {Priority.CRITICAL: 0.1, Priority.HIGH: 0.5, Priority.NORMAL: 1.0}
)


def _targets(value: Any) -> Any:
    return MappingProxyType(by_class("targets", value))


def _check_targets(instance: Any, field: Any, value: Any) -> None:
    for priority, seconds in value.items():
        if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds < INF:
            raise refuse(f"targets[{priority.name}]", seconds, "finite seconds > 0")


@attrs.frozen(kw_only=True)
class Shedding:
    """When waiting has become too long for too long, less urgent messages are given up: LOW, then NORMAL.

    Args:
        targets: seconds a turn of a class may be kept from starting by the lack of a slot. A class is
            overloaded once every turn that started, and what waits, has been above it for `interval`. Waiting
            for the conversation's own earlier turn does not count.
        interval: seconds, > 0; also how often the share that is shed is adjusted.
        rotate: seconds, > 0, after which the choice of users that are shed first is drawn anew.
    """

    targets: Mapping[Priority, float] = attrs.field(
        default=DEFAULT_TARGETS, converter=_targets, validator=_check_targets
    )
    interval: float = attrs.field(default=0.5, validator=number(0, above=True))
    rotate: float = attrs.field(default=60.0, validator=number(0, above=True))


def rate_of(value: Any) -> Any:
    """A table or a pair from a file becomes a RateLimit; the rest stays."""
    if isinstance(value, Mapping) and set(value) == {"count", "per"}:
        return RateLimit(**value)
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return RateLimit(value[0], per=value[1])
    return value


def _check_tenant_rate(instance: Any, field: Any, value: Any) -> None:
    if value is not None and value is not False and not isinstance(value, RateLimit):
        raise refuse(field.name, value, "a RateLimit, False (off) or None")


@attrs.frozen(kw_only=True)
class TenantPolicy:
    """What one tenant may use. None leaves a setting to `Config.tenant`, and there to the manager's own.

    Args:
        weight: share of the slots relative to others, > 0; None is `Config.weights`, else 1.
        rate_limit: messages per user; False is off; None is `Config.rate_limit`.
        limit: slots it may use at a time, 1 or more; None is no limit of its own.
        queue_share: part of `Config.queue_limit` that its waiting turns may fill, > 0 to 1; None is all.
    """

    weight: float | None = attrs.field(default=None, validator=optional(number(0, above=True)))
    rate_limit: RateLimit | Literal[False] | None = attrs.field(
        default=None, converter=rate_of, validator=_check_tenant_rate
    )
    limit: int | None = attrs.field(default=None, validator=optional(whole(1, 100_000)))
    queue_share: float | None = attrs.field(default=None, validator=optional(number(0, 1, above=True)))


@attrs.frozen
class ProviderLimit:
    """How many turns may be inside `Turn.limit(key)` at a time.

    Args:
        limit: 1 to 100,000.
        adaptive: an `AdaptiveLimit` with `limit` as its ceiling; None keeps it fixed.
    """

    limit: int = attrs.field(validator=whole(1, 100_000))
    adaptive: AdaptiveLimit | None = attrs.field(
        default=None, kw_only=True, validator=optional(instance_of(AdaptiveLimit, "an AdaptiveLimit or None"))
    )
