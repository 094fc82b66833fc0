"""Generated programs of turns that meet turns: every busy policy, streams, edits, retracts and stops.

As in `programs`, a program is a tuple of frozen operations with absolute times in multiples of 1/64 s;
`turn_interpreter.run` runs it.
"""

from __future__ import annotations

import enum
from typing import Any

import attrs
from hypothesis import strategies as st

import ccm

from .programs import Cancel, Collapse, Drain, Leave, Look, configs, ticks


class Act(enum.Enum):
    """What the handler of a turn does, judged by the turn's own message."""

    REPLY = "replies"
    SPEAK = "sends the reply in pieces"
    ADD = "sends a piece and returns it with more"
    CHANGE = "sends a piece and returns something else"
    FAIL_ONCE = "sends a piece, raises in the first attempt, sends the reply in the second"
    FAIL = "sends a piece and raises, each time"
    PERMANENT = "sends a piece and raises Permanent"
    READ = "reads what it is handed for a while, and sends a piece for each"
    SHIELD = "does the first half uninterruptibly"
    RECALL = "looks at the history before and after"
    HANG = "sends a piece and never ends by itself"
    CLEANUP = "never ends by itself; its cleanup takes its time"
    IGNORE = "when cancelled, goes on as long again and replies"


class How(enum.Enum):
    """Which method a message is handed in by."""

    ASK = "ask"
    SUBMIT = "submit"
    STREAM = "stream"
    PEEK = "stream, left after the first piece"


@attrs.frozen
class Send:
    """At `at`, a new task hands in a message and waits for its outcome."""

    at: float
    conversation: str = "a"
    policy: ccm.OnBusy | None = None
    act: Act = Act.REPLY
    takes: float = 1.0
    how: How = How.ASK
    priority: ccm.Priority = ccm.NORMAL
    named: bool = True  # has an id of its own choice
    patience: float | None = None
    pause: float = 0.0  # how long a reader takes for each piece


@attrs.frozen
class Edit:
    """At `at`, the `call`-th message (modulo their number) is given another text."""

    at: float
    call: int


@attrs.frozen
class Retract:
    """At `at`, the `call`-th message (modulo their number) is taken back."""

    at: float
    call: int


@attrs.frozen
class Stop:
    """At `at`, all turns of a conversation are ended."""

    at: float
    conversation: str = "a"


Operation = Send | Edit | Retract | Stop | Cancel | Look | Drain | Leave | Collapse


@attrs.frozen
class TurnProgram:
    """Operations, the settings they meet, the seed of the schedule, and what the manager has."""

    operations: tuple[Operation, ...]
    config: ccm.Config
    seed: int = 0
    deliver: bool = False
    fallback: bool = False
    sides: bool = False

    @property
    def sends(self) -> list[Send]:
        return [op for op in self.operations if isinstance(op, Send)]

    @property
    def ends(self) -> bool:
        """Whether it ends before all is silent."""
        return any(isinstance(op, Drain | Leave | Collapse) for op in self.operations)

    def __repr__(self) -> str:
        plain = ccm.Config(debug=True)
        changes = {
            name: getattr(self.config, name)
            for name in ccm.Config.describe()
            if getattr(self.config, name) != getattr(plain, name)
        }
        operations = "".join(f"\n    {op!r}," for op in self.operations)
        has = f"deliver={self.deliver}, fallback={self.fallback}, sides={self.sides}"
        return f"TurnProgram([{operations}\n], {changes}, seed={self.seed}, {has})"


# -- drawing programs ----------------------------------------------------------------------------


POLICIES = st.none() | st.sampled_from(ccm.OnBusy)


def sends(**fixed: Any) -> st.SearchStrategy[Send]:
    """One message; `fixed` are the strategies that shall differ."""
    choices: dict[str, st.SearchStrategy[Any]] = {
        "at": ticks(0, 64),
        "conversation": st.sampled_from("aaab"),
        "policy": st.none() | POLICIES,
        "act": st.sampled_from(Act),
        "takes": ticks(0, 48),
        "how": st.sampled_from(How),
        "priority": st.sampled_from(ccm.Priority),
        "named": st.booleans(),
        "patience": st.sampled_from([None] * 7 + [0.5]),
        "pause": st.just(0.0) | ticks(0, 16),
    }
    return st.builds(Send, **choices | fixed)


STOPS = st.builds(Stop, ticks(8, 96), st.sampled_from("aab"))
LOOKS = st.builds(Look, ticks(0, 160))
CHANGES = st.tuples(st.sampled_from([Edit, Edit, Retract, Cancel]), st.integers(0, 11), ticks(0, 64))
ENDS = st.builds(Drain, ticks(0, 192)) | st.builds(Leave, ticks(0, 192)) | st.builds(Collapse, ticks(0, 192))
SETTINGS: dict[str, Any] = {
    "enabled": True,
    "rate_limit": None,
    "session_timeout": 1800.0,
    "on_busy": st.sampled_from(ccm.OnBusy),
    "settle": st.just(0.0) | ticks(0, 16),
    "max_settle": ticks(0, 32),
    "max_wait": st.sampled_from([{}, {}, {}, {ccm.NORMAL: 0.5}]),
    "max_sessions": st.sampled_from([1000, 1000, 1000, 1]),
    "queue_limit": st.sampled_from([1000, 1000, 1, 2]),
    "conversation_limit": st.sampled_from([20, 20, 20, 1, 2, 4]),
    "limit": st.sampled_from([1, 2, 3]),
}


@st.composite
def turn_programs(
    draw: st.DrawFn, /, *, messages: st.SearchStrategy[Send] | None = None, most: int = 12,
    ends: st.SearchStrategy[Operation] | None = None, **settings: Any,
) -> TurnProgram:  # fmt: skip
    """Messages, changes between them, at most one operation that ends it all."""
    messages = sends() if messages is None else messages
    drawn = draw(st.lists(messages, min_size=1, max_size=most))
    operations: list[Operation] = sorted(drawn, key=lambda send: send.at)
    sent = len(operations)
    kind: Any
    for kind, call, later in draw(st.lists(CHANGES, max_size=6)):
        # Soon after its message, else there would be nothing left to be changed.
        operations.append(kind(operations[call % sent].at + later, call % sent))
    operations += draw(st.lists(STOPS | LOOKS, max_size=2))
    if ends is not None:
        operations += draw(st.lists(ends, max_size=1))
    return TurnProgram(
        tuple(sorted(operations, key=lambda op: op.at)),
        draw(configs(**SETTINGS | settings)),
        seed=draw(st.integers(0, 2**32)),
        deliver=draw(st.booleans()),
        fallback=draw(st.booleans()),
        sides=draw(st.booleans()),
    )
