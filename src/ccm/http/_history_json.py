"""Conversations, lines and figures as JSON."""

from __future__ import annotations

import json
from typing import Any

from ..storage import Conversation, Entry, Hit
from ._models import iso


def qualified(conversation: Conversation) -> bool | None:
    """Whether all criteria that were looked at are met; None: none was. O(criteria)."""
    criteria = json.loads(conversation.criteria)
    return all(one["met"] for one in criteria.values()) if criteria else None


def conversation_json(conversation: Conversation) -> dict[str, Any]:
    """A conversation."""
    return {
        "id": conversation.key, "tenant": conversation.tenant, "channel": conversation.channel,
        "stage": conversation.stage, "status": conversation.status, "created": iso(conversation.created),
        "updated": iso(conversation.updated), "messages": conversation.messages,
        "replies": conversation.replies, "failures": conversation.failures, "paused": conversation.paused,
        "agent": conversation.agent, "is_qualified": qualified(conversation), "score": conversation.score,
        "criteria": json.loads(conversation.criteria), "summary": conversation.summary,
        "metadata": json.loads(conversation.metadata),
    }  # fmt: skip


def entry_json(entry: Entry) -> dict[str, Any]:
    """A line."""
    return {
        "id": entry.id, "turn": entry.turn_id, "role": entry.role, "user": entry.user, "text": entry.text,
        "at": iso(entry.at), "message_id": entry.message_id, "partial": entry.partial,
        "handled": entry.handled, "kind": entry.kind, "data": json.loads(entry.data),
    }  # fmt: skip


def hit_json(hit: Hit) -> dict[str, Any]:
    """What a search has found."""
    entry = hit.entry
    return {
        "conversation": entry.conversation, "turn": entry.turn_id, "user": entry.user, "role": entry.role,
        "at": iso(entry.at), "text": entry.text, "snippet": hit.snippet, "rank": hit.rank,
    }  # fmt: skip
