"""Which shard an event comes through, and which shards begin their sessions together."""

from __future__ import annotations


def shard_of(guild_id: str | int | None, shards: int) -> int:
    """The shard of a guild; private chats (None or an empty id) are on shard 0.

    Raises:
        ValueError: there is no shard, or the id is none.
    """
    if shards < 1:
        raise ValueError(f"shards must be 1 or more, got {shards!r}")
    return (int(guild_id) >> 22) % shards if guild_id else 0


def bucket_of(shard: int, max_concurrency: int) -> int:
    """Shards of one bucket begin their sessions one after the other, 5 s apart."""
    return shard % max_concurrency


def start_order(shard_ids: tuple[int, ...]) -> tuple[int, ...]:
    """The order to begin in: ascending, so that consecutive ones fall into different buckets."""
    return tuple(sorted(shard_ids))
