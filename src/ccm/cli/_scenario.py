"""Ten people talk to a bot at once: who says what and when, who answers, and what must hold.

Everything is drawn from a seed, and the only clock is Trio's: the same program runs in the terminal in
real time and in a test on virtual time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeVar

import attrs

import ccm
from ccm.testing import Arrival, FakeModel, lognormal, uniform

from ._report import Report, build_report
from ._run import Show, run
from ._witness import Witness

T = TypeVar("T")

TARGETS = {ccm.CRITICAL: 0.1, ccm.HIGH: 0.5, ccm.NORMAL: 1.0}
"""What the response (arrival to end) of 99 in 100 turns of a class must stay below, in seconds."""

PEOPLE = ("ada", "ben", "chloe", "dev", "eve", "finn", "grace", "hugo", "iris", "jo")
TENANTS = {"rustlers": ("general", "help"), "makers": ("lounge",), "readers": ("club", "support")}

SAYINGS: dict[str, tuple[float, tuple[str, ...]]] = {
    "bad language or link": (0.12, (
        "oh shit, wrong channel", "you cheating bastards", "free nitro: https://example.com/gift",
        "come to discord.gg/abc123 instead", "what an asshole move", "look: https://example.com/cat",
    )),
    "mention": (0.10, ("@bot good morning", "@bot tell me a joke", "thanks @bot", "@bot roll a die")),
    "question": (0.16, (
        "when does the event start?", "who wrote this book?", "is anybody awake?", "what is for dinner?",
    )),
    "help": (0.12, (
        "please help, I am locked out", "there is an error in chapter two", "urgent: the printer burns",
        "I have a problem with my order",
    )),
    "small talk": (0.50, (
        "good morning all", "that was a great match", "I baked bread today", "the weather is lovely",
        "back in five", "my cat sits on the keyboard", "so tired", "nice one", "see you tomorrow",
    )),
}  # fmt: skip
"""Kinds of sayings with their shares."""

MIN_GAP, MEAN_GAP = 0.25, 0.55
"""Seconds between two messages of one person: at least, and on average. Eager people."""
RUSH_EVERY = 5.0
"""Every so many seconds everybody speaks at once."""


@attrs.frozen(kw_only=True)
class Scenario:
    """How many people and messages, and how eager: `speed` 2 means twice as many messages a second.

    `storage` is the file that keeps the messages, None is memory; `run` begins their ids.
    """

    users: int = 10
    messages: int = 180
    seed: int = 1
    speed: float = 1.0
    storage: str | None = None
    run: str = ""

    @property
    def config(self) -> ccm.Config:
        """Fewer slots than people, of which one is kept for CRITICAL and one for HIGH."""
        limit = max(3, self.users * 4 // 5)
        return ccm.Config(
            limit=limit, headroom={ccm.CRITICAL: 1, ccm.HIGH: 1}, rate_limit=None,
            max_sessions=max(1000, self.users), drain=1.0,
        )  # fmt: skip

    def arrivals(self) -> list[Arrival]:
        """Who says what, and when. Ids are `<seed>-<person>-<n>`."""
        people = [self._person(number) for number in range(self.users)]
        # Whatever is said after the last message wanted is cut off, so all people need to be heard that far.
        each = [list(islice(person, self._enough())) for person in people]
        return sorted((a for said in each for a in said), key=lambda a: (a.at, a.message.id))[: self.messages]

    def _enough(self) -> int:
        return min(self.messages, 3 * self.messages // self.users + 30)

    def _person(self, number: int) -> Iterator[Arrival]:
        draw = random.Random(f"{self.seed}/{number}")
        tenant = tuple(TENANTS)[number % len(TENANTS)]
        channel = f"{tenant}/{draw.choice(TENANTS[tenant])}"
        name = PEOPLE[number % len(PEOPLE)] + (
            str(number // len(PEOPLE) + 1) if number >= len(PEOPLE) else ""
        )
        kinds, shares = list(SAYINGS), [share for share, _ in SAYINGS.values()]
        at, rush, said = draw.uniform(0, MEAN_GAP), RUSH_EVERY / 2, 0
        while True:
            kind = draw.choices(kinds, shares)[0]
            yield Arrival(
                at / self.speed,
                ccm.Message(
                    f"{channel}/{name}", name, draw.choice(SAYINGS[kind][1]),
                    id=f"{self.run}{self.seed}-{number}-{said}", tenant=tenant, channel=channel,
                    metadata={"kind": kind},
                ),
            )  # fmt: skip
            said += 1
            following = at + MIN_GAP + draw.expovariate(1 / (MEAN_GAP - MIN_GAP))
            if at < rush <= following:
                following = max(at + MIN_GAP, rush)
                rush += RUSH_EVERY
            at = following


def bot(witness: Witness, seed: int) -> ccm.Router:
    """Moderation, chat and analytics, as a real bot would set them up; the answers are made up."""
    router = ccm.Router()
    violation = ccm.matches(r"https?://|discord\.gg/|\b(?:shit\w*|bastards?|asshole\w*)\b")

    def polite(message: ccm.Message) -> bool:
        return not violation(message)

    def add(name: str, model: FakeModel, *, ordered: bool, **settings: object) -> None:
        router.route(name, ordered=ordered, **settings)(witness.watch(model, ordered=ordered))  # type: ignore[arg-type]

    # A message that moderation takes is not chatted about: then the side route's turn decides its outcome.
    add(
        "moderation", FakeModel(latency=uniform(0.005, 0.020), seed=seed, reply="mind the rules: {}".format),
        when=violation, priority=ccm.CRITICAL, ordered=False, answers=False, rate_limited=False,
    )  # fmt: skip
    add(
        "chat", FakeModel(latency=_between(0.1, 0.4, lognormal(0.15, 0.35)), seed=seed),
        when=polite, priority=ccm.by_content(), ordered=True,
    )  # fmt: skip
    add(
        "analytics", FakeModel(latency=uniform(0.05, 0.1), seed=seed),
        priority=ccm.LOW, ordered=False, answers=False,
    )  # fmt: skip
    return router


def _between(
    low: float, high: float, latency: Callable[[random.Random], float]
) -> Callable[[random.Random], float]:
    return lambda draw: min(high, max(low, latency(draw)))


async def play(scenario: Scenario, show: Show | None = None) -> Report:
    """Run the scenario and judge it."""
    config = scenario.config
    witness = Witness(limit=config.limit)
    finished = await run(
        bot(witness, scenario.seed), config, scenario.arrivals(), witness, show=show, storage=scenario.storage
    )
    return build_report(
        "demo", witness, finished, targets=TARGETS, answer_all=True, settings=attrs.asdict(scenario),
        notes=(
            "targets are for the response, arrival to end, of 99 in 100 turns; LOW (analytics) has none",
            f"the sender was late by at most {finished.late * 1e3:.1f} ms: what this machine adds",
        ),
    )  # fmt: skip
