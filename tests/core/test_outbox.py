"""The outbox against a plain model: order inside a conversation, nothing lost, nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ccm._core.outbox import Outbox
from ccm._core.reserve import Reserved


@attrs.frozen
class Parcel:
    seq: int
    conversation: str


class OutboxMachine(RuleBasedStateMachine):
    """`kept` is the storage: what has not been delivered, in order."""

    @initialize(limit=st.integers(1, 4))
    def begin(self, limit: int) -> None:
        self.box: Outbox[Parcel] = Outbox(limit=limit)
        self.kept: list[Parcel] = []
        self.out: list[Parcel] = []
        self.last: dict[str, int] = {}
        self.now = 0.0
        self.seq = 0
        self.read: list[Parcel] | None = None

    @rule(key=st.sampled_from("abc"))
    def put(self, key: str) -> None:
        self.seq += 1
        parcel = Parcel(self.seq, key)
        self.kept.append(parcel)
        self.box.put(parcel)

    @rule()
    def take(self) -> None:
        parcel = self.box.take(self.now)
        if parcel is not None:
            assert parcel in self.kept
            assert all(other.conversation != parcel.conversation for other in self.out)
            assert parcel.seq > self.last.get(parcel.conversation, 0)
            first = next(other for other in self.kept if other.conversation == parcel.conversation)
            assert parcel == first
            self.out.append(parcel)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def delivered(self, data: st.DataObject) -> None:
        parcel = data.draw(st.sampled_from(self.out))
        self.out.remove(parcel)
        self.kept.remove(parcel)
        self.last[parcel.conversation] = parcel.seq
        self.box.delivered(parcel)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), wait=st.integers(0, 3))
    def failed(self, data: st.DataObject, wait: int) -> None:
        parcel = data.draw(st.sampled_from(self.out))
        self.out.remove(parcel)
        assert self.box.failed(parcel) >= 1
        self.box.again(parcel, self.now + wait)

    @rule(seconds=st.integers(0, 4))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.box.wake(self.now)

    @precondition(lambda self: self.read is None)
    @rule()
    def begin_to_read(self) -> None:
        wanted = self.box.begin()
        self.read = self.kept[:wanted]
        self.all = len(self.kept) <= wanted

    @precondition(lambda self: self.read is not None)
    @rule()
    def refill(self) -> None:
        assert self.read is not None
        self.box.refill(self.read, last=self.all)
        self.read = None

    @invariant()
    def it_holds_together(self) -> None:
        self.box._check()
        held = {parcel.seq for lane in self.box._lanes.values() for parcel in lane}
        assert held <= {parcel.seq for parcel in self.kept}
        assert self.box.missed or held == {parcel.seq for parcel in self.kept}
        assert self.box.count == len(held)

    def teardown(self) -> None:
        """Whatever happened, everything is delivered in the end."""
        for _ in range(1000):
            self.now += 10
            if self.read is not None:
                self.refill()
            for parcel in [*self.out]:
                self.out.remove(parcel)
                self.kept.remove(parcel)
                self.last[parcel.conversation] = parcel.seq
                self.box.delivered(parcel)
            self.take()
            if self.box.hungry:
                self.begin_to_read()
            if not self.kept:
                return
        raise AssertionError(f"never delivered: {self.kept}")


TestOutbox = OutboxMachine.TestCase


def test_misuse_changes_nothing() -> None:
    box: Outbox[Parcel] = Outbox(limit=2)
    parcel = Parcel(1, "a")
    box.put(parcel)
    misuses: tuple[Callable[[], object], ...] = (
        lambda: box.delivered(parcel), lambda: box.failed(parcel), lambda: box.again(parcel, 1.0),
        lambda: box.refill([], last=True), lambda: Outbox(limit=0),
    )  # fmt: skip
    for misuse in misuses:
        with pytest.raises(ValueError, match=r"is not out|needs begin|must be 1 or more"):
            misuse()
    box._check()
    assert box.take(0.0) == parcel


class ReservedMachine(RuleBasedStateMachine):
    @initialize(by_tenant=st.booleans())
    def begin(self, by_tenant: bool) -> None:
        self.by_tenant = by_tenant
        self.reserved = Reserved(by_tenant=by_tenant)
        self.model: list[tuple[str, str]] = []

    @rule(key=st.sampled_from("ab"), tenant=st.sampled_from("xy"))
    def add(self, key: str, tenant: str) -> None:
        self.reserved.add(key, tenant)
        self.model.append((key, tenant))

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if not self.model:
            with pytest.raises(KeyError):
                self.reserved.remove("a", "x")
            return
        one = data.draw(st.sampled_from(self.model))
        self.model.remove(one)
        self.reserved.remove(*one)

    @invariant()
    def it_counts(self) -> None:
        self.reserved._check()
        assert self.reserved.total == len(self.model)
        for key in "ab":
            assert self.reserved.of(key) == sum(k == key for k, _ in self.model)
        tenants = Counter(tenant for _, tenant in self.model)
        assert self.reserved.tenants == (tenants if self.by_tenant else {})


TestReserved = ReservedMachine.TestCase
