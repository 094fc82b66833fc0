"""Bugs planted in the bridge between Discord and a manager: backfills, restarts, replies, typing."""

from __future__ import annotations

from .mutant import Mutant

FOLDER = "tests/discord_client"
MISSED_TESTS = (f"{FOLDER}/test_bridge_missed.py",)
BRIDGE_TESTS = (f"{FOLDER}/test_bridge.py",)
REST_TESTS = (f"{FOLDER}/test_rest.py",)
PART_TESTS = (f"{FOLDER}/test_parts.py",)
EARLIER_TESTS = (f"{FOLDER}/test_bridge_earlier.py",)
RESTART_TESTS = (f"{FOLDER}/test_gateway_limits.py",)
REVOKED_TESTS = ("tests/discord_fake/test_revoked.py",)

BRIDGE = "discord/_bridge.py"
MISSED = "discord/_missed.py"
REPLIES = "discord/_replies.py"
EARLIER = "discord/_earlier.py"

BRIDGE_BUGS = (
    Mutant(
        "a gap is not backfilled", "bridge", MISSED,
        "        if lost or first or (isinstance(item, Gap) and item.messages):\n",
        "        if lost or first:\n",
        MISSED_TESTS,
    ),
    Mutant(
        "the bot types only for what runs", "bridge", BRIDGE,
        "        if receipt.answers:\n            self._replies.awaited(channel)\n", "",
        MISSED_TESTS,
    ),
    Mutant(
        "what is too old is backfilled", "bridge", MISSED,
        "        return snowflake_at(time.time() - self._max_age)\n", "        return \"0\"\n",
        MISSED_TESTS,
    ),
    Mutant(
        "a backfill that failed counts as done", "bridge", MISSED,
        "        return done and not left\n", "        return done\n",
        MISSED_TESTS,
    ),
    Mutant(
        "a backfill that failed is never tried again", "bridge", MISSED,
        "            self._work.set()\n", "            pass\n",
        MISSED_TESTS,
    ),
    Mutant(
        "what was backfilled late is never handled", "bridge", MISSED,
        "                self._gateway.handled(item)\n", "                pass\n",
        MISSED_TESTS,
    ),
    Mutant(
        "a late backfill hands in what was heard", "bridge", MISSED,
        "            if said.message.id not in self._known:\n", "            if True:\n",
        MISSED_TESTS,
    ),
    Mutant(
        "what is written overtakes the reply before it", "bridge", REPLIES,
        "        if any(turn < sheet.receipt.turn_id for turn in self._owed.get(sheet.channel, ())):\n",
        "        if False:\n",
        BRIDGE_TESTS,
    ),
    Mutant(
        "an answer that is cut off is taken as none", "bridge", "discord/_requests.py",
        "        if status in (200, 201) and found is None and response.content != b\"null\":\n",
        "        if False:\n",
        REST_TESTS,
    ),
    Mutant(
        "what a backfill hears hides what it has not heard", "bridge", "discord/_channels.py",
        "        before = self._lost.pop(guild)\n",
        "        self._lost.pop(guild)\n        before = self._newest.get(guild, self._since)\n",
        MISSED_TESTS,
    ),
    Mutant(
        "a restart knows no channels", "bridge", MISSED,
        "            self._channels.recall(channel, guild, last)\n", "            pass\n",
        MISSED_TESTS,
    ),
    Mutant(
        "a session is written down before what it missed is fetched", "bridge", "discord/_gateway.py",
        "        else:\n            self._hold(item)\n        shed", "        shed",
        RESTART_TESTS,
    ),
    Mutant(
        "two gaps in one place are one", "bridge", "discord/_progress.py",
        "        if self._held[place] > 1:\n", "        if False:\n",
        PART_TESTS,
    ),
    Mutant(
        "a gap of what was shed begins too late", "bridge", "discord/_inbox.py",
        "place if gap.first is None else min(gap.first, place)", "place",
        PART_TESTS,
    ),
    Mutant(
        "a message that came while the bot left is lost", "bridge", BRIDGE,
        "            return False  # the next process gets it\n", "            return True\n",
        MISSED_TESTS,
    ),
    Mutant(
        "a storage that fails once costs a message", "bridge", BRIDGE,
        "        for pause in (*STORING, None):\n", "        for pause in (None,):\n",
        MISSED_TESTS,
    ),
    Mutant(
        "whoever ended unnoticed waits for ever", "bridge", BRIDGE,
        "                        if receipt.state == \"done\":\n", "                        if False:\n",
        MISSED_TESTS,
    ),
    Mutant(
        "a reply that was cut looks complete", "bridge", BRIDGE,
        "            text = self._wording(outcome, message)\n            await",
        "            text = \"\"\n            await",
        MISSED_TESTS,
    ),
    Mutant(
        "a deleted question keeps its reply", "bridge", REPLIES,
        "            self._aside.start(self._erase, sheet)\n", "            pass\n",
        BRIDGE_TESTS,
    ),
    Mutant(
        "a reply of an earlier process stays", "bridge", BRIDGE,
        "            if unknown and heard.channel:\n", "            if False:\n",
        EARLIER_TESTS,
    ),
    Mutant(
        "only the first part of an earlier reply goes", "bridge", EARLIER,
        "                left = [part.strip() for part in parts[1:]]\n", "                left = []\n",
        EARLIER_TESTS,
    ),
    Mutant(
        "whatever the bot said goes with an earlier reply", "bridge", EARLIER,
        "            elif left and not said.reply_to and said.content.strip() == left[0]:\n",
        "            elif left:\n",
        EARLIER_TESTS,
    ),
    Mutant(
        "a reply to several goes with one of them", "bridge", EARLIER,
        "            if change is not Change.RETRACTED:\n", "            if change is Change.UNKNOWN:\n",
        EARLIER_TESTS,
    ),
    Mutant(
        "what people say goes with a reply", "bridge", EARLIER,
        "            if said.author.id != me:\n", "            if False:\n",
        EARLIER_TESTS,
    ),
    Mutant(
        "typing goes on where it was refused", "bridge", "discord/_indicator.py",
        "        if channel in self._due:\n            self._due[channel] = now + PAUSE\n", "",
        MISSED_TESTS,
    ),
    Mutant(
        "a bot whose token was revoked stays", "bridge", "discord/_gateway.py",
        "            request = await self.rest.requests.refused()\n",
        "            request = \"\"\n            await trio.sleep_forever()\n",
        REVOKED_TESTS,
    ),
    Mutant(
        "a backfill that found the token revoked counts as done", "bridge", "discord/_errors.py",
        "    return 400 <= error.status < 500 and error.status != 401\n",
        "    return 400 <= error.status < 500\n",
        MISSED_TESTS,
    ),
    Mutant(
        "a delivery that finds the token revoked is a failed one", "bridge", "discord/_errors.py",
        "    return Busy(LONGEST_WAIT) if error.status == 401 else None\n", "    return None\n",
        REVOKED_TESTS,
    ),
    Mutant(
        "a delivery is tried too often while requests are held back", "bridge", "discord/_errors.py",
        "        return Busy(min(max(error.retry_after, 0.0), LONGEST_WAIT))\n",
        "        return Busy(min(max(error.retry_after, 0.0), 60.0))\n",
        REVOKED_TESTS,
    ),
    Mutant(
        "a message that waits for room keeps a bot whose token was revoked", "bridge", BRIDGE,
        "        listening.deadline = trio.current_time() + LAST\n", "        pass\n",
        REVOKED_TESTS,
    ),
    Mutant(
        "a session ends because the token was revoked", "bridge", "discord/_gateway.py",
        "            self._leave()\n\n    def _leave",
        "            [shard.stop(NORMAL) for shard in self._shards.values()]\n\n    def _leave",
        REVOKED_TESTS,
    ),
    Mutant(
        "a moderation fails because the token was revoked", "bridge", "discord/_moderation.py",
        "            raise held_back(error) or error\n", "            raise error\n",
        REVOKED_TESTS,
    ),
)  # fmt: skip
