"""`ChatModel`: a handler for servers with OpenAI's chat completions (llama.cpp, vLLM, Ollama and many more).

Needs `pip install 'ccm[model]'`. The client is httpx2: httpx with httpcore loses its connection pool for ever
when requests are cancelled, and cancelling is what `stop`, time-outs and impatient people do all the time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, final
from urllib.parse import urlsplit

import trio

from ._core.history import HistoryEntry
from ._errors import Busy, Permanent
from ._message import Reply
from ._model_wire import (
    Events,
    Secret,
    beginning,
    endpoint,
    error_of,
    reading,
    retry_after,
    seconds,
    text_of,
    whole,
)
from ._turn import Turn

if TYPE_CHECKING:
    from types import TracebackType

    import httpx2

__all__ = ["ChatModel", "ModelError", "ModelRefused", "ModelTimeout"]

LINGER: Final = 0.25
"""Seconds for the end of a response whose last word is there, so that its connection can be used again."""
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class ModelError(Exception):
    """The model server could not be reached, failed, sent nonsense or hung up; worth another attempt."""


class ModelTimeout(ModelError, trio.TooSlowError):
    """The model server kept silent for too long."""


class ModelRefused(ModelError, Permanent):
    """The model server will not answer this request, however often it is asked (400, 401, 404, ...)."""


@final
class ChatModel:
    """A handler that asks a model and writes its answer as it comes.

    ::

        async with ccm.model.ChatModel("http://127.0.0.1:8080/v1", model="qwen") as model:
            async with ccm.open_manager(model) as manager: ...

    What becomes of a bad day: 429 and 503 raise `ccm.Busy` with the server's Retry-After, other 4xx
    `ModelRefused` (no retry), everything else `ModelError`, which is retried; pieces of a failed attempt are
    void. A cancelled turn closes its request at once, so a server that looks at that stops computing.

    Args:
        url: of the API, as in "https://api.example.com/v1"; "/v1" is added to a URL without a path.
        model: the model's name.
        key: sent as a bearer token; appears in no error, log line or repr.
        system: what the model is told first; None for nothing.
        history: utterances of the conversation that are sent along, 0 to 100.
        context: characters of history and question together, >= 1; the oldest utterances are left out.
        max_tokens: asked of the server; None leaves it to the server.
        max_text: characters of a reply, >= 1; a longer one is cut and the request closed.
        max_bytes: bytes of a response, >= 1; more is refused.
        connect: seconds for a connection, > 0.
        first: seconds until the first piece, > 0, the connection and the wait for one included.
        between: seconds between two pieces, > 0. A slow reader of the reply does not count.
        connections: at most that many at a time, >= 1; further turns wait, so choose it >= `Config.limit`.
        limit: a name in `Config.provider_limits`: the block of `Turn.limit` around each request, so that a
            429 pauses all turns and not only the one that met it.
        options: further fields of the request, such as {"temperature": 0.2}.

    The reply's metadata has "model", "finish" (the server's reason, or "max_text"), and "usage" if told.

    Raises:
        ValueError, TypeError: an argument is not what it must be.
    """

    def __init__(
        self, url: str, *, model: str, key: str | None = None, system: str | None = None, history: int = 20,
        context: int = 32_000, max_tokens: int | None = None, max_text: int = 65_536,
        max_bytes: int = 8 << 20, connect: float = 5.0, first: float = 30.0, between: float = 15.0,
        connections: int = 100, limit: str | None = None, options: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.url = endpoint(url)
        self.model = text_of("model", model)
        self._secret = Secret(key)
        self.system = system
        self.history = whole("history", history, 0, 100)
        self.context = whole("context", context, 1)
        self.max_text = whole("max_text", max_text, 1)
        self.max_bytes = whole("max_bytes", max_bytes, 1)
        self.connect = seconds("connect", connect)
        self.first = seconds("first", first)
        self.between = seconds("between", between)
        self.connections = whole("connections", connections, 1)
        self.limit = limit
        self.options = dict(options or {})
        if max_tokens is not None:
            self.options["max_tokens"] = whole("max_tokens", max_tokens, 1)
        self._client: httpx2.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"<ChatModel {self.model!r} at {self.url}>"

    async def __aenter__(self) -> Self:
        """Make the client.

        Raises:
            ImportError: the extra is not installed.
            RuntimeError: it is open already.
        """
        if self._client is not None:
            raise RuntimeError(f"{self!r} is open already")
        try:
            import httpx2
        except ImportError as error:
            raise ImportError(f"ChatModel needs {error.name!r}; run: pip install 'ccm[model]'") from error
        headers = {"Accept": "text/event-stream, application/json", "Accept-Encoding": "identity"}
        if self._secret.value is not None:
            headers["Authorization"] = f"Bearer {self._secret.value}"
        self._client = httpx2.AsyncClient(
            headers=headers,
            # A proxy makes no sense for a server on this machine, whatever the environment says.
            trust_env=urlsplit(self.url).hostname not in _LOOPBACK,
            timeout=httpx2.Timeout(None, connect=self.connect),
            limits=httpx2.Limits(
                max_connections=self.connections, max_keepalive_connections=self.connections
            ),
        )
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        assert client is not None
        with trio.move_on_after(1, shield=True):
            await client.aclose()

    async def __call__(self, turn: Turn) -> Reply:
        """Answer one turn.

        Raises:
            Busy: the server said *later*.
            ModelRefused: it will not answer.
            ModelTimeout: it kept silent.
            ModelError: it failed otherwise, or hung up in the middle.
        """
        if self._client is None:
            raise RuntimeError(f"{self!r} is not open; put 'async with' around the manager")
        if self.limit is None:
            return await self._traced(turn, self._client)
        async with turn.limit(self.limit):
            return await self._traced(turn, self._client)

    async def _traced(self, turn: Turn, client: httpx2.AsyncClient) -> Reply:
        if (tracer := turn._tracer) is None:
            return await self._ask(turn, client, {})
        with tracer.span("model", self.model):
            return await self._ask(turn, client, tracer.outgoing())

    async def _ask(self, turn: Turn, client: httpx2.AsyncClient, headers: Mapping[str, str]) -> Reply:
        import httpx2

        entries = [entry for entry in await turn.history(self.history) if entry.turn_id != turn.id]
        body = {
            "model": self.model, "messages": self._messages(entries, turn.text), "stream": True,
        } | self.options  # fmt: skip
        answer = _Answer(self, turn)
        failure: ModelError | None = None
        with answer.patience:
            try:
                async with client.stream("POST", self.url, json=body, headers=headers) as response:
                    if response.status_code != 200:
                        raise await self._refusal(response)
                    await answer.read(response)
            except httpx2.TimeoutException as error:
                failure = ModelTimeout(self._clean(f"no connection to {self.url}: {type(error).__name__}"))
            except httpx2.HTTPError as error:
                if not answer.finished:  # else what went wrong came after the last word
                    failure = ModelError(self._clean(f"{self.url}: {type(error).__name__}: {error}"))
        if answer.patience.cancelled_caught and not answer.finished:
            failure = ModelTimeout(f"{self.url} sent nothing for {answer.silence:g} s")
        if failure is not None:
            # Not from the client's own error: that one holds the request, and the request holds the key.
            raise failure
        return answer.reply()

    def _messages(self, entries: Sequence[HistoryEntry], text: str) -> list[dict[str, str]]:
        """System prompt, as much of the history as fits, and the question. O(history)."""
        left, kept = self.context - len(text), list[dict[str, str]]()
        for entry in reversed(entries):
            left -= len(entry.text)
            if left < 0:
                break
            kept.append({"role": entry.role, "content": entry.text})
        first = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*first, *reversed(kept), {"role": "user", "content": text}]

    async def _refusal(self, response: httpx2.Response) -> Exception:
        """The error that a status other than 200 means."""
        status = response.status_code
        code, said = error_of(await beginning(response))
        text = self._clean(f"{self.url} answered {status}" + (f": {said}" if said else ""))
        if status in (429, 503, 529) and code != "insufficient_quota":
            busy = Busy(retry_after(response.headers.get("retry-after")))
            busy.add_note(text)
            return busy
        passing = status >= 500 or status in (408, 409, 425) or status < 300
        return ModelError(text) if passing else ModelRefused(text)

    def _clean(self, text: str) -> str:
        """`text` without the key: servers like to repeat it when they refuse it."""
        key = self._secret.value
        return text if not key else text.replace(key, "[key]")


@final
class _Answer:
    """One response as it comes in.

    Attributes:
        patience: its deadline is when the server has been silent for too long.
        silence: seconds that count as too long now.
        complete: nothing more is expected.
    """

    def __init__(self, model: ChatModel, turn: Turn) -> None:
        self._model = model
        self._turn = turn
        self._pieces: list[str] = []
        self._length = 0
        self._metadata: dict[str, Any] = {"model": model.model, "finish": None}
        self.complete = False
        self.silence = model.first
        self.patience = trio.CancelScope(deadline=trio.current_time() + model.first)

    @property
    def finished(self) -> bool:
        """Whether the last word is there."""
        return self._metadata["finish"] is not None

    def reply(self) -> Reply:
        """What was said. O(pieces)."""
        return Reply("".join(self._pieces), metadata=self._metadata, turn_id=self._turn.id)

    async def read(self, response: httpx2.Response) -> None:
        """Take in the whole response and say its pieces.

        Raises:
            ModelError: it is nonsense, or ends in the middle.
        """
        url, received, decoder = self._model.url, 0, Events()
        streams = response.headers.get("content-type", "").startswith("text/event-stream")
        plain = bytearray()
        # Raw: nothing is unpacked, so that the number of bytes is what was sent.
        async with reading(response) as chunks:
            async for chunk in chunks:
                received += len(chunk)
                if received > self._model.max_bytes:
                    raise ModelRefused(f"{url} sent more than max_bytes = {self._model.max_bytes}")
                if self.complete:
                    continue
                if not streams:
                    plain += chunk
                    continue
                for data in decoder.feed(chunk):
                    await self._take(data)
                    if self._metadata["finish"] == "max_text":
                        return
        if not streams:
            await self._take(plain.decode("utf-8", "replace"))
        if not self.finished:
            raise ModelError(f"{url} hung up in the middle of its answer")
        self.complete = True

    async def _take(self, data: str) -> None:  # noqa: ASYNC910 - the bytes were waited for
        """One event, or the body of a response that is no stream."""
        if data == "[DONE]":
            self._finish()
            return  # noqa: ASYNC910
        event = self._parse(data)
        piece = self._piece(event)
        if isinstance(event.get("usage"), dict):
            self._metadata["usage"] = event["usage"]
        if piece:
            room = self._model.max_text - self._length
            if len(piece) > room:
                piece, self._metadata["finish"] = piece[:room], "max_text"
            self._length += len(piece)
            self._pieces.append(piece)
            self.patience.deadline = math.inf  # whoever reads the reply may take his time
            await self._turn.send(piece)
            self.silence = self._model.between
            self.patience.deadline = trio.current_time() + self.silence
        if self.finished:
            self.patience.deadline = trio.current_time() + LINGER

    def _finish(self) -> None:
        self.complete = True
        if self._metadata["finish"] is None:
            self._metadata["finish"] = "stop"
        self.patience.deadline = trio.current_time() + LINGER

    def _parse(self, data: str) -> dict[str, Any]:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            # Not the text itself: what a model says belongs in no log.
            raise ModelError(f"{self._model.url} sent {len(data)} characters that are no JSON object")
        if event.get("error"):
            code, said = error_of(data.encode("utf-8", "replace"))
            raise ModelError(self._model._clean(f"{self._model.url} failed while answering: {code} {said}"))
        return event

    def _piece(self, event: dict[str, Any]) -> str:
        """The text in an event; notes why the model stopped, when it says so."""
        try:
            choice = event["choices"][0] if event["choices"] else {}
            content = (choice.get("delta") or choice.get("message") or {}).get("content") or ""
            finish = choice.get("finish_reason")
            if not isinstance(content, str) or not isinstance(finish, str | None):
                raise TypeError
        except (KeyError, TypeError, AttributeError, IndexError):
            raise ModelError(f"{self._model.url} sent an object that is no chat completion") from None
        if finish is not None:
            self._metadata["finish"] = finish
        # Half a surrogate pair is no text: it could be neither stored nor sent on.
        return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
