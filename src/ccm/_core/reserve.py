"""What is on its way into the storage: counted in advance, so that the bounds hold once it has arrived."""

from __future__ import annotations

from collections.abc import Hashable
from typing import final


@final
class Reserved:
    """Places that messages have been promised and have not taken yet.

    Args:
        by_tenant: whether `tenants` is wanted; it is empty otherwise.

    Invariants: `total` is the number of `add`s without a `remove`; `conversations` and `tenants` have it by
    key, and no key at 0.
    """

    __slots__ = ("_by_tenant", "conversations", "tenants", "total")

    def __init__(self, *, by_tenant: bool) -> None:
        self.total = 0
        self.conversations: dict[Hashable, int] = {}
        self.tenants: dict[Hashable, int] = {}
        self._by_tenant = by_tenant

    def add(self, conversation: str, tenant: str) -> None:
        """One more message is on its way. O(1)."""
        self.total += 1
        self.conversations[conversation] = self.conversations.get(conversation, 0) + 1
        if self._by_tenant:
            self.tenants[tenant] = self.tenants.get(tenant, 0) + 1

    def remove(self, conversation: str, tenant: str) -> None:
        """It has arrived, or will not. O(1).

        Raises:
            KeyError: none is on its way; nothing was changed.
        """
        here, there = self.conversations.get(conversation, 0), 1
        if self._by_tenant:
            there = self.tenants.get(tenant, 0)
        if not (here and there):
            raise KeyError(f"nothing of {(conversation if not here else tenant)!r} is on its way")
        self.total -= 1
        if here == 1:
            del self.conversations[conversation]
        else:
            self.conversations[conversation] = here - 1
        if not self._by_tenant:
            return
        if there == 1:
            del self.tenants[tenant]
        else:
            self.tenants[tenant] = there - 1

    def of(self, conversation: str) -> int:
        """Messages of a conversation that are on their way. O(1)."""
        return self.conversations.get(conversation, 0)

    def _check(self) -> None:
        """Assert every invariant. O(keys)."""
        for counts in (self.conversations, self.tenants) if self._by_tenant else (self.conversations,):
            assert sum(counts.values()) == self.total
            assert all(count > 0 for count in counts.values())
