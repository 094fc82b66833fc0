"""Bugs planted in what stands before and behind the manager: the model client, metrics, spans, commands."""

from __future__ import annotations

from .mutant import Mutant

MODEL_TEST = "tests/test_model.py"
TELEMETRY_TEST = "tests/test_telemetry.py"
METRICS_TEST = "tests/http/test_metrics.py"

MODEL = "model.py"
WIRE = "_model_wire.py"

FRONT = (
    Mutant(
        "429 is a failure like any other", "429 is Busy", MODEL,
        "        if status in (429, 503, 529) and code",
        "        if status in (503, 529) and code",
        (MODEL_TEST,),
    ),
    Mutant(
        "what is left of a response stays open", "trap 5", WIRE,
        "            await _exhaust(chunks)  #",
        "            await trio.lowlevel.checkpoint()  #",
        (MODEL_TEST,),
    ),
    Mutant(
        "the key is told in an error", "no key in errors", MODEL,
        'return text if not key else text.replace(key, "[key]")',
        "return text",
        (MODEL_TEST,),
    ),
    Mutant(
        "a second attempt says the first one's words again", "retry", MODEL,
        "        self._pieces: list[str] = []\n",
        '        self._pieces: list[str] = model.__dict__.setdefault("said", [])\n',
        (MODEL_TEST,),
    ),
    Mutant(
        "a slow reader is taken for a silent model", "time-outs", MODEL,
        "            self.patience.deadline = math.inf  #",
        "            self.patience.deadline += 0.0  #",
        (MODEL_TEST,),
    ),
    Mutant(
        "a cut answer counts as a whole one", "no silent loss", MODEL,
        "        if not self.finished:\n            raise",
        "        if False:\n            raise",
        (MODEL_TEST,),
    ),
    Mutant(
        "an answer without end is read to its end", "G8", MODEL,
        '                    if self._metadata["finish"] == "max_text":\n                        return\n',
        '                    if self._metadata["finish"] == "max_text":\n                        continue\n',
        (MODEL_TEST,),
    ),
    Mutant(
        "a counter falls by a hair", "counters never fall", "http/_metrics.py",
        "            total = max(self._sums.get((name, values), 0.0), summary.mean * summary.count)\n",
        "            total = summary.mean * summary.count\n",
        (METRICS_TEST,),
    ),
    Mutant(
        "figures are for everybody who chats", "scopes", "http/_metrics.py",
        'needs("read")',
        'needs("chat")',
        (METRICS_TEST,),
    ),
    Mutant(
        "spans of messages are kept for ever", "G8", "telemetry.py",
        "        span = self._spans.pop(record.id, None)\n",
        "        span = self._spans.get(record.id)\n",
        (TELEMETRY_TEST,),
    ),
    Mutant(
        "a span tells what an error says", "no text in attributes", "telemetry.py",
        "use_span(span, record_exception=False,",
        "use_span(span, record_exception=True,",
        (TELEMETRY_TEST,),
    ),
    Mutant(
        "a message takes part in whatever trace its task is in", "context across tasks", "telemetry.py",
        '"ccm.message", self._parent(message), self._api.SpanKind.CONSUMER,',
        '"ccm.message", None, self._api.SpanKind.CONSUMER,',
        (TELEMETRY_TEST,),
    ),
    Mutant(
        "log lines tell what errors say", "no text in logs", "cli/_logging.py",
        "            if self._text:\n",
        "            if True:\n",
        ("tests/cli/test_logging.py",),
    ),
    Mutant(
        "nonsense with status 200 is an answer", "verdicts", "cli/_load_run.py",
        '    if status == "200" and (answer or {}).get("outcome") in ("replied", "merged"):\n',
        '    if status == "200":\n',
        ("tests/http/test_load.py",),
    ),
    Mutant(
        "the sockets of a load run leave without a goodbye", "WebSockets of ccm load", "cli/_load_socket.py",
        "        await sockets.close()\n",
        "        await trio.lowlevel.checkpoint()\n",
        ("tests/http/test_load.py::test_each_person_has_one_socket_and_says_goodbye",),
    ),
    Mutant(
        "each message of a load run has a socket of its own", "WebSockets of ccm load", "cli/_load_socket.py",
        "        if socket is None or socket.over:\n",
        "        if True:\n",
        ("tests/http/test_load.py::test_each_person_has_one_socket_and_says_goodbye",),
    ),
    Mutant(
        "the farewell comes before the answer", "G12", "http/_socket.py",
        "            await self._peer.settled()\n",
        "            await trio.lowlevel.checkpoint()\n",
        ("tests/http/test_serve_cli.py::test_what_runs_at_sigterm_is_answered_before_the_farewell",),
    ),
    Mutant(
        "the responder draws from nowhere", "deterministic", "responder.py",
        '    draw = random.Random(f"{seed} {len(said)} {text}")\n',
        "    draw = random.Random()\n",
        ("tests/test_responder.py",),
    ),
)  # fmt: skip
