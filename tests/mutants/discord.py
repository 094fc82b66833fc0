"""Bugs planted in the client side of Discord: protocol, connections, limits, requests, splitting."""

from __future__ import annotations

from .mutant import Mutant

FOLDER = "tests/discord_client"
PROTOCOL_TESTS = (f"{FOLDER}/test_protocol.py",)
BURST_TESTS = ("tests/discord_fake/test_burst.py::test_an_answer_behind_a_burst_is_waited_for",)
GATEWAY_TESTS = (f"{FOLDER}/test_gateway.py",)
LIMIT_TESTS = (f"{FOLDER}/test_gateway_limits.py",)
BUCKET_TESTS = (f"{FOLDER}/test_buckets.py",)
REST_TESTS = (f"{FOLDER}/test_rest.py",)
SPLIT_TESTS = (f"{FOLDER}/test_split.py",)
PART_TESTS = (f"{FOLDER}/test_parts.py",)
MODERATION_TESTS = (f"{FOLDER}/test_moderation.py",)
COMMAND_TESTS = (f"{FOLDER}/test_commands.py",)
WORDING_TESTS = (f"{FOLDER}/test_command_wording.py",)
AT_ONCE_TESTS = (f"{FOLDER}/test_commands_at_once.py",)
STANDARD_TESTS = (f"{FOLDER}/test_standard_commands.py",)
CHAOS_TESTS = ("tests/discord_fake/test_chaos.py",)

PROTOCOL = "discord/_protocol.py"
SHARD = "discord/_shard.py"
BUCKETS = "discord/_buckets.py"
MODERATION = "discord/_moderation.py"
COMMANDING = "discord/_commanding.py"
COMMANDS = "discord/_commands.py"
STANDARD = "discord/_standard_commands.py"

