"""A reply as it stands on Discord, and what has to be done so that it says something else. Without I/O."""

from __future__ import annotations

import hashlib
from typing import Final, final

import attrs

from ._split import split

__all__ = ["Create", "Delete", "Draft", "Edit", "Step", "nonce_of", "sendable"]

MAX_BASE: Final = 19


def nonce_of(message_id: str, part: str) -> str:
    """The nonce of something that is said about a message: the same in each process, at most 25 characters.

    Args:
        message_id: of the message that is answered.
        part: which part of which answer, at most 5 characters.
    """
    base = message_id if len(message_id) <= MAX_BASE else hashlib.sha256(message_id.encode()).hexdigest()
    return f"{base[:MAX_BASE]}.{part}"


@final
@attrs.frozen
class Create:
    """Send a part."""

    part: int
    text: str
    nonce: str
    first: bool


@final
@attrs.frozen
class Edit:
    """Replace the text of a part."""

    part: int
    id: str
    text: str


@final
@attrs.frozen
class Delete:
    """Take back the last part."""

    part: int
    id: str


Step = Create | Edit | Delete


@final
@attrs.define(eq=False)
class Draft:
    """One reply: the messages that it takes, while it is written and when it is complete.

    Args:
        base: the id of the message that is answered; nonces are made of it.
        every: seconds between two steps while it is written, > 0.
        start: before then plus `every`, nothing is shown: a quick reply is sent once.

    Attributes:
        text: what was to be shown last.
    """

    # _ids, _texts  of the parts that are there, in order; an empty id: it was there, and somebody deleted it
    # _again        how often each part was deleted by somebody
    # _next         before then, nothing is shown while it is written
    # _complete     all of `text` is shown

    _base: str
    _every: float = attrs.field(kw_only=True)
    _next: float = attrs.field(kw_only=True, alias="start", converter=float)
    text: str = attrs.field(default="", init=False)
    _ids: list[str] = attrs.field(factory=list, init=False)
    _texts: list[str] = attrs.field(factory=list, init=False)
    _again: dict[int, int] = attrs.field(factory=dict, init=False)
    _complete: bool = attrs.field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._next += self._every

    @property
    def ids(self) -> tuple[str, ...]:
        """The messages that are there. O(parts)."""
        return tuple(filter(None, self._ids))

    def show(self, text: str, now: float) -> Create | Edit | None:
        """What to do next while it is written; None: nothing yet. O(length).

        An attempt that begins anew leaves what is there until it has something to say.
        """
        if now < self._next or not text.strip() or (text == self.text and self._complete):
            return None
        self.text = text
        step = self._towards(text)
        self._complete = step is None
        if step is not None:
            self._next = now + self._every
        return step

    def finish(self, text: str) -> Step | None:
        """What to do next so that it says exactly `text`; None: it does. O(length)."""
        self.text = text
        step = self._towards(text)
        if step is None and len(self._ids) > len(split(sendable(text))):
            return Delete(len(self._ids) - 1, self._ids[-1])
        return step

    def _towards(self, text: str) -> Create | Edit | None:
        for part, wanted in enumerate(split(sendable(text))):
            if part >= len(self._ids) or not self._ids[part]:
                times = self._again.get(part, 0)
                name = f"{part}{'r' * min(times, 2)}"
                return Create(part, wanted, nonce_of(self._base, name), first=part == 0)
            if self._texts[part] != wanted.strip():
                return Edit(part, self._ids[part], wanted)
        return None

    def created(self, step: Create, id: str, text: str) -> None:
        """It was sent. `text` is what Discord has under that nonce, maybe from an earlier process. O(1)."""
        if step.part == len(self._ids):
            self._ids.append("")
            self._texts.append("")
        self._ids[step.part] = id
        self._texts[step.part] = text.strip()

    def edited(self, step: Edit) -> None:
        """It was replaced. O(1)."""
        self._texts[step.part] = step.text.strip()

    def lost(self, step: Edit) -> None:
        """Somebody has deleted the part. O(1)."""
        self._ids[step.part] = ""
        self._again[step.part] = self._again.get(step.part, 0) + 1

    def deleted(self, step: Delete) -> None:
        """The last part is not there any more. O(1)."""
        del self._ids[step.part], self._texts[step.part]

    def _check(self) -> None:
        """Assert every invariant. O(parts)."""
        assert len(self._ids) == len(self._texts)
        assert all(text == text.strip() for text in self._texts)


def sendable(text: str) -> str:
    """A text that can be sent: what is no character (half of a pair) is replaced."""
    return text.encode("utf-8", "replace").decode()
