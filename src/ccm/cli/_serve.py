"""`ccm serve`: the HTTP front end and the dashboard, with a handler, a model, or the built-in responder."""

from __future__ import annotations

import argparse
import errno
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs

import ccm
from ccm import AlertRules, Config, ConfigError, RateLimit, StorageError

from ._answerer import BUILT_IN, Answerer, named, open_answerer
from ._console import OK, UsageError, factor, run_trio, whole
from ._logging import LEVELS, configure

MEMORY = ":memory:"


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve",
        help="the HTTP front end and the dashboard: chat with a bot in the browser",
        description="Serves a bot over HTTP, with a page to chat with it and to watch the manager. Without a "
        "handler and without --model a small built-in program answers. SIGTERM and Ctrl-C end it in good "
        "order: what is accepted is answered within `drain` seconds.",
    )
    parser.add_argument(
        "handler", nargs="?", metavar="MODULE:NAME",
        help="who answers: an async function that takes a turn, a ccm.Router, or a function without "
        "arguments that returns an async context manager which yields one; also found in this folder",
    )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", metavar="HOST", help="address (default 127.0.0.1)")
    parser.add_argument(
        "--port",
        type=whole(0, 65535),
        default=8000,
        metavar="N",
        help="port, 0 is any free one (default 8000)",
    )
    parser.add_argument(
        "--storage", default="ccm.db", metavar="FILE",
        help=f"SQLite file that keeps messages and conversations, made if there is none; {MEMORY} keeps "
        "nothing (default ccm.db in this folder)",
    )  # fmt: skip
    parser.add_argument(
        "--keys", metavar="FILE",
        help="API keys, made with 'ccm keys new FILE'; needed for every --host but this machine's own; "
        "read again when it changes",
    )  # fmt: skip
    parser.add_argument(
        "--origin", action="append", default=[], metavar="URL",
        help="a page whose scripts may use this server, as https://chat.example.org; may be repeated",
    )  # fmt: skip
    parser.add_argument("--config", metavar="TOML", help="settings of the manager; see 'ccm config'")
    parser.add_argument(
        "--rate", type=whole(0), metavar="N",
        help="requests that one key, or without keys one address, may make in 10 s; 0: any number "
        "(default 60)",
    )  # fmt: skip
    parser.add_argument(
        "--streams", type=whole(1, 50_000), metavar="N",
        help="WebSockets and event streams that may be open at a time (default 500)",
    )  # fmt: skip
    _add_model(parser)
    parser.add_argument("--log", choices=("text", "json"), default="text", help="log lines (default text)")
    parser.add_argument("--log-level", choices=LEVELS, default="info", metavar="LEVEL", help="(default info)")
    parser.add_argument(
        "--log-text", action="store_true", help="also log what errors say, which may be what people wrote"
    )
    parser.add_argument(
        "--trace", action="store_true", help="make OpenTelemetry spans with the global provider"
    )
    parser.add_argument("--json", action="store_true", help="print the URL as a JSON object, nothing else")
    parser.set_defaults(command=serve)