DISCORD = (
    Mutant(
        "a zombie connection is kept", "discord", PROTOCOL,
        "            if not coming or link.unanswered >= UNANSWERED:\n",
        "            if False:\n",
        PROTOCOL_TESTS,
    ),
    Mutant(
        "an answer behind a burst is taken for none", "discord", PROTOCOL,
        "            if not coming or link.unanswered >= UNANSWERED:\n",
        "            if True:\n",
        (*PROTOCOL_TESTS, *BURST_TESTS),
    ),
    Mutant(
        "who sends but never answers is kept", "discord", PROTOCOL,
        "            if not coming or link.unanswered >= UNANSWERED:\n",
        "            if not coming:\n",
        PROTOCOL_TESTS,
    ),
    Mutant(
        "what came long ago is taken for a sign of life", "discord", PROTOCOL,
        "coming = now - link.heard <= SILENCE * link.interval",
        "coming = now - link.heard <= link.interval",
        PROTOCOL_TESTS,
    ),
    Mutant(
        "frames are no sign of life", "discord", SHARD,
        "        protocol.heard(now)\n", "",
        BURST_TESTS,
    ),
    Mutant(
        "an old heartbeat condemns the next connection", "discord", PROTOCOL,
        "        link.beat = now + link.interval * self._random()\n        link.unanswered = 0\n",
        "        link.beat = now + link.interval * self._random()\n",
        PROTOCOL_TESTS,
    ),
    Mutant(
        "resumes without end", "discord", PROTOCOL,
        "        self._resumes += 1\n", "",
        GATEWAY_TESTS,
    ),
    Mutant(
        "a dead resume host is asked for ever", "discord", PROTOCOL,
        "        self._resume_url = \"\"\n        self._failures += 1\n", "        self._failures += 1\n",
        GATEWAY_TESTS,
    ),
    Mutant(
        "a refused session is tried again", "discord", PROTOCOL,
        "        if not resumable:\n            self._forget()\n", "",
        GATEWAY_TESTS,
    ),
    Mutant(
        "holes of a replay go unnoticed", "discord", PROTOCOL,
        "not (self._session_id or link.phase == \"live\"):\n", "link.phase != \"live\":\n",
        GATEWAY_TESTS,
    ),
    Mutant(
        "a short life counts as stable", "discord", PROTOCOL,
        "        if now - link.live >= STABLE:\n", "        if now >= link.live:\n",
        PROTOCOL_TESTS,
    ),
    Mutant(
        "the heart sleeps through HELLO", "discord", SHARD,
        "            connection.alarm.deadline = due\n", "            pass\n",
        GATEWAY_TESTS,
    ),
    Mutant(
        "a cut for the better ends the session", "discord", SHARD,
        "self._stop_code or RESUMABLE", "self._stop_code or 1000",
        GATEWAY_TESTS,
    ),
    Mutant(
        "what is counted is not written down", "discord", "discord/_gate.py",
        "        self._state.begun = self._budget.begun()\n        await self._state.save()\n",
        "        pass\n",
        (f"{FOLDER}/test_gateway_limits.py::test_sessions_begun_are_on_the_disk_before_they_begin",),
    ),
    Mutant(
        "a session goes on behind what was not handled", "discord", "discord/_progress.py",
        "        return first[1] - 1 if first[0] == session else None\n", "        return received\n",
        PART_TESTS,
    ),
    Mutant(
        "what is shed is not told", "discord", "discord/_inbox.py",
        "            self._add(gap)\n", "",
        PART_TESTS,
    ),
    Mutant(
        "what is given up for more urgent things is told behind what waits", "discord", "discord/_inbox.py",
        "                self._note(old, serial)\n",
        "                del self._items[serial]\n                self._note(old)\n",
        PART_TESTS,
    ),
    Mutant(
        "heartbeats that are asked for use up the limit", "discord", PROTOCOL,
        "ASKED = SENDS - RESERVED // 2\n", "ASKED = SENDS - 1\n",
        PROTOCOL_TESTS,
    ),
    Mutant(
        "a good-bye follows half a frame", "discord", SHARD,
        "                connection.stuck = True\n", "",
        (f"{FOLDER}/test_dial.py",),
    ),
    Mutant(
        "anybody may be Discord", "discord", "discord/_dial.py",
        "ssl.create_default_context()", "ssl._create_unverified_context()",
        (f"{FOLDER}/test_dial.py",),
    ),
    Mutant(
        "a socket whose peer vanished is kept", "discord", "discord/_dial.py",
        "    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)\n", "",
        (f"{FOLDER}/test_dial.py",),
    ),
    Mutant(
        "a burst is read in crumbs", "discord", SHARD,
        "                    receive_buffer_size=RECEIVE_BYTES,\n", "",
        (f"{FOLDER}/test_dial.py",),
    ),
    Mutant(
        "a bomb is unpacked", "discord", "discord/_inflate.py",
        "            text = self._context.decompress(data, self._limit)\n        except zlib.error",
        "            text = self._context.decompress(data)\n        except zlib.error",
        PART_TESTS,
    ),
    Mutant(
        "an answer in flight reopens a pause", "discord", BUCKETS,
        "        paused = max(bucket.paused, self._pauses.get(route, -math.inf))\n",
        "        paused = -math.inf if bucket.remaining else bucket.paused\n",
        BUCKET_TESTS,
    ),
    Mutant(
        "a lost answer blocks its limit for ever", "discord", BUCKETS,
        "            bucket.remaining = max(bucket.remaining, 1)\n", "            pass\n",
        BUCKET_TESTS,
    ),
    Mutant(
        "cloudflare is asked again", "discord", BUCKETS,
        "        if not isinstance(body, Mapping) and \"via\" not in headers:\n", "        if False:\n",
        REST_TESTS,
    ),
    Mutant(
        "each attempt is a new message", "discord", "discord/_requests.py",
        "                    answer = await self._once(name, route, path, deadline, headers, body, query)\n",
        "                    again = {**body, \"nonce\": str(failures)} if isinstance(body, dict) else body\n"
        "                    answer = await self._once(name, route, path, deadline, headers, again, query)\n",
        REST_TESTS,
    ),
    Mutant(
        "a cancelled request keeps its place", "discord", "discord/_requests.py",
        "            if not over:\n                self.limits.lost(go, trio.current_time())\n", "",
        REST_TESTS,
    ),
    Mutant(
        "what is not wanted is not counted", "discord", "discord/_decode.py",
        "\"s\": int(head[2])", "\"s\": None",
        (f"{FOLDER}/test_decode.py",),
    ),
    Mutant(
        "the protocol's own events are left unread", "discord", "discord/_decode.py",
        "else wanted | PROTOCOL", "else wanted",
        (f"{FOLDER}/test_decode.py",),
    ),
    Mutant(
        "a code block is left open", "discord", "discord/_split.py",
        "        start, opening = end, state\n", "        start, opening = end, \"\"\n",
        SPLIT_TESTS,
    ),
    Mutant(
        "a character is lost at each cut", "discord", "discord/_split.py",
        "        piece.opening + text[piece.start : piece.end] + piece.closing\n",
        "        piece.opening + text[piece.start : piece.end - (piece.end < len(text))] + piece.closing\n",
        (f"{FOLDER}/test_split.py::test_nothing_is_lost",),
    ),
    Mutant(
        'a resumed session forgets its number', "discord", 'discord/_protocol.py',
        '"session_id": self._session_id, "seq": self.seq}',
        '"session_id": self._session_id, "seq": 0}',
        CHAOS_TESTS,
    ),
    Mutant(
        'a session that was lost is not announced', "discord", 'discord/_protocol.py',
        '        self._lost = self._lost or bool(self._session_id)\n',
        '        self._lost = False\n',
        CHAOS_TESTS,
    ),
    Mutant(
        'a close code that is final is tried again', "discord", 'discord/_protocol.py',
        '        if code in CLOSE_CODES:\n',
        '        if code == 0:\n',
        CHAOS_TESTS,
    ),
    Mutant(
        "what is left out of a live session goes unnoticed", "discord", PROTOCOL,
        "not (self._session_id or link.phase == \"live\"):\n", "link.phase != \"resume\":\n",
        PROTOCOL_TESTS,
    ),
    Mutant(
        "what cannot be read is told twice", "discord", PROTOCOL,
        "max(missing - link.unread, 0), 0 ", "missing, 0 ",
        PROTOCOL_TESTS,
    ),
    Mutant(
        'a payload that cannot be read goes unnoticed', "discord", 'discord/_protocol.py',
        'return (self._gap("undecodable", 1, 0 if self.seq is None else self.seq + 1),)',
        'return NOTHING',
        CHAOS_TESTS,
    ),
    Mutant(
        'a dead peer is never suspected', "discord", 'discord/_protocol.py',
        '        link.unanswered += 1\n',
        '        link.unanswered = 0\n',
        CHAOS_TESTS,
    ),
    Mutant(
        'a clock that jumps makes a burst', "discord", 'discord/_protocol.py',
        '            link.beat = now + link.interval\n',
        '            pass\n',
        CHAOS_TESTS,
    ),
    Mutant(
        'a closed session is resumed', "discord", 'discord/_protocol.py',
        '        if code in NEW_SESSION:\n            self._forget()\n',
        '',
        CHAOS_TESTS,
    ),
    Mutant(
        "a first session is told as a loss", "discord", PROTOCOL,
        "        lost = self._lost or bool(self._session_id)  #", "        lost = True  #",
        CHAOS_TESTS,
    ),
    Mutant(
        "a gap tells of more than is missing", "discord", PROTOCOL,
        "        missing = max(seq - last - 1, 0) if last is not None else 0\n",
        "        missing = max(seq - last, 0) if last is not None else 0\n",
        CHAOS_TESTS,
    ),
    Mutant(
        "a command that fails ends the bot", "discord", COMMANDING,
        "            except Exception:\n",
        "            except OSError:\n",
        COMMAND_TESTS,
    ),
    Mutant(
        "a command is announced when it is done", "discord", COMMANDING,
        "        await self._announce(interaction, command.hidden)\n"
        "        text = await self._call(",
        "        text = await self._call(command, Invocation(interaction, manager, arguments))\n"
        "        await self._announce(interaction, command.hidden)\n"
        "        _ = (",
        COMMAND_TESTS,
    ),
    Mutant(
        "a command that comes again is carried out again", "discord", COMMANDING,
        "if not self._table or interaction.id in self._seen:",
        "if not self._table:",
        COMMAND_TESTS,
    ),
    Mutant(
        "what an earlier process did is done again by a slow clock", "discord", COMMANDING,
        "ours = error.repeated and snowflake_time",
        "ours = snowflake_time",
        AT_ONCE_TESTS,
    ),
    Mutant(
        "what an earlier process did is done again after a lost answer", "discord", COMMANDING,
        "ours = error.repeated and snowflake_time(interaction.id) >= self._since",
        "ours = error.repeated",
        AT_ONCE_TESTS,
    ),
    Mutant(
        "a command whose announcement got no answer is not carried out", "discord", COMMANDING,
        "            if error.code != ACKNOWLEDGED or not ours:",
        "            if True:",
        COMMAND_TESTS,
    ),
    Mutant(
        "commands wait in line with messages", "discord", "discord/_bridge.py",
        "        async for item in self._gateway:\n",
        "        self._gateway.divert(None)\n"
        "        async for item in self._gateway:\n"
        "            if isinstance(item, Event):\n"
        "                self._commanded(item)\n",
        AT_ONCE_TESTS,
    ),
    Mutant(
        "commands that came before the bridge wait in line", "discord", "discord/_gateway.py",
        "            for event in self._inbox.take_commands():\n",
        "            for event in ():\n",
        AT_ONCE_TESTS,
    ),
    Mutant(
        "requests that hang hold up commands", "discord", "discord/_requests.py",
        "        return self._rooms[2 if route.urgent else route.exempt]\n",
        "        return self._rooms[0]\n",
        AT_ONCE_TESTS,
    ),
    Mutant(
        "commands wait until others find out that discord works", "discord", "discord/_requests.py",
        "probe = None if route.urgent else self.breaker.ask(now)",
        "probe = self.breaker.ask(now)",
        AT_ONCE_TESTS,
    ),
    Mutant(
        "only the beginning of a long answer is shown", "discord", COMMANDING,
        "        for part in more:",
        "        for part in ():",
        COMMAND_TESTS,
    ),
    Mutant(
        "the rest of an answer is for everybody", "discord", COMMANDING,
        "part, hidden=command.hidden)",
        "part)",
        COMMAND_TESTS,
    ),
    Mutant(
        "commands are registered at each start", "discord", COMMANDING,
        "if not same(told, await self._rest.commands(application)):",
        "if True:",
        COMMAND_TESTS,
    ),
    Mutant(
        "commands for those in charge work in private chats", "discord", COMMANDING,
        "if command.permissions is not None and not interaction.guild_id:",
        "if False:",
        COMMAND_TESTS,
    ),
    Mutant(
        "an argument may be out of bounds", "discord", COMMANDS,
        " and (high is None or size <= high)",
        "",
        COMMAND_TESTS,
    ),
    Mutant(
        "permissions are not compared", "discord", COMMANDS,
        '    "max_length", "default_member_permissions", "contexts",',
        '    "max_length", "contexts",',
        COMMAND_TESTS,
    ),
    Mutant(
        "refusals of commands are always in english", "discord", COMMANDING,
        "        text = self._wording(answer, interaction)\n",
        "        text = friendly_answer(answer, interaction)\n",
        WORDING_TESTS,
    ),
    Mutant(
        "answers of commands are always in english", "discord", COMMANDING,
        "Invocation(interaction, manager, arguments, self._wording)",
        "Invocation(interaction, manager, arguments)",
        WORDING_TESTS,
    ),
    Mutant(
        "a refusal without words ends the bot", "discord", COMMANDING,
        "        first, *_ = split(sendable(text)) or split(friendly_answer(answer, interaction))\n",
        "        first = text\n",
        WORDING_TESTS,
    ),
    Mutant(
        "a load test stays in the storage", "discord", STANDARD,
        "        await kept.forget(message.user)",
        "        await trio.lowlevel.checkpoint()",
        STANDARD_TESTS,
    ),
    Mutant(
        "what is not answered meets its target", "discord", STANDARD,
        "ok = len(waits) == sent and ",
        "ok = ",
        STANDARD_TESTS,
    ),
    Mutant(
        "a bot that was handed off goes on answering", "discord", STANDARD,
        "        await kept.pause(key, by=who)",
        "        await trio.lowlevel.checkpoint()",
        STANDARD_TESTS,
    ),
    Mutant(
        "an edit of what is known no more is not moderated", "discord", "discord/_hearing.py",
        "    whole = None if said is None else said.message\n",
        "    whole = None\n",
        MODERATION_TESTS,
    ),
    Mutant(
        "who goes on is not silenced", "discord", MODERATION,
        "        ids.add(id)\n",
        "        ids.clear()\n        ids.add(id)\n",
        MODERATION_TESTS,
    ),
    Mutant(
        "what may not be deleted ends the moderation", "discord", MODERATION,
        "if error.status not in (403, 404):",
        "if error.status != 404:",
        MODERATION_TESTS,
    ),
    Mutant(
        "a message that is moderated again counts twice", "discord", MODERATION,
        "        ids.add(id)\n",
        '        ids.add(f"{id} {len(ids)}")\n',
        MODERATION_TESTS,
    ),
)  # fmt: skip
