"""Start-time fair queuing without memory: who is next among flows that share something by weight.

Every flow in the queue carries a tag, and the smallest tag is served. The queue's virtual time `v` is
the tag served last. A flow that joins gets the tag `v + share`, where `share` is the cost of one
service divided by the flow's weight; a flow that is served and stays is joined again, so its tag grows
by its own share.

Why it is fair (law G5). For every flow i in the queue `v <= tag_i <= v + share_i`: it holds when i joins,
and v only moves up to the smallest tag. While i and j both stay, each service of i adds share_i to
tag_i, so the served amounts divided by weights differ by
(tag_i - tag_j at the end) - (tag_i - tag_j at the start), and both brackets lie in
[-share_j, share_i]: the difference is at most share_i + share_j. A flow that leaves and joins again
never gets a smaller tag than if it had stayed, so idleness earns nothing and nothing about absent
flows has to be remembered. Newcomers always join above v, so v cannot stand still for ever and no flow
starves (law G6).

Sources: Goyal, Vin, Cheng, "Start-time Fair Queueing" (SIGCOMM 1996); joining one share above v is the
tag of Golestani's self-clocked fair queueing (INFOCOM 1994), with the same bound.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Generic, TypeVar

F = TypeVar("F")


class FairQueue(Generic[F]):
    """Flows waiting to be served, the fairest next first; equal tags in the order of joining.

    Entries whose tags rise are kept in `_run`, a plain queue; only the others need the heap. With equal
    shares, which is the usual case, that is all of them, and every step costs O(1).

    Invariants: `_entries` holds the one valid entry of each flow in the queue, every other entry in `_run`
    and `_heap` is stale; tags in `_run` rise and end with `_last`; when a flow has left, stale entries
    outnumber the valid ones by at most `_SLACK`; with no flow in the queue nothing is kept and the
    virtual time is 0; `size` is the number of flows.
    """

    __slots__ = ("_entries", "_heap", "_joined", "_last", "_run", "_virtual", "size")
    _SLACK = 64

    def __init__(self) -> None:
        self._run: deque[tuple[float, int, F]] = deque()
        self._heap: list[tuple[float, int, F]] = []
        self._entries: dict[F, tuple[float, int, F]] = {}
        self._virtual = 0.0
        self._last = 0.0
        self._joined = 0
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[F]:
        """The flows in the order of joining; the queue must not change meanwhile."""
        return iter(self._entries)

    def __contains__(self, flow: F) -> bool:
        return flow in self._entries

    def join(self, flow: F, share: float = 1.0) -> None:
        """Add `flow`, one `share` (cost / weight, >= 0) above the virtual time. O(log n)."""
        entries = self._entries
        if flow in entries:
            raise ValueError(f"{flow!r} is in the queue already; leave() first")
        tag = self._virtual + share
        self._joined += 1
        entry = entries[flow] = (tag, self._joined, flow)
        self.size += 1
        if tag >= self._last:
            self._last = tag
            self._run.append(entry)
        else:
            heappush(self._heap, entry)

    def leave(self, flow: F) -> None:
        """Take `flow` out without serving it. O(1), amortised."""
        entries = self._entries
        if flow not in entries:
            raise ValueError(f"{flow!r} is not in the queue; join() first")
        del entries[flow]
        self.size -= 1
        if not self.size:
            self._reset()
        elif self.kept > 2 * self.size + self._SLACK:
            self._run = deque(sorted(entries.values()))
            self._last = self._run[-1][0]
            self._heap.clear()

    @property
    def kept(self) -> int:
        """Entries held, valid and stale."""
        return len(self._run) + len(self._heap)

    def peek(self) -> F:
        """The flow that `serve` would take. O(log n), amortised."""
        if not self.size:
            raise IndexError("peek at an empty queue; ask len() first")
        run, heap, entries = self._run, self._heap, self._entries
        while True:
            first = heap and (not run or heap[0] < run[0])
            entry = heap[0] if first else run[0]
            if entries.get(entry[2]) is entry:
                return entry[2]
            if first:
                heappop(heap)
            else:
                run.popleft()

    def serve(self) -> F:
        """Take the fairest flow out and move the virtual time to its tag. O(log n), amortised.

        A flow that has more to be served joins again at once.
        """
        if not self.size:
            raise IndexError("serve from an empty queue; ask len() first")
        run, heap, entries = self._run, self._heap, self._entries
        while True:
            entry = heappop(heap) if heap and (not run or heap[0] < run[0]) else run.popleft()
            flow = entry[2]
            if entries.get(flow) is entry:
                break
        del entries[flow]
        self.size -= 1
        if self.size:
            self._virtual = entry[0]
        else:
            # Nobody is left to compare with, so the virtual time may start again from 0.
            self._reset()
        return flow

    def sole(self) -> F:
        """The flow in a queue of one: nobody to be fair to, so no tag has to move. O(1)."""
        (flow,) = self._entries
        return flow

    def _reset(self) -> None:
        self._run.clear()
        self._heap.clear()
        self._virtual = self._last = 0.0

    def _check(self) -> None:
        kept = [*self._run, *self._heap]
        valid = [entry for entry in kept if self._entries.get(entry[2]) is entry]
        assert len(valid) == len(self._entries) == self.size
        assert all(entry[0] >= self._virtual for entry in valid)
        assert [*self._run] == sorted(self._run)
        assert not self._run or self._run[-1][0] <= self._last
