"""What each tenant may use: weight, slots, places in the queue, rate; put together from the settings."""

from __future__ import annotations

from math import ceil
from typing import final

from .._config import Config
from .._policies import RateLimit
from .lanes import INF


@final
class Tenants:
    """Looks up the policy of a tenant: its own, else that of all others. Every question is O(1)."""

    __slots__ = ("_named", "_other", "_queue_limit", "queue_shares", "slot_limits")

    def __init__(self, config: Config) -> None:
        self._named = {name: config.policy_of(name) for name in (*config.tenants, *config.weights)}
        self._other = config.policy_of(None)
        self._queue_limit = config.queue_limit
        policies = (*self._named.values(), self._other)
        self.slot_limits = any(policy.limit is not None for policy in policies)
        self.queue_shares = any(policy.queue_share != 1.0 for policy in policies)

    def weight(self, tenant: str) -> float:
        """Its share of the slots relative to others."""
        return self._named.get(tenant, self._other).weight or 1.0

    def slots(self, tenant: str) -> float:
        """How many slots it may use at a time; inf when only the manager's limit counts."""
        return self._named.get(tenant, self._other).limit or INF

    def places(self, tenant: str) -> int:
        """How many of its turns may wait, at least 1."""
        return ceil((self._named.get(tenant, self._other).queue_share or 1.0) * self._queue_limit)

    @property
    def rate(self) -> RateLimit | None:
        """The rate of users whose tenant is not named; None is off."""
        return self._other.rate_limit or None

    @property
    def rates(self) -> dict[str, RateLimit | None]:
        """The rates of users by tenant, where they differ from `rate`."""
        rates = {name: policy.rate_limit or None for name, policy in self._named.items()}
        return {name: rate for name, rate in rates.items() if rate != self.rate}
