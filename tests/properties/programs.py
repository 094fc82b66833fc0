"""Generated programs for the real manager: what they may do, and how they are drawn.

A program is a tuple of frozen operations with absolute times; `interpreter.run` runs it. Times are
multiples of 1/64 s, so they add up exactly and can be compared with `==`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

import attrs
from hypothesis import strategies as st

import ccm

TICK = 1 / 64


class Behaviour(enum.Enum):
    """What a handler does with a message, after the message's `takes` seconds where it says so."""

    REPLY = "takes its time and replies"
    FAIL_ONCE = "raises in the first attempt, replies in the second"
    FAIL = "raises in every attempt"
    BUSY = "raises Busy twice, then replies"
    PERMANENT = "raises Permanent"
    WRONG = "returns 42"
    HANG = "never ends by itself"
    IGNORE = "when cancelled, ignores it, goes on as long again and replies"
    CLEANUP = "never ends by itself; its cleanup takes its time"
    CONVERT = "never ends by itself; when cancelled, raises an error of its own"


class How(enum.Enum):
    """Which method a message is handed in by."""

    ASK = "ask"
    SUBMIT = "submit"
    NOWAIT = "submit_nowait"


@attrs.frozen
class Send:
    """At `at`, a new task hands in a message and waits for its outcome."""

    at: float
    conversation: str = "a"
    user: str = "ann"
    tenant: str = ""
    priority: ccm.Priority = ccm.NORMAL
    takes: float = 1.0
    behaviour: Behaviour = Behaviour.REPLY
    how: How = How.ASK
    id: str | None = None
    patience: float | None = None  # the message's deadline is so many seconds after `at`


@attrs.frozen
class Cancel:
    """At `at`, cancel the task of the `call`-th Send (modulo their number)."""

    at: float
    call: int


@attrs.frozen
class Look:
    """At `at`, take statistics and check that law G1 can be read off them."""

    at: float


@attrs.frozen
class Drain:
    """At `at`, call `drain`."""

    at: float


@attrs.frozen
class Leave:
    """At `at`, leave the manager's block. A program without it leaves when all is silent."""

    at: float


@attrs.frozen
class Collapse:
    """At `at`, cancel the scope around the manager's block."""

    at: float


Operation = Send | Cancel | Look | Drain | Leave | Collapse


@attrs.frozen
class Program:
    """Operations, the settings they meet, and the seed of the schedule."""

    operations: tuple[Operation, ...]
    config: ccm.Config
    seed: int = 0
    deliver: bool = False

    @property
    def sends(self) -> list[Send]:
        return [op for op in self.operations if isinstance(op, Send)]

    def __repr__(self) -> str:
        plain = ccm.Config(debug=True)
        changes = {
            name: getattr(self.config, name)
            for name in ccm.Config.describe()
            if getattr(self.config, name) != getattr(plain, name)
        }
        operations = "".join(f"\n    {op!r}," for op in self.operations)
        return f"Program([{operations}\n], {changes}, seed={self.seed}, deliver={self.deliver})"


# -- drawing programs ----------------------------------------------------------------------------


def ticks(least: int, most: int) -> st.SearchStrategy[float]:
    """Seconds as multiples of 1/64."""
    return st.integers(least, most).map(lambda n: n * TICK)


PRIORITIES = st.sampled_from(ccm.Priority)
GENTLE = (Behaviour.REPLY, Behaviour.FAIL_ONCE, Behaviour.FAIL, Behaviour.BUSY, Behaviour.PERMANENT)
ROUGH = tuple(Behaviour)


def sends(
    *, behaviours: Iterable[Behaviour] = ROUGH, conversations: str = "abcde",
    tenants: Iterable[str] = ("", "t", "u"),
    hows: Iterable[How] = How, until: int = 128, ids: bool = True, patience: bool = True,
    takes: st.SearchStrategy[float] | None = None, priorities: st.SearchStrategy[ccm.Priority] = PRIORITIES,
) -> st.SearchStrategy[Send]:  # fmt: skip
    """One message; the defaults draw whatever there is."""
    return st.builds(
        Send,
        at=ticks(0, until),
        conversation=st.sampled_from(conversations),
        user=st.sampled_from(["ann", "bob"]),
        tenant=st.sampled_from(list(tenants)),
        priority=priorities,
        takes=ticks(0, 64) if takes is None else takes,
        behaviour=st.sampled_from(list(behaviours)),
        how=st.sampled_from(list(hows)),
        id=st.none() | st.sampled_from(["x", "y", "z"]) if ids else st.none(),
        patience=st.none() | ticks(1, 128) if patience else st.none(),
    )


