"""Bugs planted in what is between the network and the manager: keys, guard, server, shutdown."""

from __future__ import annotations

from .mutant import Mutant

GUARD = "tests/http/test_guard.py"
KEYS = "tests/http/test_keys.py"
RAW = "tests/http/test_raw_sockets.py"
MATRIX = "tests/http/test_auth_matrix.py"
SHUTDOWN = "tests/http/test_shutdown.py"

HTTP = (
    Mutant(
        "any secret will do", "security", "http/_keys.py",
        "        if hmac.compare_digest(_fingerprint(secret), known) and key is not None:\n",
        "        if key is not None:\n",
        (KEYS,),
    ),
    Mutant(
        "an unknown key is told faster", "security", "http/_keys.py",
        "        if hmac.compare_digest(_fingerprint(secret), known) and key is not None:\n",
        "        if key is not None and hmac.compare_digest(_fingerprint(secret), known):\n",
        (KEYS,),
    ),
    Mutant(
        "every key may everything", "security", "http/_access.py",
        "    if not caller.may(scope):\n",
        "    if False:\n",
        (MATRIX,),
    ),
    Mutant(
        "every key sees every tenant", "security", "http/_access.py",
        "    return caller.tenant is None or caller.tenant == tenant\n",
        "    return True\n",
        (MATRIX,),
    ),
    Mutant(
        "a key may speak for another tenant", "security", "http/_access.py",
        "    if requested is not None and requested != caller.tenant:\n",
        "    if False:\n",
        (MATRIX,),
    ),
    Mutant(
        "length and chunks together", "pitfall 9", "http/_request.py",
        "        if b\"content-length\" in headers and b\"transfer-encoding\" in headers:\n",
        "        if False:\n",
        (RAW,),
    ),
    Mutant(
        "pages of strangers", "security", "http/_guard.py",
        "        if foreign(asked.origin, site, mode, asked.host, self._origins):\n",
        "        if False:\n",
        (GUARD,),
    ),
    Mutant(
        "any host name", "security", "http/_guard.py",
        "        if not loopback_name(asked.host):\n",
        "        if False:\n",
        (RAW,),
    ),
    Mutant(
        "JSON of any depth", "pitfall 9", "http/_json.py",
        "                if depth > max_depth:\n",
        "                if depth < 0:\n",
        (RAW,),
    ),
    Mutant(
        "listens to the world without keys", "security", "http/_server.py",
        "        if settings.keys is None and not loopback_address(address):\n",
        "        if False:\n",
        (GUARD,),
    ),
    Mutant(
        "work before the rate limit", "security", "http/_guard.py",
        "            self._limit(limited)\n",
        "            pass\n",
        (GUARD,),
    ),
    Mutant(
        "texts of errors in the log", "security", "http/_guard.py",
        "        if self.front.settings.log_text:\n",
        "        if True:\n",
        (GUARD,),
    ),
    Mutant(
        "an abandoned request goes on", "pitfall 5", "http/_presence.py",
        "            self.request.cancel()\n",
        "            pass\n",
        (GUARD,),
    ),
    Mutant(
        "a client that never reads is waited for", "pitfall 1", "http/_wire.py",
        "        with trio.CancelScope(deadline=deadline, shield=True) as self._writing:\n",
        "        with trio.CancelScope(shield=True) as self._writing:\n",
        ("tests/http/test_wire.py",),
    ),
    Mutant(
        "a client that has left holds its place", "security", "http/_wire.py",
        "        self._presence.leave()",
        "        pass",
        (GUARD,),
    ),
    Mutant(
        "an idle connection stays for ever", "security", "http/_wire.py",
        "        self._read_within(0.0 if self._finished else self._patience)\n",
        "        self._read_within(0.0 if self._finished else inf)\n",
        ("tests/http/test_raw_sockets.py",),
    ),
    Mutant(
        "the end waits for idle connections", "shutdown", "http/_wire.py",
        "        for wire in self._wires:\n            wire.finish()\n", "",
        ("tests/http/test_shutdown.py", "tests/http/test_raw_sockets.py"),
    ),
    Mutant(
        "an endpoint that only sends stops the rest", "pitfall 6", "http/_guard.py",
        "        await trio.lowlevel.checkpoint()\n",
        "",
        (RAW,),
        slow=True,  # it hangs until the time-out of the trial
    ),
    Mutant(
        "no farewell", "pitfall 4", "http/_server.py",
        "    app.front.begin_farewell()\n",
        "    app.front.begin_draining()\n",
        (SHUTDOWN,),
    ),
    Mutant(
        "no watchdog", "pitfall 10", "http/_signals.py",
        "        threading.Thread(target=self._watch, name=\"ccm watchdog\", daemon=True).start()\n",
        "",
        (SHUTDOWN,),
    ),
    Mutant(
        "the server goes before the turns", "G12", "http/_server.py",
        "                await manager.drain(within=manager.config.drain)\n",
        "",
        (SHUTDOWN,),
    ),
    Mutant(
        "the block drains once more", "G12", "_manager.py",
        "        left = max(0.0, min(self._config.drain, self._until - self._now()))\n",
        "        left = self._config.drain\n",
        ("tests/manager/test_drain.py",),
    ),
)  # fmt: skip
