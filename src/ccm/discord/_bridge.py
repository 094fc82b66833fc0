"""`Bridge`: between a gateway and a manager. Events become messages, outcomes become replies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, final

import trio

from ccm import _events as events
from ccm._changes import Change
from ccm._errors import Draining, Duplicate, Outcome, Reason, Rejected, StorageError, Superseded
from ccm._manager import ConversationManager
from ccm._message import Message, Reply
from ccm._outcome import Cancelled, Merged, Replied
from ccm._receipt import Receipt

from ._command_wording import Answer, friendly_answer
from ._commanding import Commands
from ._commands import Command
from ._draft import nonce_of
from ._earlier import Earlier
from ._errors import TOKEN, GatewayClosed, RestError, as_closed
from ._gateway import Gateway
from ._hearing import Commanded, Deleted, Edited, Guild, Said, channel_of, hear
from ._inbox import Item
from ._missed import Missed
from ._models import Event, Interaction
from ._replies import Aside, Replies
from ._wording import Notices, friendly

__all__ = ["Bridge"]

BUFFER: Final = 10_000
ASIDE: Final = 100
RETRACTION: Final = 1.0
"""Seconds that the next event waits for the cleanup of a turn whose message was deleted."""
LAST: Final = 5.0
"""Seconds for what has come before the token was refused: the manager may have no room, or a slow disk."""
STORING: Final = (0.1, 0.5, 2.0)
"""Seconds between attempts to have a message accepted while the storage fails."""
log = logging.getLogger("ccm.discord")


@final
class Bridge:
    """Hands what is said on Discord to a manager, and replies back. Serves one gateway and one manager.

    ::

        bridge = discord.Bridge(gateway)
        async with ccm.open_manager(reply, storage="bot.db", deliver=bridge.deliver) as manager:
            await bridge.run(manager)

    A message's conversation is its thread or channel, its tenant the guild ("" in a private chat), its id
    Discord's. An event counts as handled once its message is accepted, which with a storage means durable.

    Commands do not wait in line with messages: each is taken up when it comes, and counts as handled then.

    Args:
        gateway: open; with `DiscordSettings(acknowledge=True)`, a crash loses no event.
        wording: called as `wording(outcome, message)` for the text about an outcome that is no reply, "" for
            none.
        every: seconds between two edits of a reply that is being written, 0.5 or more.
        max_age: seconds; older messages are not backfilled.
        merged: reaction on a message that is answered together with another one; "" for none.
        commands: slash commands; Discord is told of them, in place of those it knew. Without any, it is not.
        command_wording: called as `command_wording(answer, interaction)` for what commands say; like
            `wording` it must not raise.

    Attributes:
        ignored: messages that the manager does not take because they are not valid.
    """

    def __init__(
        self, gateway: Gateway, *, wording: Callable[[Outcome, Message], str] = friendly, every: float = 1.0,
        max_age: float = 900.0, merged: str = "✅", commands: Sequence[Command] = (),
        command_wording: Callable[[Answer, Interaction], str] = friendly_answer,
    ) -> None:  # fmt: skip
        for name, value, low in (("every", every, 0.5), ("max_age", max_age, 0.0)):
            if not isinstance(value, (int, float)) or not low <= value < float("inf"):
                raise ValueError(f"{name} must be finite seconds >= {low:g}, got {value!r}")
        self._gateway = gateway
        self._rest = gateway.rest
        self._wording = wording
        self._merged = merged
        self._aside = Aside(ASIDE)
        self._replies = Replies(gateway.rest, self._aside, every)
        self._earlier = Earlier(gateway.rest, self._aside, self._replies)
        self._commands = Commands(commands, gateway.rest, command_wording)
        self._notices = Notices()
        self._missed = Missed(gateway, max_age, self._said)
        self._live: dict[int, Receipt] = {}
        self._turns: dict[tuple[str, str], int] = {}  # (tenant, message) -> its turn in _live
        self._me = ""
        self._manager: ConversationManager
        self.ignored = 0

    async def deliver(self, reply: Reply, message: Message) -> None:
        """For `open_manager(deliver=...)`: bring a reply to Discord; of other front ends' messages, nothing.

        A reply that is delivered again, also by another process within some minutes, is there once.

        Raises:
            Permanent: Discord refuses it (the channel is gone, the bot may not speak there).
            Busy, RestError: it is worth another try.
        """
        await self._replies.deliver(reply, message)

    async def run(self, manager: ConversationManager) -> None:
        """Serve until cancelled, or until the gateway ends with an error.

        After a 401 the gateway leaves, and this ends with `GatewayClosed` (4004) once what had come by then
        is accepted, after 5 seconds at most. Leaving the manager's block then drains it as ever; with a
        storage, what was accepted and not delivered is delivered by the next process.

        Raises:
            DiscordError: as the gateway's loop does; or Discord cannot be asked who the bot is.
            GatewayClosed: with code 4004, the token was reset or revoked.
            StorageError: what was said lately cannot be read.
        """
        self._manager = manager
        error: BaseException
        try:
            async with trio.open_nursery() as nursery:
                self._aside.use(nursery)
                self._commands.use(nursery)
                try:
                    await self._serve(nursery)
                finally:
                    self._gateway.divert(None)  # while the nursery still takes tasks
        except BaseExceptionGroup as group:
            # The nursery wraps even a single error; whoever runs the bridge should see their own.
            if len(group.exceptions) > 1:
                raise
            error = group.exceptions[0]
        finally:
            self._aside.use(None)
            self._commands.use(None)
        raise error

    async def _serve(self, nursery: trio.Nursery) -> None:
        # First of all: who has used a command waits 3 s at most, and what follows may take longer.
        self._gateway.divert(self._commanded)
        try:
            self._me = (await self._rest.me()).id
        except RestError as refusal:
            raise as_closed(refusal) from refusal
        await self._missed.recall(self._manager, self._me)
        await nursery.start(self._follow)
        nursery.start_soon(self._replies.show)
        nursery.start_soon(self._replies.show_typing)
        nursery.start_soon(self._commands.register)
        nursery.start_soon(self._missed.catch_up)
        with trio.CancelScope() as listening:
            nursery.start_soon(self._mind_the_token, listening)
            await self._listen()
        raise GatewayClosed(TOKEN, await self._rest.requests.refused())

    # -- from Discord ----------------------------------------------------------------------------

    async def _listen(self) -> None:
        async for item in self._gateway:
            if await self._take(item):
                self._gateway.handled(item)

    async def _mind_the_token(self, listening: trio.CancelScope) -> None:
        """The gateway ends by itself, but a message that waits for room keeps its error from being read."""
        await self._rest.requests.refused()
        listening.deadline = trio.current_time() + LAST

    def _commanded(self, event: Event) -> None:
        heard = hear(event.type, event.data, self._me)
        if isinstance(heard, Commanded):
            self._commands.take(heard.interaction, self._manager)

    async def _take(self, item: Item) -> bool:
        """Do what an item asks for; returns whether it is handled."""
        await trio.lowlevel.checkpoint()
        done = await self._missed.before(item)
        if not isinstance(item, Event):
            return done
        return await self._event(item) and done

    async def _event(self, item: Event) -> bool:
        heard = hear(item.type, item.data, self._me)
        if isinstance(heard, Said):
            return await self._said(heard)
        if isinstance(heard, Edited):
            await self._edited(heard)
        elif isinstance(heard, Deleted):
            unknown = [id for id in heard.ids if await self._deleted(id, heard.tenant) is Change.UNKNOWN]
            if unknown and heard.channel:
                where = heard.channel, heard.tenant
                await self._earlier.withdraw(self._manager, self._me, *where, unknown)
        elif isinstance(heard, Guild):
            return await self._missed.guild(heard, item)
        return True  # noqa: ASYNC910 - `_take` lets others run

    async def _said(self, said: Said) -> bool:
        message = said.message
        try:
            receipt = await self._submit(message)
        except Draining:
            self._missed.stop()
            return False  # the next process gets it
        except Rejected as refusal:
            self._refused(refusal, message)
        except (ValueError, TypeError) as error:
            self.ignored += 1
            log.info("message %s is not handed in: %s", message.id, error)
        else:
            self._accepted(receipt)
        self._missed.heard(message)
        return True

    async def _submit(self, message: Message) -> Receipt:
        for pause in (*STORING, None):
            try:
                return await self._manager.submit(message)
            except StorageError as error:
                log.warning("%s", error)
                if pause is None:
                    raise Rejected.because(Reason.STORAGE) from error
                await trio.sleep(pause)
        raise AssertionError("unreachable")

    def _refused(self, refusal: Rejected, message: Message) -> None:
        if isinstance(refusal, Duplicate) or not (text := self._wording(refusal, message)):
            return
        if self._notices.may_tell(message, trio.current_time()):
            self._aside.start(self._notify, message, text)
        else:
            self._aside.start(self._rest.react, message.channel, message.id, "⏳")

    async def _notify(self, message: Message, text: str) -> None:
        nonce = nonce_of(message.id, "x")
        await self._rest.create_message(message.channel, text, reply_to=message.id, nonce=nonce)

    async def _edited(self, edited: Edited) -> None:
        turn = self._turns.get((edited.tenant, edited.id))
        if turn is not None and self._live[turn].message.text == edited.text:
            return  # Discord shows it anew
        try:
            await self._manager.edit(edited.id, edited.text, tenant=edited.tenant, whole=edited.whole)
        except (StorageError, ValueError) as error:
            log.warning("the edit of %s is not kept: %s", edited.id, error)

    async def _deleted(self, id: str, tenant: str) -> Change | None:
        turn = self._turns.get((tenant, id))
        if turn is not None and not self._live[turn].answers:
            return None  # nobody gets out of being moderated by deleting what he said
        with trio.move_on_after(RETRACTION):
            try:
                return await self._manager.retract(id, tenant=tenant)
            except StorageError as error:
                log.warning("the retraction of %s is not kept: %s", id, error)
        return None

    # -- from the manager ------------------------------------------------------------------------

    async def _follow(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with self._manager.events(BUFFER) as stream:
            task_status.started()
            async for event in stream:
                if isinstance(event, events.Started):
                    self._started(event.turn_id)
                elif isinstance(event, events.Ended):
                    self._ended(event.turn_id)
                elif isinstance(event, events.Retracted):
                    self._replies.withdraw(event.turn_id)
                elif isinstance(event, events.Lagged):
                    for turn, receipt in [*self._live.items()]:
                        if receipt.state == "done":
                            self._ended(turn)

    def _accepted(self, receipt: Receipt) -> None:
        turn, message = receipt.turn_id, receipt.message
        if turn in self._live or (channel := channel_of(message)) is None:
            return
        self._live[turn] = receipt
        self._turns[message.tenant, message.id] = turn
        if receipt.answers:
            self._replies.awaited(channel)
        if receipt.state == "done":
            self._ended(turn)  # its event has passed by

    def _started(self, turn: int) -> None:
        if turn not in self._live:
            receipt = self._manager.receipt(turn)  # of a message from an earlier process, or of a side turn
            if receipt is None or not receipt.answers:
                return
            self._accepted(receipt)
        if turn in self._live and self._live[turn].answers:
            self._replies.begin(self._live[turn])

    def _ended(self, turn: int) -> None:
        self._replies.end(turn)
        receipt = self._live.pop(turn, None)
        if receipt is None:
            return
        message = receipt.message
        self._turns.pop((message.tenant, message.id), None)
        if receipt.answers:
            self._replies.not_awaited(channel_of(message) or "")
            self._aside.start(self._conclude, receipt)

    async def _conclude(self, receipt: Receipt) -> None:
        """Say what became of a message, unless that is a reply: `deliver` brings it."""
        outcome, message, turn = await receipt.outcome(), receipt.message, receipt.turn_id
        if isinstance(outcome, Merged):
            if self._merged:
                await self._rest.react(message.channel, message.id, self._merged)
        elif isinstance(outcome, Cancelled) and outcome.by in ("retract", "forget"):
            self._replies.withdraw(turn, message)
        elif isinstance(outcome, Replied):
            self._replies.owe(turn, message)
        elif outcome != Cancelled("drain"):
            cut = isinstance(outcome, (Superseded, Cancelled))
            text = self._wording(outcome, message)
            await self._replies.close(turn, message, text, below=True, start=not cut)
