"""What a message says, in a few bytes."""

from __future__ import annotations

import hashlib
import json

from ._message import CARRIED, Message


def digest(message: Message) -> str:
    """A digest of what a message says, but for where: to tell a repetition from another one. O(length).

    Of user, text, channel, class and metadata. The context of a trace is not said by anybody: a repetition
    has another one.
    """
    metadata = {name: value for name, value in message.metadata.items() if name not in CARRIED}
    said = [message.user, message.text, message.channel, message.priority]
    if metadata:  # there and back: then all keys are texts, which can be sorted
        said.append(json.loads(json.dumps(metadata, default=repr, skipkeys=True)))
    text = json.dumps(said, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
