"""Routes: what may be registered, and which of them a message goes to."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccm import Config, Message, Priority, RetryPolicy, Router
from ccm._core.routes import Route, select


async def answer(turn: Any) -> str:
    return "answer"


def say(text: str = "hello", **fields: Any) -> Message:
    return Message("c", "u", text, **fields)


def nobody(conversation: str) -> None:
    """A table of sessions that knows none."""


def starts_with(letter: str) -> Any:
    return lambda message: message.text.startswith(letter)


def made(router: Router, config: Config | None = None) -> tuple[Route, ...]:
    return router.routes(config or Config())


# -- which routes ----------------------------------------------------------------------------------


@given(
    kinds=st.lists(st.tuples(st.booleans(), st.sampled_from(["", "h", "x"])), max_size=6),
)
def test_the_first_matching_answering_route_and_every_matching_side_route(
    kinds: list[tuple[bool, str]],
) -> None:
    router = Router()
    for number, (answers, letter) in enumerate(kinds):
        when = starts_with(letter) if letter else None
        router.route(str(number), when=when, answers=answers)(answer)
    main, sides = select(made(router), say("hello"))
    matching = [(str(n), answers) for n, (answers, letter) in enumerate(kinds) if letter in ("", "h")]
    answering = [name for name, answers in matching if answers]
    beside = [name for name, answers in matching if not answers]
    if answering:
        assert main is not None
        assert main.name == answering[0]
        assert [route.name for route in sides] == beside
    else:
        assert ([main.name] if main else []) + [route.name for route in sides] == beside


def test_routes_behind_the_answering_one_are_not_asked() -> None:
    asked = []

    def note(name: str) -> Any:
        def rule(message: Message) -> bool:
            asked.append(name)
            return True

        return rule

    router = Router()
    for name in ("first", "second"):
        router.route(name, when=note(name))(answer)
    select(made(router), say())
    assert asked == ["first"]


def test_nothing_matches() -> None:
    router = Router()
    router.route("never", when=lambda message: False)(answer)
    assert select(made(router), say()) == (None, [])
    assert select((), say()) == (None, [])


# -- priority --------------------------------------------------------------------------------------


def test_the_messages_own_priority_goes_before_the_routes() -> None:
    router = Router()
    router.route("chat", priority=Priority.LOW)(answer)
    (route,) = made(router)
    assert route.priority_of(say(), nobody) is Priority.LOW
    assert route.priority_of(say(priority=Priority.CRITICAL), nobody) is Priority.CRITICAL


def test_a_rule_gives_the_priority_and_sees_the_session() -> None:
    router = Router()

    def rule(message: Message, session: Any) -> Priority:
        return Priority.HIGH if session == "known" else Priority.LOW

    router.route("chat", priority=rule)(answer)
    (route,) = made(router)
    assert route.priority_of(say(), {"c": "known"}.get) is Priority.HIGH
    assert route.priority_of(say(), nobody) is Priority.LOW


@pytest.mark.parametrize(("given", "error"), [(7, ValueError), ("high", TypeError), (None, TypeError)])
def test_a_rule_that_returns_no_priority_is_told_so(given: Any, error: type[Exception]) -> None:
    router = Router()
    router.route("chat", priority=lambda message, session: given)(answer)
    with pytest.raises(error, match="priority"):
        made(router)[0].priority_of(say(), nobody)


# -- registering -----------------------------------------------------------------------------------


def test_what_a_route_leaves_open_comes_from_the_configuration() -> None:
    config = Config(timeout=7.0, retry=RetryPolicy(attempts=2))
    router = Router()
    router.route("open")(answer)
    router.route("own", timeout=3.0, retry=RetryPolicy(attempts=5), max_wait=1.0)(answer)
    first, second = made(router, config)
    assert (first.timeout, first.retry, first.max_wait) == (7.0, config.retry, None)
    assert (second.timeout, second.retry.attempts, second.max_wait) == (3.0, 5, 1.0)


def test_the_decorator_returns_the_handler_and_keeps_the_order() -> None:
    router = Router()
    assert router.route("b")(answer) is answer
    assert router.route("a")(answer) is answer
    assert [route.name for route in made(router)] == ["b", "a"]


def test_names_are_unique() -> None:
    router = Router()
    router.route("chat")(answer)
    with pytest.raises(ValueError, match="'chat' is taken"):
        router.route("chat")
    assert len(made(router)) == 1


@pytest.mark.parametrize("name", ["", "x" * 513])
def test_names_have_a_length(name: str) -> None:
    with pytest.raises(ValueError, match="name must"):
        Router().route(name)


@pytest.mark.parametrize("field", ["timeout", "max_wait"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "3"])
def test_times_are_seconds_above_zero(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field} must be seconds > 0"):
        Router().route("chat", **{field: value})


class Callable:
    async def __call__(self, turn: Any) -> str:
        return "answer"


@pytest.mark.parametrize("handler", [answer, Callable(), functools.partial(answer)])
def test_handlers_are_async(handler: Any) -> None:
    router = Router()
    router.route("chat")(handler)
    assert made(router)[0].handler is handler


@pytest.mark.parametrize("handler", [lambda turn: "answer", "answer", None, Callable])
def test_what_is_not_async_is_no_handler(handler: Any) -> None:
    router = Router()
    with pytest.raises(TypeError, match=r"handler of route 'chat' must be an async function.*async def"):
        router.route("chat")(handler)
    assert made(router) == ()


def test_a_fallback_is_async_too() -> None:
    with pytest.raises(TypeError, match="fallback must be an async function"):
        Router().route("chat", fallback=lambda turn: "sorry")  # type: ignore[arg-type,return-value]