def _add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a model that answers (any server with OpenAI's chat completions)")
    group.add_argument("--model", metavar="URL", help="as http://127.0.0.1:8080/v1")
    group.add_argument("--model-name", default="default", metavar="NAME", help="its name (default 'default')")
    group.add_argument(
        "--model-key-env", metavar="VARIABLE", help="environment variable that holds its API key"
    )
    group.add_argument("--system", metavar="TEXT", help="what it is told first")
    group.add_argument(
        "--pace", type=factor, default=0.04, metavar="S",
        help="without a model: seconds between two words of the built-in responder (default 0.04)",
    )  # fmt: skip


def serve(arguments: argparse.Namespace) -> int:
    """Run the command."""
    _check_packages()
    answerer = _answerer(arguments)
    try:
        config = Config.load(arguments.config)
    except ConfigError as error:
        raise UsageError(str(error)) from None
    settings = _settings(arguments)
    configure(arguments.log, arguments.log_level, text=arguments.log_text)
    job = Job(
        answerer=answerer, config=config, settings=settings, trace=arguments.trace, json=arguments.json,
        storage=None if arguments.storage == MEMORY else arguments.storage,
    )  # fmt: skip
    try:
        run_trio(partial(_run, job))
    except StorageError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(_why_not(error, settings)) from None
    return OK


def _check_packages() -> None:
    """Find out now, and not at the first request, what is missing."""
    for name in ("anycorn", "fastapi", "prometheus_client"):
        try:
            __import__(name)
        except ModuleNotFoundError as error:
            raise UsageError(
                f"ccm serve needs the package {error.name!r}, which is not installed; "
                "run: pip install 'ccm[serve]'"
            ) from None


def _answerer(arguments: argparse.Namespace) -> Answerer:
    if arguments.handler is not None:
        if arguments.model is not None:
            raise UsageError(f"give a handler or --model, not both, got {arguments.handler!r} as well")
        return named(arguments.handler)
    if arguments.model is None:
        from ccm.responder import router

        return Answerer(BUILT_IN, router(pace=arguments.pace))
    try:
        import httpx2  # noqa: F401 - only whether it is there
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--model needs the package {error.name!r}, which is not installed; run: pip install 'ccm[serve]'"
        ) from None
    from ccm.model import ChatModel

    key = None
    if arguments.model_key_env is not None:
        key = os.environ.get(arguments.model_key_env)
        if not key:
            raise UsageError(f"--model-key-env: the variable {arguments.model_key_env!r} is not set")
    try:
        model = ChatModel(arguments.model, model=arguments.model_name, key=key, system=arguments.system)
    except ValueError as error:
        raise UsageError(f"--model: {error}") from None
    return Answerer(f"the model {arguments.model_name!r} at {model.url}", model)


def _settings(arguments: argparse.Namespace) -> Any:
    """`ccm.http.Settings` of the arguments.

    Raises:
        UsageError: they cannot be; the text says why.
    """
    from ccm.http import Keys, Settings

    some: dict[str, Any] = {}
    if arguments.rate is not None:
        some["rate"] = RateLimit(arguments.rate, per=10) if arguments.rate else None
    if arguments.streams is not None:
        some["max_streams"] = arguments.streams
        some["max_connections"] = max(1000, 2 * arguments.streams)  # for requests besides
    try:
        keys = None if arguments.keys is None else Keys.load(arguments.keys)
        return Settings(
            host=arguments.host, port=arguments.port, keys=keys, origins=tuple(arguments.origin),
            log_text=arguments.log_text, **some,
        )  # fmt: skip
    except FileNotFoundError:
        raise UsageError(
            f"there is no file {arguments.keys!r}; make one with 'ccm keys new {arguments.keys} --name me'"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None


@attrs.frozen(kw_only=True)
class Job:
    """What to serve."""

    answerer: Answerer
    config: Config
    settings: Any
    storage: str | None
    trace: bool
    json: bool


async def _run(job: Job) -> None:
    """Serve until a signal comes and everything is drained."""
    from ccm.http import run

    await run(_open(job), job.settings, started=partial(_tell, job))


@asynccontextmanager
async def _open(job: Job) -> AsyncIterator[ccm.ConversationManager]:
    """The manager, and around it whoever answers: a client is closed when no turn needs it any more."""
    async with (
        open_answerer(job.answerer) as handler,
        ccm.open_manager(handler, config=job.config, storage=job.storage, alerts=AlertRules()) as manager,
    ):
        if job.trace:
            from ccm import telemetry

            telemetry.trace(manager)
        yield manager


def _tell(job: Job, url: str) -> None:
    """Say where it is and what to do next, on stdout."""
    kept = None if job.storage is None else os.path.abspath(job.storage)
    if job.json:
        print(json.dumps({"url": url, "answers": job.answerer.name, "storage": kept}), flush=True)
        return
    print(f"ccm is serving {url}")
    print("  open that in a browser to chat and to watch, or:")
    print(f"  curl {url}/api/v1/chat -H 'Content-Type: application/json' "
          """-d '{"user": "ada", "text": "hello"}'""")  # fmt: skip
    print(f"  answers come from {job.answerer.name}")
    print(
        f"  messages and conversations are kept in {kept}"
        if kept
        else "  nothing is kept: --storage FILE does"
    )
    print("  Ctrl-C ends it", flush=True)


def _why_not(error: OSError, settings: Any) -> str:
    where = f"{settings.host}:{settings.port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program; choose another --port, or --port 0 for any free one"
    if error.errno == errno.EACCES:
        return (
            f"this user may not listen on {where}; choose a --port above 1023 (a proxy can stand before it)"
        )
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{settings.host!r} is no address of this machine; choose another --host"
    return f"cannot serve on {where}: {error}"
