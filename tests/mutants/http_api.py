"""Bugs planted in the endpoints: chat, turns, conversations, events, WebSocket."""

from __future__ import annotations

from .mutant import Mutant

CHAT = "tests/http/test_chat.py"
API = "tests/http/test_api.py"
SOCKET = "tests/http/test_socket.py"
BACKLOG = "tests/http/test_backlog.py"
BOUNDS = "tests/http/test_socket_bounds.py"

HTTP_API = (
    Mutant(
        "a conversation belongs to whoever names it",
        "tenants",
        "http/_exchange.py",
        "            if owner is not None and owner != tenant:\n",
        "            if False:\n",
        (CHAT,),
    ),
    Mutant(
        "everybody sees every turn",
        "tenants",
        "http/_turns.py",
        "        if visible(caller, message.tenant):\n",
        "        if True:\n",
        (CHAT,),
    ),
    Mutant(
        "a search shows what others said",
        "tenants",
        "http/_history.py",
        "                    if owner is not None and visible(caller, owner):\n",
        "                    if owner is not None:\n",
        (CHAT,),
    ),
    Mutant(
        "a repetition is an error",
        "idempotency",
        "http/_chat.py",
        "    except Duplicate as error:\n        outcome = await",
        "    except ZeroDivisionError as error:\n        outcome = await",
        (CHAT,),
    ),
    Mutant(
        "the idempotency key is not read",
        "idempotency",
        "http/_exchange.py",
        'else headers.get("idempotency-key")\n',
        "else None\n",
        (CHAT,),
    ),
    Mutant(
        "frames are handled side by side",
        "G2",
        "http/_socket.py",
        "                await peer.turns.start(self._converse, peer, exchange, frame.ref)\n",
        "                peer.turns.start_soon(self._converse, peer, exchange, frame.ref)\n",
        (SOCKET,),
    ),
    Mutant(
        "a client that was cut off loses frames",
        "resume",
        "http/_peer.py",
        "        if not self._backlog.rewind(last_seen):\n",
        "        if not self._backlog.rewind(self.seq):\n",
        (SOCKET,),
    ),
    Mutant(
        "turns of a client that is gone go on",
        "cost",
        "http/_socket.py",
        "                    peer.turns.cancel_scope.cancel()\n",
        "",
        (SOCKET,),
    ),
    Mutant(
        "pieces pile up for a slow reader",
        "G8",
        "http/_peer.py",
        "        while self._backlog.full and not self.over.is_set():\n",
        "        while False:\n",
        (SOCKET,),
    ),
    Mutant(
        "streams end without a farewell",
        "G12",
        "http/_events.py",
        '            await channel.event("farewell", {})\n',
        "            pass\n",
        (API,),
    ),
    Mutant(
        "what an administrator does leaves no trace",
        "audit",
        "http/_history.py",
        '        front.audit(caller, "forget", user=user, erased=erased)\n',
        "",
        (API,),
    ),
    Mutant(
        "times of events are of a clock that nobody has",
        "times",
        "http/_live.py",
        "        field.name: wall(found) if field.name in times else _plain(found, wall)\n",
        "        field.name: _plain(found, wall)\n",
        (API,),
    ),
    Mutant(
        "a kind of event that does not exist is waited for",
        "input",
        "http/_live.py",
        "        if name not in KINDS:\n",
        "        if False:\n",
        (API,),
    ),
    Mutant(
        "frames kept for a client may be of any length",
        "memory",
        "http/_backlog.py",
        "(self.size > BYTES and len(self._kept) > 1)",
        "False",
        (BACKLOG,),
    ),
    Mutant(
        "garbage goes on for ever",
        "cost",
        "http/_socket.py",
        "                if self._invalid >= _INVALID:\n",
        "                if False:\n",
        (BOUNDS,),
    ),
    Mutant(
        "a client has any number of open turns",
        "cost",
        "http/_socket.py",
        "                if peer.open >= most:\n",
        "                if False:\n",
        (BOUNDS,),
    ),
    Mutant(
        "a made-up type is echoed",
        "privacy",
        "http/_frames.py",
        '    if kind in ("union_tag_invalid", "union_tag_not_found"):\n',
        "    if False:\n",
        (BOUNDS,),
    ),
    Mutant(
        "garbage does not count",
        "cost",
        "http/_socket.py",
        "                wait = self._front.take(self._limited)\n",
        "                self._parse(text)\n                wait = self._front.take(self._limited)\n",
        (BOUNDS,),
    ),
    Mutant(
        "conversations of a client are remembered for ever",
        "memory",
        "http/_peer.py",
        "    if len(known) > KNOWN:\n",
        "    if False:\n",
        (BACKLOG,),
    ),
    Mutant(
        "who is sent away keeps its socket",
        "cost",
        "http/_socket.py",
        "                    await self._close()  # now, not when the client may not come back any more\n",
        "",
        (BOUNDS,),
    ),
)
