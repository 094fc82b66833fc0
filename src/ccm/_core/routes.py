"""Which handlers a message goes to: `Route` and `Router`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Self, TypeVar

import attrs

from .._checks import refuse
from .._config import Config
from .._message import Message, OnBusy, Priority, Reply, check_key, check_on_busy, check_priority
from .._policies import RetryPolicy
from .classify import SUPPORT_WORDS, VIOLATIONS, by_content, matches

Handler = Callable[[Any], Awaitable[str | Reply | None]]
PriorityRule = Callable[[Message, Any], Priority]
H = TypeVar("H", bound=Handler)


def check_handler(name: str, handler: Any) -> None:
    """Raise TypeError unless `handler` is an async function or an object with an async `__call__`."""
    call = getattr(handler, "__call__", None)  # noqa: B004 - its kind matters, not only its existence
    inner = getattr(handler, "func", handler)
    # Calling a class makes an object, whatever its objects can do.
    if inspect.isclass(handler) or not any(inspect.iscoroutinefunction(f) for f in (handler, call, inner)):
        raise TypeError(f"{name} must be an async function taking a turn, got {handler!r}; use 'async def'")


@attrs.frozen(kw_only=True)
class Route:
    """A named handler with its rule, priority and limits; made by `Router.route`."""

    name: str
    handler: Handler
    when: Callable[[Message], bool] | None = None
    priority: Priority | PriorityRule = Priority.NORMAL
    ordered: bool = True
    answers: bool = True
    timeout: float = 30.0
    retry: RetryPolicy = attrs.field(factory=RetryPolicy)
    max_wait: float | None = None
    rate_limited: bool = True
    fallback: Handler | None = None
    busy: OnBusy = OnBusy.ENQUEUE
    settle: float = 0.0
    max_settle: float = 5.0
    edits: bool = False

    def priority_of(self, message: Message, look_up: Callable[[str], Any]) -> Priority:
        """The class of a turn for `message`: its own, or what the route says of it and its session.

        What a message says of itself is about its answer: it does not make moderation less urgent, nor
        analytics more.
        """
        if message.priority is not None and self.answers:
            return message.priority
        rule = self.priority
        if isinstance(rule, Priority):
            return rule
        return check_priority(rule(message, look_up(message.conversation)))


class Router:
    """Sends each message to one answering route and to every side route that matches.

    Routes are tried in the order in which they were added. A message starts a turn on every side route
    that matches (`answers=False`) and on the first answering route that matches; its outcome is that of
    the answering turn, or of the first side turn when no answering route matches.
    """

    def __init__(self) -> None:
        self._routes: dict[str, dict[str, Any]] = {}

    def route(
        self, name: str, *, when: Callable[[Message], bool] | None = None,
        priority: Priority | PriorityRule = Priority.NORMAL, ordered: bool = True, answers: bool = True,
        timeout: float | None = None, retry: RetryPolicy | None = None, max_wait: float | None = None,
        rate_limited: bool = True, fallback: Handler | None = None, busy: OnBusy | None = None,
        settle: float | None = None, max_settle: float | None = None, edits: bool = False,
    ) -> Callable[[H], H]:  # fmt: skip
        """Decorator that adds an async handler under `name`.

        Args:
            name: unique, 1 to 512 characters; statistics are kept under it.
            when: rule of a message; None matches every message.
            priority: the class of its turns, or a function of message and session.
            ordered: False lets turns of one conversation overlap.
            answers: False makes it a side route, beside the answering one.
            timeout: seconds one attempt may take, > 0; None takes `Config.timeout`.
            retry: None takes `Config.retry`.
            max_wait: seconds a turn may wait, > 0; None takes `Config.max_wait` of its class.
            rate_limited: False exempts the route from the per-user rate limit.
            fallback: async handler that answers for shed, expired and failed turns.
            busy: what a message meets in a busy conversation; None takes `Config.on_busy`.
            settle: quiet seconds before a merged turn starts, >= 0; None takes `Config.settle`.
            max_settle: seconds after which it starts anyway, >= 0; None takes `Config.max_settle`.
            edits: True gives a side route a turn also when a message is given a new text that matches.

        Raises:
            ValueError: the name is taken or a value is out of range.
            TypeError: the handler or the fallback is not async.
        """
        check_key("name", name)
        if name in self._routes:
            raise ValueError(f"name {name!r} is taken by another route; choose a new one")
        for field, value in (("timeout", timeout), ("max_wait", max_wait)):
            if value is not None and not (isinstance(value, (int, float)) and value > 0):
                raise refuse(field, value, "seconds > 0 or None")
        for field, value in (("settle", settle), ("max_settle", max_settle)):
            if value is not None and not (isinstance(value, (int, float)) and 0 <= value < float("inf")):
                raise refuse(field, value, "seconds >= 0 or None")
        if retry is not None and not isinstance(retry, RetryPolicy):
            raise refuse("retry", retry, "a RetryPolicy or None")
        if edits and answers:
            raise refuse("edits", edits, "False for an answering route: its turn starts again by itself")
        if when is not None and (not callable(when) or inspect.iscoroutinefunction(when)):
            raise TypeError(f"when must be a plain function of a message, got {when!r}; see ccm.matches")
        if not callable(priority):
            priority = check_priority(priority)
        if fallback is not None:
            check_handler("fallback", fallback)
        settings = {
            "when": when, "priority": priority, "ordered": ordered, "answers": answers, "timeout": timeout,
            "retry": retry, "max_wait": max_wait, "rate_limited": rate_limited, "fallback": fallback,
            "busy": None if busy is None else check_on_busy(busy), "settle": settle, "max_settle": max_settle,
            "edits": edits,
        }  # fmt: skip

        def add(handler: H) -> H:
            check_handler(f"handler of route {name!r}", handler)
            self._routes[name] = settings | {"handler": handler}
            return handler

        return add

    @classmethod
    def default(
        cls, chat: Handler, *, moderation: Handler | None = None, analytics: Handler | None = None,
        fallback: Handler | None = None, violations: Iterable[str] = VIOLATIONS,
        keywords: Iterable[str] = SUPPORT_WORDS,
    ) -> Self:  # fmt: skip
        """A router for a chat bot: `chat` answers, moderation and analytics run beside it.

        Three routes, to which more may be added:

        - "moderation" gets what matches `violations`, CRITICAL, even while the conversation is busy, and
          whatever the rate limit says: nobody escapes it by flooding, nor by editing what was harmless.
        - "chat" answers everything, in order: HIGH what mentions somebody, asks or has one of `keywords`,
          else NORMAL. A violation makes its answer no more urgent.
        - "analytics" gets everything that is not refused by the rate limit, LOW, and is the first to be shed.

        Args:
            chat: async handler that answers.
            moderation: async handler, or None for none.
            analytics: async handler, or None for none.
            fallback: async handler that answers for turns of "chat" that were shed, expired or failed.
            violations: regular expressions, searched anywhere in the text, whatever their case.
            keywords: words that ask for support.

        Raises:
            TypeError: a handler is not async.
            ValueError: moderation has no violations to look for.
            re.error: a violation is no regular expression.
        """
        router, patterns = cls(), tuple(violations)
        if moderation is not None:
            if not patterns:
                raise ValueError(f"violations must not be empty with moderation, got {violations!r}")
            bad = matches("|".join(f"(?:{pattern})" for pattern in patterns))
            router.route(
                "moderation", when=bad, priority=Priority.CRITICAL, ordered=False, answers=False,
                rate_limited=False, edits=True,
            )(moderation)  # fmt: skip
        urgency = by_content(violation=None, keywords=keywords)
        router.route("chat", priority=urgency, fallback=fallback)(chat)
        if analytics is not None:
            router.route("analytics", priority=Priority.LOW, ordered=False, answers=False)(analytics)
        return router

    def routes(self, config: Config) -> tuple[Route, ...]:
        """The routes with what they leave open taken from `config`."""
        return tuple(
            Route(
                name=name,
                **settings
                | {
                    "timeout": settings["timeout"] or config.timeout,
                    "retry": settings["retry"] or config.retry,
                    "busy": settings["busy"] or config.on_busy,
                    "settle": config.settle if settings["settle"] is None else settings["settle"],
                    "max_settle": config.max_settle
                    if settings["max_settle"] is None
                    else settings["max_settle"],
                },
            )
            for name, settings in self._routes.items()
        )


def select(routes: tuple[Route, ...], message: Message) -> tuple[Route | None, list[Route]]:
    """The route whose turn decides the outcome, and the side routes besides. O(routes)."""
    main: Route | None = None
    sides: list[Route] = []
    for route in routes:
        if route.answers and main is not None:
            continue
        if route.when is None or route.when(message):
            if route.answers:
                main = route
            else:
                sides.append(route)
    if main is None and sides:
        main = sides.pop(0)
    return main, sides
