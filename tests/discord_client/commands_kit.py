"""A bot with slash commands against a fake Discord, which decides by its own rules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from inspect import iscoroutinefunction
from pathlib import Path
from types import FunctionType
from typing import Any

import trio

import ccm
from ccm.discord import Bridge, Command, Gateway, Intents, friendly_answer
from ccm.storage import Storage
from tests.discord_fake.fake import FakeDiscord, open_fake
from tests.discord_fake.world import Asked

HIDDEN, LOADING = 64, 128
INTENTS = Intents.GUILDS | Intents.GUILD_MESSAGES | Intents.DIRECT_MESSAGES | Intents.MESSAGE_CONTENT


class Bot:
    """A bot with slash commands."""

    def __init__(self, fake: FakeDiscord, gateway: Gateway, manager: ccm.ConversationManager) -> None:
        self.fake = fake
        self.gateway = gateway
        self.manager = manager

    async def until(self, holds: Callable[[], object], seconds: float = 20.0) -> None:
        await self.fake.until(holds, seconds)

    def sent(self, asked: Asked) -> list[Any]:
        """The answer to a command, and what follows it, as they are."""
        found = self.fake.world.messages.get(asked.channel, {}).values()
        mine = [each for each in found if int(each["id"]) >= int(asked.original or 1 << 63)]
        return [each for each in mine if each.get("application_id")]

    async def answer(self, asked: Asked) -> str:
        """What a command says in the end."""
        await self.until(lambda: self.sent(asked) and not self.sent(asked)[0]["flags"] & LOADING)
        return str(self.sent(asked)[0]["content"])

    async def use(self, command: str, /, **options: Any) -> str:
        return await self.answer(self.fake.world.ask(command, options))


@asynccontextmanager
async def bot(
    commands: Sequence[Command], handler: Any = None, *, sockets: bool = False,
    fake: FakeDiscord | None = None, storage: Path | Storage | None = None,
    command_wording: Any = friendly_answer, **settings: Any,
) -> AsyncIterator[Bot]:  # fmt: skip
    """A bot against a fake Discord, of its own if none is given; a plain function as `handler` makes one."""

    async def echo(turn: ccm.Turn) -> str:
        return f"re {turn.text}"

    if fake is None:
        async with (
            open_fake(memory=not sockets) as own,
            bot(
                commands, handler, fake=own, storage=storage, command_wording=command_wording, **settings
            ) as made,
        ):
            yield made
        return
    async with fake.open_gateway(acknowledge=True, intents=INTENTS, **settings) as gateway:
        bridge = Bridge(gateway, commands=commands, command_wording=command_wording)
        made = (
            handler(gateway)
            if isinstance(handler, FunctionType) and not iscoroutinefunction(handler)
            else handler
        )
        opened = ccm.open_manager(made or echo, storage=storage, deliver=bridge.deliver)
        async with opened as manager, trio.open_nursery() as nursery:
            nursery.start_soon(bridge.run, manager)
            await fake.until(lambda: any(link.session for link in fake.links))
            yield Bot(fake, gateway, manager)
            nursery.cancel_scope.cancel()
