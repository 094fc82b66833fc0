"""Slash commands that every bot can use as they are."""

from __future__ import annotations

import secrets
from typing import Final, final

import attrs
import trio

from ccm._errors import Rejected, StorageError
from ccm._manager import ConversationManager
from ccm._message import Message, Priority
from ccm._outcome import Merged, Replied

from ._command_wording import Tested
from ._commands import MANAGE_GUILD, Command, Invocation, Option
from ._hearing import LOAD_TEST

__all__ = ["HANDOFF", "PERFORMANCE", "STANDARD_COMMANDS", "STOP", "TEST_CONCURRENT"]

TARGETS: Final = {Priority.CRITICAL: 0.1, Priority.HIGH: 0.5, Priority.NORMAL: 1.0}
"""Seconds that no message of a class may wait in a load test; the others are not judged."""
MOST_MESSAGES: Final = 100
TEST_LASTS: Final = 120.0
"""Seconds after which a load test is ended."""


async def performance(invocation: Invocation) -> str:
    """What the manager does at the moment, by class."""
    await trio.lowlevel.checkpoint()
    return invocation.say("performance", statistics=invocation.manager.statistics())


async def stop(invocation: Invocation) -> str:
    """End what is being answered here, and what waits."""
    stopped = await invocation.manager.stop(invocation.conversation)
    if not stopped.waiting + stopped.running:
        return invocation.say("nothing_to_stop")
    return invocation.say("stopped", running=stopped.running, waiting=stopped.waiting, stuck=stopped.stuck)


async def handoff(invocation: Invocation) -> str:
    """Let a human take over a conversation, or give it back."""
    key, who = invocation.conversation, invocation.user
    await trio.lowlevel.checkpoint()
    try:
        kept = invocation.manager.conversations
    except StorageError:
        return invocation.say("no_storage")
    try:
        guild = invocation.interaction.guild_id
        found = await kept.find_or_create(key, tenant=guild, channel=key)
        if invocation.arguments.get("back"):
            if not found.paused:
                return invocation.say("not_taken_over")
            await kept.hand_off(key, "", by=who)
            await kept.resume(key, by=who)
            return invocation.say("given_back")
        if found.paused:
            if not found.agent:
                return invocation.say("taken_already_by_somebody")
            return invocation.say("taken_already", agent=found.agent)
        await kept.pause(key, by=who)  # first: from here on nobody is answered by two
        await kept.hand_off(key, invocation.interaction.user.name or who, by=who)
    except StorageError as error:
        return invocation.say("not_noted", error=error)
    return invocation.say("taken_over")


@final
@attrs.frozen
class _Result:
    """What came of one message of a load test; `waited` is -1 if it never began."""

    priority: Priority
    outcome: str
    waited: float


@final
class _LoadTest:
    """Messages of all classes at once, through the manager: what `/test_concurrent` does, one at a time."""

    def __init__(self) -> None:
        self._running = False

    async def __call__(self, invocation: Invocation) -> str:
        if self._running:
            await trio.lowlevel.checkpoint()
            return invocation.say("load_test_running")
        self._running = True
        try:
            return await self._test(invocation)
        finally:
            self._running = False

    async def _test(self, invocation: Invocation) -> str:
        manager, name = invocation.manager, secrets.token_hex(4)
        messages = [
            Message(
                f"load-test/{name}/{number}", f"load-test/{name}/{number}", f"this is test message {number}",
                tenant=invocation.interaction.guild_id, channel="load-test", metadata={LOAD_TEST: True},
                priority=list(Priority)[number % len(Priority)],
            )
            for number in range(invocation.arguments["count"])
        ]  # fmt: skip
        results: list[_Result] = []
        began = trio.current_time()
        with trio.move_on_after(TEST_LASTS):
            async with trio.open_nursery() as nursery:
                for message in messages:
                    nursery.start_soon(_measure, manager, message, results)
        took = trio.current_time() - began
        await _clean_up(manager, messages)
        others = [each.outcome for each in results if each.outcome != "answered"]
        others += ["given_up"] * (len(messages) - len(results))
        return invocation.say("load_test", tested=_verdicts(messages, results), others=others, took=took)


async def _measure(manager: ConversationManager, message: Message, results: list[_Result]) -> None:
    assert message.priority is not None
    await trio.lowlevel.checkpoint()
    try:
        receipt = await manager.submit(message)
    except Rejected as refusal:
        results.append(_Result(message.priority, refusal.reason.name.lower(), -1.0))
    except StorageError:
        results.append(_Result(message.priority, "storage", -1.0))
    else:
        outcome = await receipt.outcome()
        name = "answered" if isinstance(outcome, (Replied, Merged)) else outcome.name
        results.append(_Result(message.priority, name, -1.0 if receipt.waited is None else receipt.waited))


async def _clean_up(manager: ConversationManager, messages: list[Message]) -> None:
    """End what still runs, and leave nothing of it in the storage."""
    await trio.lowlevel.checkpoint()
    try:
        kept = manager.conversations
    except StorageError:
        for message in messages:
            await manager.stop(message.conversation)
        return
    for message in messages:
        await kept.forget(message.user)


def _verdicts(messages: list[Message], results: list[_Result]) -> list[Tested]:
    found = []
    for priority in Priority:
        sent = sum(message.priority is priority for message in messages)
        waits = [each.waited for each in results if each.priority is priority and each.outcome == "answered"]
        longest, target = max(waits, default=0.0), TARGETS.get(priority)
        ok = len(waits) == sent and (target is None or longest <= target)
        found.append(Tested(priority, sent, len(waits), longest, target, ok))
    return found


PERFORMANCE: Final = Command(
    "performance", "What I am doing at the moment", performance, permissions=MANAGE_GUILD
)
"""`/performance`: live figures of the manager, by class."""
TEST_CONCURRENT: Final = Command(
    "test_concurrent", "Have many messages answered at once, with a verdict per class", _LoadTest(),
    options=(Option("count", "how many messages", int, required=True, low=1, high=MOST_MESSAGES),),
    permissions=MANAGE_GUILD,
)  # fmt: skip
"""`/test_concurrent count`: 1 to 100 messages of all classes at once, through the manager and its routes."""
STOP: Final = Command("stop", "End what I am answering here, and what waits", stop)
"""`/stop`: ends what is answered in the conversation, and what waits there."""
HANDOFF: Final = Command(
    "handoff", "Take over this conversation, so that I do not answer", handoff,
    options=(Option("back", "let me answer again", bool),), permissions=MANAGE_GUILD,
)  # fmt: skip
"""`/handoff [back]`: a human takes the conversation over, or gives it back; needs a storage."""
STANDARD_COMMANDS: Final = (PERFORMANCE, TEST_CONCURRENT, STOP, HANDOFF)
"""All four."""
