"""Messages like one that is valid, without checking each of them again: for millions of made-up ones."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, final

import attrs

from ccm._message import Message, Priority


@final
class Stamp:
    """Makes messages that differ from `template` in what `__call__` takes; the values must be valid.

    A message costs a fifth of `Message(...)`. Its id is its text, and counts as generated: the manager does
    not remember it to recognise repetitions, of which made-up messages have none.
    """

    def __init__(self, template: Message) -> None:
        varying = ("conversation", "user", "text", "id", "tenant", "priority", "metadata", "generated_id")
        put = {field.name: getattr(Message, field.name).__set__ for field in attrs.fields(Message)}
        self._others = [(put[name], getattr(template, name)) for name in put if name not in varying]
        self._put = tuple(put[name] for name in varying)

    def __call__(
        self, conversation: str, user: str, text: str, tenant: str, priority: Priority | None,
        metadata: Mapping[str, Any],
    ) -> Message:  # fmt: skip
        """A message; `text` must differ from that of every other one. O(1)."""
        message = Message.__new__(Message)
        to_conversation, to_user, to_text, to_id, to_tenant, to_priority, to_metadata, to_generated = (
            self._put
        )
        to_conversation(message, conversation)
        to_user(message, user)
        to_text(message, text)
        to_id(message, text)
        to_tenant(message, tenant)
        to_priority(message, priority)
        to_metadata(message, MappingProxyType(metadata))
        to_generated(message, True)
        for put, value in self._others:
            put(message, value)
        return message