# Settings under which nothing is refused.
ROOMY: dict[str, Any] = {
    "queue_limit": 10_000, "conversation_limit": 10_000, "max_sessions": 10_000, "rate_limit": None,
    "max_wait": {}, "shedding": None, "tenants": {},
}  # fmt: skip
TENANT_POLICIES = st.builds(
    ccm.TenantPolicy, limit=st.none() | st.integers(1, 2), queue_share=st.sampled_from([None, 0.5, 0.001]),
    rate_limit=st.sampled_from([None, False, ccm.RateLimit(1, per=1)]),
)  # fmt: skip
SLOTS_OF_TENANTS = st.dictionaries(
    st.sampled_from(["t", "u"]), st.builds(ccm.TenantPolicy, limit=st.integers(1, 2))
)
HASTY = ccm.Shedding(interval=0.125, rotate=0.5, targets={ccm.HIGH: 0.0625, ccm.NORMAL: 0.125})
# More work than slots, in many conversations, and no message that is refused for what it is.
CROWD: dict[str, Any] = {"conversations": "abcdefgh", "until": 64, "ids": False, "patience": False}
CANCELS = st.builds(Cancel, at=ticks(0, 192), call=st.integers(0, 30))
LOOKS = st.builds(Look, at=ticks(0, 192))


@st.composite
def configs(draw: st.DrawFn, /, **fixed: Any) -> ccm.Config:
    """Small bounds, so that programs reach them; `fixed` are settings, or what to draw them from."""
    limit = fixed.pop("limit", st.integers(1, 5))
    limit = draw(limit) if isinstance(limit, st.SearchStrategy) else limit
    slots = st.integers(0, limit)
    choices: dict[str, st.SearchStrategy[Any]] = {
        "limit": st.just(limit),
        "headroom": st.none() | st.dictionaries(PRIORITIES, slots, max_size=3),
        "queue_limit": st.sampled_from([1000, 1, 2, 4, 8]),
        "conversation_limit": st.sampled_from([20, 1, 2, 4]),
        "overflow": st.sampled_from(ccm.Overflow),
        "ageing": st.sampled_from([30.0, 0.25, 0.5, 1.0]),
        "rate_limit": st.sampled_from([None, ccm.RateLimit(2, per=1), ccm.RateLimit(5, per=10)]),
        "retry": st.builds(ccm.RetryPolicy, attempts=st.integers(1, 3), base=ticks(0, 16), cap=st.just(1.0)),
        "max_wait": st.dictionaries(PRIORITIES, ticks(1, 96), max_size=2),
        "timeout": ticks(32, 96),
        "weights": st.just({}) | st.fixed_dictionaries({"t": st.sampled_from([0.5, 2.0, 3.0])}),
        "tenants": st.just({}) | st.dictionaries(st.sampled_from(["t", "u"]), TENANT_POLICIES, min_size=1),
        "shedding": st.sampled_from([None, None, HASTY]),
        "max_sessions": st.sampled_from([1000, 1, 2, 4]),
        "session_timeout": st.sampled_from([1800.0, 0.25]),
        "drain": ticks(0, 96),
        "preempt": st.booleans(),
        "enabled": st.sampled_from([True, True, True, False]),
        "charge": st.sampled_from(["turns", "seconds"]),
    }
    for name, setting in fixed.items():
        choices[name] = setting if isinstance(setting, st.SearchStrategy) else st.just(setting)
    return ccm.Config(debug=True, **{name: draw(strategy) for name, strategy in choices.items()})


@st.composite
def programs(
    draw: st.DrawFn, /, *, messages: st.SearchStrategy[Send] | None = None, most: int = 20, least: int = 1,
    others: st.SearchStrategy[Operation] | None = None, ends: st.SearchStrategy[Operation] | None = None,
    deliver: bool = True, **settings: Any,
) -> Program:  # fmt: skip
    """Messages, other operations between them, at most one operation that ends it all."""
    messages = sends() if messages is None else messages
    operations: list[Operation] = draw(st.lists(messages, min_size=least, max_size=most))
    operations += draw(st.lists(CANCELS | LOOKS if others is None else others, max_size=5))
    if ends is not None:
        operations += draw(st.lists(ends, max_size=1))
    return Program(
        tuple(sorted(operations, key=lambda op: op.at)),
        draw(configs(**settings)),
        seed=draw(st.integers(0, 2**32)),
        deliver=deliver and draw(st.booleans()),
    )
