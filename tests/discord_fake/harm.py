"""What can go wrong with the gateway, by name, and how it is over again."""

from __future__ import annotations

from typing import Any, Final

from .chaos import Chaos
from .fake import FakeDiscord

__all__ = ["CONNECTION_FAULTS", "GATEWAY_FAULTS", "harm", "harm_connections", "heal"]

CONNECTION_FAULTS: Final = ("reset", "finish", "swallow", "slow", "whole", "slice", "dead", "alive")
"""Those that any connection has; all others are the gateway's own."""
GATEWAY_FAULTS: Final = (
    *CONNECTION_FAULTS, "7", "9 true", "9 false", "mute", "unmute", "op 1", "dead resume", "refuse",
    "short replay", "holed replay", "late hello", "hello 7", "corrupt", "stall", "go on",
    *(f"close {code}" for code in (1000, 4000, 4003, 4007, 4008, 4009)),
)  # fmt: skip


async def harm(fake: FakeDiscord, chaos: Chaos, fault: str) -> None:
    """Let it happen; what is no fault by name does nothing."""
    word, _, rest = fault.partition(" ")
    if word == "close":
        fake.close(int(rest))
    elif word == "9":
        fake.invalidate(rest == "true")
    elif fault == "7":
        fake.reconnect()
    elif fault == "op 1":
        fake.ask_for_heartbeats()
    elif fault in CONNECTION_FAULTS:
        await harm_connections(chaos, fault)
        if fault == "alive":
            fake.faults.dead, fake.faults.hello = set(), ""
    else:
        switches: dict[str, dict[str, Any]] = {
            "mute": {"mute": True}, "unmute": {"mute": False}, "refuse": {"refuse_resume": True},
            "short replay": {"drop_last_replayed": True}, "holed replay": {"drop_first_replayed": True},
            "late hello": {"hello": "late"}, "hello 7": {"hello": "reconnect"}, "corrupt": {"corrupt": 1},
            "stall": {"stalled": True}, "go on": {"stalled": False}, "dead resume": {"dead": {"resume"}},
        }  # fmt: skip
        for name, value in switches.get(fault, {}).items():
            setattr(fake.faults, name, value)


async def harm_connections(chaos: Chaos, fault: str) -> None:
    """One of `CONNECTION_FAULTS`."""
    if fault == "finish":
        await chaos.finish()
    elif fault in ("reset", "swallow"):
        getattr(chaos, fault)()
    changes: dict[str, dict[str, Any]] = {
        "slow": {"delay": 1 / 64}, "whole": {"delay": 0.0, "slice": 0}, "slice": {"slice": 3},
        "dead": {"dead": True}, "alive": {"dead": False},
    }  # fmt: skip
    for name, value in changes.get(fault, {}).items():
        setattr(chaos, name, value)


def heal(fake: FakeDiscord, *proxies: Chaos) -> None:
    """Nothing more goes wrong from now on; what is broken stays so."""
    faults = fake.faults
    faults.mute = faults.stalled = faults.refuse_resume = False
    faults.drop_first_replayed = faults.drop_last_replayed = False
    faults.hello, faults.corrupt = "", 0
    faults.dead.clear()
    fake.api.calm()
    for chaos in proxies:
        chaos.slice, chaos.delay, chaos.dead = 0, 0.0, False
