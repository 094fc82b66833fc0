"""Slash commands at work: Discord is told of them, and each that is used is answered by its function."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, final

import trio

from ccm._manager import ConversationManager

from ._command_wording import Answer, friendly_answer
from ._commands import Command, Invocation, WrongArgument, arguments_of, definitions, same, table
from ._draft import sendable
from ._errors import RestError
from ._models import Interaction, snowflake_time
from ._replies import Aside
from ._rest import Rest
from ._split import split

__all__ = ["Commands"]

AT_ONCE: Final = 50
TURNED_AWAY: Final = 500
"""Refusals that may be on their way; those beyond, of a flood, go without."""
KEPT: Final = 1_000
"""Interactions that are known when they come again."""
AGAIN: Final = 60.0
"""Seconds between two attempts to tell Discord of the commands."""
ACKNOWLEDGED: Final = 40_060
log = logging.getLogger("ccm.discord")


@final
class Commands:
    """The slash commands of one bot.

    Args:
        commands: what there is; without any, Discord is told nothing, and what is used is left to others.
        rest: for requests.
        wording: puts answers into words.
    """

    # _seen  ids of interactions that were taken up, the oldest first, at most KEPT

    def __init__(
        self, commands: Sequence[Command], rest: Rest,
        wording: Callable[[Answer, Interaction], str] = friendly_answer,
    ) -> None:  # fmt: skip
        self._table = table(commands)
        self._wording = wording
        self._rest = rest
        self._tasks = Aside(AT_ONCE)
        self._refusals = Aside(TURNED_AWAY)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._since = time.time()

    def use(self, nursery: trio.Nursery | None) -> None:
        """From now on commands are carried out here."""
        self._tasks.use(nursery)
        self._refusals.use(nursery)

    async def register(self) -> None:
        """Tell Discord of the commands, if it does not know them as they are; again after a failure."""
        await trio.lowlevel.checkpoint()
        while self._table:
            try:
                application, told = await self._rest.application(), definitions(self._table)
                if not same(told, await self._rest.commands(application)):
                    await self._rest.set_commands(application, told)
                return
            except RestError as error:
                if 400 <= error.status < 500:
                    log.error("the commands cannot be registered: %s", error)
                    return
                log.warning("the commands are not registered yet: %s", error)
                await trio.sleep(AGAIN)

    def take(self, interaction: Interaction, manager: ConversationManager) -> None:
        """Carry out a command, each once, in a task of its own. O(1)."""
        if not self._table or interaction.id in self._seen:
            return
        self._seen[interaction.id] = None
        if len(self._seen) > KEPT:
            self._seen.popitem(last=False)
        if not self._tasks.start(self._serve, interaction, manager):
            self._refusals.start(self._say, interaction, Answer("full"))

    async def _say(self, interaction: Interaction, answer: Answer) -> None:
        text = self._wording(answer, interaction)
        # Whoever words it may say too much, or nothing: Discord takes neither.
        first, *_ = split(sendable(text)) or split(friendly_answer(answer, interaction))
        await self._rest.respond(interaction.id, interaction.token, first, hidden=True)

    async def _serve(self, interaction: Interaction, manager: ConversationManager) -> None:
        command = self._table.get(interaction.name)
        if command is None:
            await self._say(interaction, Answer("unknown"))
            return
        if command.permissions is not None and not interaction.guild_id:
            await self._say(interaction, Answer("elsewhere"))
            return
        try:
            arguments = arguments_of(command, interaction.options)
        except WrongArgument as error:
            await self._say(interaction, error.answer)
            return
        await self._announce(interaction, command.hidden)
        text = await self._call(command, Invocation(interaction, manager, arguments, self._wording))
        first, *more = split(sendable(text)) or split(friendly_answer(Answer("done"), interaction))
        application, token = interaction.application_id, interaction.token
        await self._rest.edit_response(application, token, first)
        for part in more:
            await self._rest.follow_up(application, token, part, hidden=command.hidden)

    async def _announce(self, interaction: Interaction, hidden: bool) -> None:
        """Say that an answer will come.

        Raises:
            RestError: it is too late, or somebody else answers; the command must not be carried out.
        """
        await trio.lowlevel.checkpoint()
        try:
            await self._rest.respond(interaction.id, interaction.token, hidden=hidden)
        except RestError as error:
            # It has come through an attempt of this process whose answer was lost. Neither sign is enough:
            # this machine's clock may be slow, and an earlier process may have announced it.
            ours = error.repeated and snowflake_time(interaction.id) >= self._since
            if error.code != ACKNOWLEDGED or not ours:
                raise

    @staticmethod
    async def _call(command: Command, invocation: Invocation) -> str:
        """What a command's function says. Whatever it raises ends here: the bot outlives it."""
        await trio.lowlevel.checkpoint()
        with trio.move_on_after(command.timeout):  # noqa: ASYNC912  # the function may be quick
            try:
                text = await command.function(invocation)
                if text is not None and not isinstance(text, str):
                    raise TypeError(f"a command must return a text or None, got {text!r:.100}")
                return text or invocation.say("done")
            except Exception:
                log.exception("/%s failed", command.name)
                return invocation.say("failed")
        log.warning("/%s was given up after %g s", command.name, command.timeout)
        return invocation.say("late")
