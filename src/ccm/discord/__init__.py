"""Discord for ccm: a gateway that survives cuts, restarts and bursts, and a client of the REST API.

Needs the extra `discord`: `pip install 'ccm[discord]'`.
"""

from __future__ import annotations

from types import FunctionType as _FunctionType

from ._bridge import Bridge
from ._command_wording import Answer, Tested, friendly_answer
from ._commands import MANAGE_GUILD, Command, Invocation, Option
from ._errors import DiscordError, GatewayClosed, IdentifyRefused, RestError, RestStopped
from ._gateway import Gateway, GatewayStatistics, open_gateway
from ._hearing import HEARD, addressed
from ._models import (
    ChatMessage,
    Event,
    Gap,
    GatewayInfo,
    Interaction,
    Ready,
    Resumed,
    User,
    snowflake_at,
    snowflake_time,
)
from ._moderation import Moderator
from ._rest import Rest, new_nonce, open_rest
from ._settings import DiscordSettings, Intents
from ._split import split
from ._standard_commands import HANDOFF, PERFORMANCE, STANDARD_COMMANDS, STOP, TEST_CONCURRENT
from ._wording import friendly

__all__ = [
    "HANDOFF",
    "HEARD",
    "MANAGE_GUILD",
    "PERFORMANCE",
    "STANDARD_COMMANDS",
    "STOP",
    "TEST_CONCURRENT",
    "Answer",
    "Bridge",
    "ChatMessage",
    "Command",
    "DiscordError",
    "DiscordSettings",
    "Event",
    "Gap",
    "Gateway",
    "GatewayClosed",
    "GatewayInfo",
    "GatewayStatistics",
    "IdentifyRefused",
    "Intents",
    "Interaction",
    "Invocation",
    "Moderator",
    "Option",
    "Ready",
    "Rest",
    "RestError",
    "RestStopped",
    "Resumed",
    "Tested",
    "User",
    "addressed",
    "friendly",
    "friendly_answer",
    "new_nonce",
    "open_gateway",
    "open_rest",
    "snowflake_at",
    "snowflake_time",
    "split",
]

# Users see where a name is to be imported from, not the module it happens to be written in.
for _value in [globals()[_name] for _name in __all__]:
    if isinstance(_value, (type, _FunctionType)):
        _value.__module__ = __name__
del _value
