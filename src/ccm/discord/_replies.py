"""Replies on their way to Discord: shown while they are written, exact when they are complete."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, final

import trio

from ccm._errors import Busy, Permanent
from ccm._message import Message, Reply
from ccm._receipt import Receipt

from ._draft import Create, Draft, Edit, Step
from ._errors import RestError, for_good, held_back
from ._hearing import channel_of
from ._indicator import TypingIndicator
from ._rest import Rest

__all__ = ["Aside", "Replies"]

TICK: Final = 0.25
"""Seconds between two looks at what has been written."""
KEPT: Final = 2_000
"""Replies that can still be taken back."""
UNKNOWN_MESSAGE: Final = 10_008
log = logging.getLogger("ccm.discord")


@final
class Aside:
    """Requests that nobody waits for, each in a task of its own; a bounded number at a time.

    Attributes:
        left_out: requests that were not made because there were too many.
        refused: requests that Discord refused or did not answer.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._running = 0
        self._nursery: trio.Nursery | None = None
        self.left_out = self.refused = 0

    def use(self, nursery: trio.Nursery | None) -> None:
        """From now on tasks are started here."""
        self._nursery = nursery

    def start(self, fn: Callable[..., Awaitable[Any]], *args: Any) -> bool:
        """Do `await fn(*args)` in a task; False: it is not done. What Discord refuses ends only that."""
        if self._nursery is None or self._running >= self._most:
            self.left_out += 1
            return False
        self._running += 1
        self._nursery.start_soon(self._run, fn, args)
        return True

    async def _run(self, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        try:
            await fn(*args)
        except RestError as error:
            self.refused += 1
            log.info("%s", error)
        finally:
            self._running -= 1


@final
class _Sheet:
    """A draft, where it is, and who writes on it.

    Attributes:
        pen: held by whoever is making a request for it; a request that shows a part does so in its own task.
        receipt: of the turn while it runs.
        closed: its end has come: only `Replies.finish` writes.
        finished: it is complete, or will never be.
        refused: Discord does not want it.
        withdrawn: nobody is to see it any more.
    """

    __slots__ = (
        "channel", "closed", "draft", "finished", "pen", "receipt", "refused", "reply_to", "withdrawn",
    )  # fmt: skip

    def __init__(self, draft: Draft, channel: str, reply_to: str | None) -> None:
        self.draft = draft
        self.channel = channel
        self.reply_to = reply_to
        self.pen = trio.Semaphore(1, max_value=1)
        self.receipt: Receipt | None = None
        self.closed = self.finished = self.refused = self.withdrawn = False


@final
class Replies:
    """The replies of one bot, by turn.

    Args:
        rest: for requests.
        aside: for those that nobody waits for.
        every: seconds between two edits of a reply that is being written, > 0.
    """

    # _sheets   turn -> its reply, the oldest first, at most KEPT
    # _running  turns whose replies may be written just now; a part of _sheets
    # _owed     channel -> turns whose replies are on their way; nothing newer is shown there before

    def __init__(self, rest: Rest, aside: Aside, every: float) -> None:
        self._rest = rest
        self._aside = aside
        self._every = every
        self._sheets: OrderedDict[int, _Sheet] = OrderedDict()
        self._running: dict[int, _Sheet] = {}
        self._owed: dict[str, set[int]] = {}
        self._work = trio.Event()
        self._typing = TypingIndicator()
        self._alarm = trio.CancelScope()

    # -- while it is written ---------------------------------------------------------------------

    def begin(self, receipt: Receipt) -> None:
        """An attempt of the turn begins. O(1)."""
        sheet = self._sheet(receipt.turn_id, receipt.message)
        if sheet is not None and not sheet.closed:
            sheet.receipt = receipt
            self._running[receipt.turn_id] = sheet
            self._work.set()

    def end(self, turn_id: int) -> None:
        """The turn has its outcome. O(1)."""
        self._running.pop(turn_id, None)

    def owe(self, turn_id: int, message: Message) -> None:
        """The turn has a reply that `deliver` brings, maybe after some tries. O(1)."""
        sheet = self._sheet(turn_id, message)
        if sheet is not None and not sheet.finished and not sheet.withdrawn:
            self._owed.setdefault(sheet.channel, set()).add(turn_id)

    def _paid(self, turn_id: int, sheet: _Sheet) -> None:
        """The reply is there, or never will be; so are those before it, as `deliver` is called in order.
        O(owed)."""
        sheet.finished = True
        left = {turn for turn in self._owed.pop(sheet.channel, ()) if turn > turn_id}
        if left:
            self._owed[sheet.channel] = left

    async def show(self) -> None:
        """Show what is being written, until cancelled."""
        while True:
            await self._work.wait()
            await trio.sleep(TICK)
            now = trio.current_time()
            for sheet in [*self._running.values()]:
                self._look(sheet, now)
            if not self._running:
                self._work = trio.Event()

    def _look(self, sheet: _Sheet, now: float) -> None:
        """One request for one reply, if it is time and none is on its way."""
        if sheet.closed or sheet.refused or sheet.withdrawn or sheet.receipt is None or not sheet.pen.value:
            return
        if any(turn < sheet.receipt.turn_id for turn in self._owed.get(sheet.channel, ())):
            return
        step = sheet.draft.show(sheet.receipt.written, now)
        if step is not None:
            sheet.pen.acquire_nowait()
            if not self._aside.start(self._show, sheet, step):
                sheet.pen.release()

    async def _show(self, sheet: _Sheet, step: Step) -> None:
        try:
            await self._do(sheet, step)
        except RestError as error:
            sheet.refused = for_good(error)
            raise
        finally:
            sheet.pen.release()

    # -- when it is complete ---------------------------------------------------------------------

    async def finish(self, turn_id: int, message: Message, text: str) -> None:
        """Let the reply say exactly `text`; "" takes back what is there. In vain once it is withdrawn.

        When cancelled it can be called again.

        Raises:
            Permanent: Discord refuses; asking again is of no use.
            Busy: requests are held back, for now or, after a 401, for as long as this process lasts.
            RestError: Discord failed, or did not answer.
        """
        sheet = self._sheet(turn_id, message)
        if sheet is None:
            await trio.lowlevel.checkpoint()
            return
        sheet.closed = True
        try:
            async with sheet.pen:
                while (step := sheet.draft.finish("" if sheet.withdrawn else text)) is not None:
                    await self._do(sheet, step)
            self._paid(turn_id, sheet)
        except RestError as error:
            if (busy := held_back(error)) is not None:
                raise busy from error
            if for_good(error):
                sheet.refused = True
                self._paid(turn_id, sheet)
                raise Permanent(str(error)) from error
            raise

    async def deliver(self, reply: Reply, message: Message) -> None:
        """`finish` for what a manager hands out."""
        self.end(reply.turn_id)
        await self.finish(reply.turn_id, message, reply.text)

    async def close(self, turn_id: int, message: Message, text: str, *, below: bool, start: bool) -> None:
        """The turn ends without a reply: say why, best effort.

        Args:
            turn_id, message: which.
            text: why; "" says nothing.
            below: put it below what was written.
            start: say it also when nothing is there.
        """
        sheet = self._sheet(turn_id, message)
        if sheet is None or sheet.refused or not (text or sheet.draft.ids):
            await trio.lowlevel.checkpoint()
            return
        sheet.closed = True
        async with sheet.pen:  # a request may be on its way
            shown = bool(sheet.draft.ids)
        if not text or not (shown or start):
            await trio.lowlevel.checkpoint()
            return
        written = sheet.draft.text.rstrip() if shown and below else ""
        try:
            await self.finish(turn_id, message, f"{written}\n\n{text}" if written else text)
        except (Busy, Permanent) as error:
            log.info("turn %d: %s", turn_id, error)

    def withdraw(self, turn_id: int, message: Message | None = None) -> bool:
        """Take the reply back, also one that is still to come; whether it is known where it is. O(1)."""
        sheet = self._sheets.get(turn_id) or (None if message is None else self._sheet(turn_id, message))
        if sheet is not None and not sheet.withdrawn:
            sheet.withdrawn = sheet.closed = True
            self._owed.get(sheet.channel, set()).discard(turn_id)
            self._aside.start(self._erase, sheet)
        return sheet is not None and bool(sheet.draft.ids)

    async def _erase(self, sheet: _Sheet) -> None:
        async with sheet.pen:
            while (step := sheet.draft.finish("")) is not None:
                await self._do(sheet, step)

    # -- typing ----------------------------------------------------------------------------------

    def awaited(self, channel: str) -> None:
        """One more reply is awaited in a channel. O(channels)."""
        self._typing.start(channel, trio.current_time())
        self._alarm.deadline = self._typing.next_deadline()

    def not_awaited(self, channel: str) -> None:
        """One reply fewer is awaited. O(1)."""
        self._typing.stop(channel)

    async def show_typing(self) -> None:
        """Show the bot as typing wherever a reply is awaited, until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._typing.next_deadline()) as self._alarm:
                await trio.sleep_forever()
            for channel in self._typing.due(trio.current_time()):
                self._aside.start(self._type, channel)

    async def _type(self, channel: str) -> None:
        try:
            await self._rest.typing(channel)
        except RestError as error:
            if for_good(error):
                self._typing.refused(channel, trio.current_time())
            raise

    # -- requests --------------------------------------------------------------------------------

    def _sheet(self, turn_id: int, message: Message) -> _Sheet | None:
        """The reply of a turn, made if need be; None: the message does not come from Discord. O(1)."""
        sheet, channel = self._sheets.get(turn_id), channel_of(message)
        if sheet is None and channel is not None:
            draft = Draft(message.id, every=self._every, start=trio.current_time())
            reply_to = message.id if message.id.isascii() and message.id.isdigit() else None
            sheet = self._sheets[turn_id] = _Sheet(draft, channel, reply_to)
            if len(self._sheets) > KEPT:
                oldest, gone = self._sheets.popitem(last=False)
                self._running.pop(oldest, None)
                self._paid(oldest, gone)
        return sheet

    async def _do(self, sheet: _Sheet, step: Step) -> None:
        rest, draft, channel = self._rest, sheet.draft, sheet.channel
        try:
            if isinstance(step, Create):
                sent = await rest.create_message(
                    channel, step.text, reply_to=sheet.reply_to if step.first else None, nonce=step.nonce
                )
                draft.created(step, sent.id, sent.content)
            elif isinstance(step, Edit):
                await rest.edit_message(channel, step.id, step.text)
                draft.edited(step)
            else:
                if step.id:
                    await rest.delete_message(channel, step.id)
                draft.deleted(step)
        except RestError as error:
            # A message that somebody has deleted: of no account for a part that was to go anyway.
            if isinstance(step, Create) or error.code != UNKNOWN_MESSAGE:
                raise
            if isinstance(step, Edit):
                draft.lost(step)
            else:
                draft.deleted(step)
