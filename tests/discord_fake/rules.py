"""What a fake Discord is like (`Rules`), and what it does wrong when a test says so (`Faults`)."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

TOKEN: Final = "MQ.fake.token"
"""Begins with the bot's id in base64, which hikari reads."""


class Bits(enum.IntFlag):
    """Intents, all that exist."""

    GUILDS = 1 << 0
    GUILD_MEMBERS = 1 << 1
    GUILD_MODERATION = 1 << 2
    GUILD_EXPRESSIONS = 1 << 3
    GUILD_INTEGRATIONS = 1 << 4
    GUILD_WEBHOOKS = 1 << 5
    GUILD_INVITES = 1 << 6
    GUILD_VOICE_STATES = 1 << 7
    GUILD_PRESENCES = 1 << 8
    GUILD_MESSAGES = 1 << 9
    GUILD_MESSAGE_REACTIONS = 1 << 10
    GUILD_MESSAGE_TYPING = 1 << 11
    DIRECT_MESSAGES = 1 << 12
    DIRECT_MESSAGE_REACTIONS = 1 << 13
    DIRECT_MESSAGE_TYPING = 1 << 14
    MESSAGE_CONTENT = 1 << 15
    GUILD_SCHEDULED_EVENTS = 1 << 16
    AUTO_MODERATION_CONFIGURATION = 1 << 20
    AUTO_MODERATION_EXECUTION = 1 << 21
    GUILD_MESSAGE_POLLS = 1 << 24
    DIRECT_MESSAGE_POLLS = 1 << 25


PRIVILEGED: Final = Bits.GUILD_MEMBERS | Bits.GUILD_PRESENCES | Bits.MESSAGE_CONTENT
KNOWN: Final = int(Bits(sum(Bits)))

PRIVATE_TWIN: Final = {
    Bits.GUILD_MESSAGES: Bits.DIRECT_MESSAGES,
    Bits.GUILD_MESSAGE_REACTIONS: Bits.DIRECT_MESSAGE_REACTIONS,
    Bits.GUILD_MESSAGE_TYPING: Bits.DIRECT_MESSAGE_TYPING,
}
"""The intent for the same thing in a private chat."""


@dataclass(kw_only=True)
class Rules:
    """Times are seconds.

    Attributes:
        token: the bot's.
        heartbeat_interval: told in HELLO.
        patience: a client is cut when it was silent for 1.5 intervals and this: tests run on slow machines.
        shards: recommended; also the least number of shards IDENTIFY may name, unless it is 1.
        max_concurrency, identify_spacing: sessions that may be begun within the spacing, per bucket.
        session_total: sessions a day; one more, and the token is no good any more.
        session_ttl: how long a session outlives its connection.
        replay: events of a session that are kept.
        privileged: those of the privileged intents that are switched on.
        sends, send_window: payloads a client may send, and within which time.
        global_rate: requests a second.
        invalid_limit: answers 401, 403 and 429 within ten minutes after which Cloudflare takes over.
        nonce_memory: how long a nonce is known.
    """

    token: str = TOKEN
    heartbeat_interval: float = 41.25
    patience: float = 2.0
    shards: int = 1
    max_concurrency: int = 1
    identify_spacing: float = 5.0
    session_total: int = 1000
    session_ttl: float = 180.0
    replay: int = 10_000
    privileged: int = int(PRIVILEGED)
    sends: int = 120
    send_window: float = 60.0
    global_rate: int = 50
    invalid_limit: int = 10_000
    nonce_memory: float = 300.0


@dataclass(kw_only=True)
class Faults:
    """Switches that a test may turn at any time; all are off at first.

    Attributes:
        refuse_resume: every RESUME is answered with op 9 `false`, as by some open-source servers.
        drop_first_replayed: the first event of a replay is left out.
        drop_last_replayed: the last event of a replay is left out and RESUMED has no number, as by others.
        bare: what is no event comes without `s` and `t`, as from others.
        mute: heartbeats are not answered: the client must take the connection for dead.
        stalled: nothing is sent at all; what was held back comes when it is off again.
        hello: "reconnect": op 7 comes in place of HELLO; "late": none comes at all.
        corrupt: so many of the next frames are broken (not JSON; with compression, no stream).
        dead: hosts, `"gateway"` or `"resume"`, that hang up before the handshake.
        silent: hosts that take a connection and never answer.
        held: requests whose method and path contain one of these texts are not answered until it is gone.
        gateway_latency, rest_latency: added to each frame and to each answer.
    """

    refuse_resume: bool = False
    drop_first_replayed: bool = False
    drop_last_replayed: bool = False
    bare: bool = False
    mute: bool = False
    stalled: bool = False
    hello: str = ""
    corrupt: int = 0
    dead: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    gateway_latency: float = 0.0
    rest_latency: float = 0.0
