"""What commands have to say, and how it is put into words. Without I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, final

import attrs

from ccm._message import Priority
from ccm._statistics import Statistics

from ._models import Interaction
from ._wording import WENT_WRONG

__all__ = ["TEXTS", "Answer", "Tested", "friendly_answer", "seconds"]

WORDS: Final[Mapping[type, str]] = {
    str: "a text", int: "a whole number", bool: "true or false", float: "a number",
}  # fmt: skip


@final
@attrs.frozen
class Answer:
    """What a command has to say, before it is put into words.

    Attributes:
        kind: which answer it is, such as `"full"`; the page about Discord lists them.
        values: what belongs into it, by name.
    """

    kind: str
    values: Mapping[str, Any] = attrs.field(factory=dict)


@final
@attrs.frozen
class Tested:
    """What a load test found for one class; times are seconds, `target` is None where nothing is judged."""

    priority: Priority
    sent: int
    answered: int
    longest: float
    target: float | None
    ok: bool


def friendly_answer(answer: Answer, interaction: Interaction) -> str:
    """What a person is told by a command, in English.

    To say it in another language, hand a function of your own to `Bridge(command_wording=...)`;
    `interaction.raw.get("locale")` is the language of who asked. Leave what you do not translate to this one.

    Raises:
        KeyError: there is no such kind of answer, or a value of it is missing.
    """
    text = TEXTS[answer.kind]
    return text.format_map(answer.values) if isinstance(text, str) else text(answer.values)


def seconds(value: float) -> str:
    """A time, short."""
    return f"{value * 1e3:.0f} ms" if value < 1 else f"{value:.1f} s"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as people see them on Discord: the first one to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    return f"```text\n{text}\n```"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items() if count)


def _wrong(values: Mapping[str, Any]) -> str:
    low, high, kind = values["low"], values["high"], values["kind"]
    bounds = ("" if low is None else f" from {low:g}") + ("" if high is None else f" up to {high:g}")
    unit = " characters" if kind is str and bounds else ""
    return f"{values['option']} must be {WORDS[kind]}{bounds}{unit}, got {values['given']!r:.100}."


def _performance(values: Mapping[str, Any]) -> str:
    now: Statistics = values["statistics"]
    rows = [
        (
            priority.name, str(queue.waiting), seconds(queue.oldest),
            *(seconds(value) for found in (now.wait[priority], now.service[priority])
              for value in (found.p50, found.p99)),
        )
        for priority, queue in now.queues.items()
    ]  # fmt: skip
    head = ("class", "waiting", "oldest", "wait p50", "p99", "answer p50", "p99")
    return "\n".join((
        f"{now.slots_in_use} of {now.limit} slots in use (at most {now.peak_running} so far), "
        f"{now.waiting} waiting, {now.sessions.active} conversations busy, "
        f"{now.arrivals.last_60s:.1f} messages a second in the last minute.",
        _table(head, rows),
        f"{now.received} messages: {_listed(dict(now.outcomes)) or 'none has ended'}. "
        f"{now.dead_letters} dead letters, {now.stuck} stuck.",
    ))  # fmt: skip


def _stopped(values: Mapping[str, Any]) -> str:
    stuck = f" {values['stuck']} of them refuse to end." if values["stuck"] else ""
    return f"Stopped: {values['running']} running, {values['waiting']} waiting.{stuck}"


def _load_test(values: Mapping[str, Any]) -> str:
    tested: Sequence[Tested] = values["tested"]
    rows = [
        (
            each.priority.name, f"{each.answered}/{each.sent}", seconds(each.longest),
            "-" if each.target is None else seconds(each.target),
            "-" if not each.sent else "ok" if each.ok else "MISSED",
        )
        for each in tested
    ]  # fmt: skip
    others = Counter[str](values["others"])
    why = f" Not answered: {_listed(dict(sorted(others.items())))}." if others else ""
    told = "all is well" if all(each.ok for each in tested) else "some targets were missed"
    head = ("class", "answered", "longest wait", "target", "verdict")
    sent = sum(each.sent for each in tested)
    return f"{sent} messages at once, done in {seconds(values['took'])}: {told}.{why}\n{_table(head, rows)}"


TEXTS: Final[Mapping[str, str | Callable[[Mapping[str, Any]], str]]] = {
    "done": "Done.",
    "failed": WENT_WRONG,
    "late": "That took too long; I have given up.",
    "unknown": "I do not know this command any more.",
    "elsewhere": "This command is for servers only.",
    "full": "So many commands are being carried out that I cannot take more. Please try again later.",
    "missing": "{option} is missing.",
    "wrong": _wrong,
    "performance": _performance,
    "nothing_to_stop": "There was nothing to stop here.",
    "stopped": _stopped,
    "no_storage": "Nobody can take over: I keep no conversations, because I was started without a storage.",
    "not_taken_over": "Nobody has taken over here.",
    "given_back": "I answer here again.",
    "taken_already": "{agent} has taken over here already; `/handoff back:True` ends it.",
    "taken_already_by_somebody": "Somebody has taken over here already; `/handoff back:True` ends it.",
    "taken_over": (
        "You have taken over: I note down what is said and do not answer. `/handoff back:True` ends it."
    ),
    "not_noted": "That could not be noted down: {error}",
    "load_test_running": "A load test is running already.",
    "load_test": _load_test,
}
"""English, by kind of answer: a text with names in braces, or a function of the values."""
