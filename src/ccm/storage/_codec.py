"""Messages and outcomes as JSON text, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .._errors import Expired, Outcome, Reason, Rejected, Shed, Superseded
from .._message import Message, Priority, Reply
from .._outcome import Cancelled, Failed, Merged, Replied

_NONE = (None, None, None, None)
quoted = json.encoder.encode_basestring_ascii
_KEYS = ("conversation", "user", "id", "tenant", "channel")


class LostError(Exception):
    """Stands for a handler's error that only its text is left of."""


def encode_message(message: Message, shift: float) -> str:
    """A message as JSON text; `shift` is what turns Trio's time into seconds since 1970. O(length).

    Raises:
        ValueError, TypeError: it cannot be stored; the text names field, value and remedy.
    """
    # What nearly every message has, at a third of the cost of the rest.
    keys = (
        f'{{"conversation": {quoted(message.conversation)}, "user": {quoted(message.user)},'
        f' "id": {quoted(message.id)}'
    )
    if message.channel:
        keys += f', "channel": {quoted(message.channel)}'
    if message.tenant:
        keys += f', "tenant": {quoted(message.tenant)}'
    if "\\u" in keys:  # as what is not ASCII is written, and NUL
        for name in _KEYS:
            _check_key(name, getattr(message, name))
    rare = (message.priority, message.sent_at, message.deadline, message.on_busy)
    if rare != _NONE or message.metadata:
        return _encode_all(message, shift)
    if message.generated_id:
        keys += ', "generated": true'
    return f'{keys}, "text": {quoted(message.text)}}}'


def _encode_all(message: Message, shift: float) -> str:
    fields: dict[str, Any] = {
        "conversation": message.conversation, "user": message.user, "text": message.text, "id": message.id
    }  # fmt: skip
    if message.tenant:
        fields["tenant"] = message.tenant
    if message.channel:
        fields["channel"] = message.channel
    if message.priority is not None:
        fields["priority"] = int(message.priority)
    if message.sent_at is not None:
        fields["sent_at"] = message.sent_at.isoformat()
    if message.deadline is not None:
        fields["deadline"] = message.deadline + shift
    if message.on_busy is not None:
        fields["on_busy"] = str(message.on_busy)
    if message.generated_id:
        fields["generated"] = True
    if message.metadata:
        fields["metadata"] = dict(message.metadata)
    try:
        return json.dumps(fields)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"metadata must be made of JSON's types to be stored, got {dict(message.metadata)!r} ({error}); "
            "convert what is in it"
        ) from None


def encode_edited(message: Message, shift: float, first: str) -> str:
    """A message that has a new text as JSON text, with the digest of what it said at first. O(length)."""
    return json.dumps(json.loads(encode_message(message, shift)) | {"digest": first})


def edited(body: str) -> str | None:
    """The digest that `encode_edited` has written; None: the message has not been edited. O(length)."""
    found = json.loads(body).get("digest") if '"digest"' in body else None
    return found if isinstance(found, str) else None


def decode_message(body: str, shift: float) -> Message:
    """The message that `encode_message` or `encode_edited` has written. O(length)."""
    fields = json.loads(body)
    generated = fields.pop("generated", False)
    fields.pop("digest", None)
    if "priority" in fields:
        fields["priority"] = Priority(fields["priority"])
    if "sent_at" in fields:
        fields["sent_at"] = datetime.fromisoformat(fields["sent_at"])
    if "deadline" in fields:
        fields["deadline"] -= shift
    message = Message(fields.pop("conversation"), fields.pop("user"), fields.pop("text"), **fields)
    if generated:
        object.__setattr__(message, "generated_id", True)
    return message


def _check_key(name: str, value: str) -> None:
    if value.isascii() and "\0" not in value:
        return
    if "\0" in value:
        raise ValueError(f"{name} must not contain NUL to be stored, got {value!r}; use another key")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{name} must be valid Unicode to be stored, got {value!r} with half a character; "
            "use .encode(errors='replace').decode()"
        ) from None


def clean(text: str) -> str:
    """What a database can hold of `text`: NUL and halves of characters become U+FFFD. O(length)."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def encode_metadata(metadata: Mapping[str, Any]) -> str:
    """A reply's metadata as JSON text. O(length)."""
    return json.dumps(dict(metadata), default=repr) if metadata else "{}"


def encode_outcome(outcome: Outcome) -> str:
    """An outcome as JSON text, without its name. O(length)."""
    fields: dict[str, Any] = {}
    if isinstance(outcome, (Replied, Merged)):
        reply = outcome.reply
        fields = {"text": reply.text, "turn_id": reply.turn_id}
        if reply.metadata:
            fields["metadata"] = dict(reply.metadata)
        if isinstance(outcome, Merged):
            fields["into"] = outcome.into
        elif outcome.dead_letter is not None:
            fields["dead_letter"] = outcome.dead_letter
    elif isinstance(outcome, (Shed, Rejected)):
        fields = {"reason": str(outcome.reason), "retry_after": outcome.retry_after}
    elif isinstance(outcome, (Superseded, Cancelled)):
        fields = {"by": outcome.by}
    elif isinstance(outcome, Failed):
        fields = {"dead_letter": outcome.dead_letter, "error": repr(outcome.exception)}
    return json.dumps(fields, default=repr)


def decode_outcome(name: str, detail: str) -> Outcome:
    """The outcome that `encode_outcome` has written; an error is only left as text. O(length)."""
    fields = json.loads(detail)
    if name in ("replied", "merged"):
        text = fields.get("text", "")
        reply = Reply(text, metadata=fields.get("metadata", {}), turn_id=fields.get("turn_id", 0))
        if name == "merged":
            return Merged(fields["into"], reply)
        return Replied(reply, fields.get("dead_letter"))
    if name == "shed":
        return Shed(Reason(fields["reason"]), fields["retry_after"])
    if name == "superseded":
        return Superseded(fields["by"])
    if name == "expired":
        return Expired()
    if name == "failed":
        return Failed(fields["dead_letter"], LostError(fields["error"]))
    return Cancelled(fields.get("by", "caller"))
