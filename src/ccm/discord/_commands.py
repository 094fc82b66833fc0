"""Slash commands: what they are called, what they take, and what Discord is told of them. Without I/O."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, final

import attrs

from ccm._checks import refuse
from ccm._manager import ConversationManager

from ._command_wording import Answer, friendly_answer
from ._models import Interaction

__all__ = [
    "MANAGE_GUILD", "Command", "Invocation", "Option", "WrongArgument", "arguments_of", "definitions", "same",
    "table",
]  # fmt: skip

MANAGE_GUILD: Final = 1 << 5
"""The permission to change a guild's settings."""
LASTS: Final = 840.0
"""Seconds that a command may take: its answer can be given for 15 minutes."""
MOST: Final = 100
MOST_OPTIONS: Final = 25
NAME: Final = re.compile(r"[-\w]{1,32}")
KINDS: Final[Mapping[type, int]] = {str: 3, int: 4, bool: 5, float: 10}
GUILD, BOT_CHAT = 0, 1
LARGEST: Final = 1 << 53
"""The largest number that Discord passes on."""
TOLD: Final = (
    "type", "name", "description", "options", "required", "min_value", "max_value", "min_length",
    "max_length", "default_member_permissions", "contexts",
)  # fmt: skip
"""What Discord is told of a command or an option."""


def _name(instance: Any, field: Any, value: Any) -> None:
    if not isinstance(value, str) or not NAME.fullmatch(value) or value != value.lower():
        raise refuse(field.name, value, "1 to 32 lower-case letters, digits, - and _")


def _description(instance: Any, field: Any, value: Any) -> None:
    if not isinstance(value, str) or not value.strip() or len(value) > 100:
        raise refuse(field.name, value, "a text of 1 to 100 characters")


def _kind(instance: Any, field: Any, value: Any) -> None:
    if value not in KINDS:
        raise refuse(field.name, value, "str, int, float or bool")


def _permissions(instance: Any, field: Any, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise refuse(field.name, value, "the bits of permissions as a whole number, such as 1 << 5, or None")


def _timeout(instance: Any, field: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= LASTS:
        raise refuse(field.name, value, f"seconds above 0 and up to {LASTS:g}: Discord takes no later answer")


def _tuple(options: Iterable[Option]) -> tuple[Option, ...]:
    return tuple(options)


@final
@attrs.frozen
class Option:
    """An argument of a slash command.

    Attributes:
        name: 1 to 32 lower-case letters, digits, - and _.
        description: what people read; 1 to 100 characters.
        kind: str, int, float or bool.
        required: whether the command needs it; such options come first.
        low, high: bounds of a number, or of the length of a text; None: no bound.
    """

    name: str = attrs.field(validator=_name)
    description: str = attrs.field(validator=_description)
    kind: type = attrs.field(default=str, validator=_kind)
    required: bool = attrs.field(default=False, kw_only=True)
    low: float | None = attrs.field(default=None, kw_only=True)
    high: float | None = attrs.field(default=None, kw_only=True)


@final
@attrs.frozen
class Invocation:
    """Somebody used a slash command: what its function gets.

    Attributes:
        interaction: what Discord said.
        manager: the one that the bridge serves.
        arguments: the values of the options that were given, by name; each is what its option asks for.
        wording: puts answers into words.
    """

    interaction: Interaction
    manager: ConversationManager
    arguments: Mapping[str, Any]
    wording: Callable[[Answer, Interaction], str] = attrs.field(default=friendly_answer, eq=False, repr=False)

    @property
    def conversation(self) -> str:
        """The conversation it was used in, which is the thread or channel."""
        return self.interaction.channel_id

    @property
    def user(self) -> str:
        """The id of who used it."""
        return self.interaction.user.id

    def say(self, kind: str, /, **values: Any) -> str:
        """An `Answer` in words, as the bridge puts it."""
        return self.wording(Answer(kind, values), self.interaction)


@final
@attrs.frozen
class Command:
    """A slash command of a `Bridge`.

    Discord is told at once that an answer will come; then `function` is called, in a task of its own. What it
    returns is the answer, in as many messages as it takes; "" or None is "Done.". When it raises, who asked
    is told that something went wrong, and the log has the error.

    Attributes:
        name: 1 to 32 lower-case letters, digits, - and _.
        description: what people read; 1 to 100 characters.
        function: called as `await function(invocation)`; cancelled when the bridge ends.
        options: its arguments, at most 25, those that are required first.
        hidden: whether only who asked sees the answer.
        permissions: bits of what a member must be allowed to do in a guild, such as `MANAGE_GUILD`, unless
            its administrators decide otherwise; such a command is there in guilds alone. None: for everybody.
        timeout: seconds that the function may take, up to 840.
    """

    name: str = attrs.field(validator=_name)
    description: str = attrs.field(validator=_description)
    function: Callable[[Invocation], Awaitable[str | None]]
    options: tuple[Option, ...] = attrs.field(default=(), converter=_tuple, kw_only=True)
    hidden: bool = attrs.field(default=True, kw_only=True)
    permissions: int | None = attrs.field(default=None, validator=_permissions, kw_only=True)
    timeout: float = attrs.field(default=LASTS, validator=_timeout, kw_only=True)

    def __attrs_post_init__(self) -> None:
        names = [option.name for option in self.options]
        if len(names) > MOST_OPTIONS or len(set(names)) != len(names):
            raise refuse("options", names, f"at most {MOST_OPTIONS} with different names")
        if sorted(self.options, key=lambda option: not option.required) != list(self.options):
            raise refuse("options", names, "in order: those that are required come first")


def table(commands: Sequence[Command]) -> dict[str, Command]:
    """Commands by name.

    Raises:
        ValueError: there are too many, or two have one name.
        TypeError: one is no command.
    """
    for command in commands:
        if not isinstance(command, Command):
            raise TypeError(f"commands must hold values of Command, got {command!r:.100}")
    found = {command.name: command for command in commands}
    if len(found) != len(commands) or len(found) > MOST:
        raise refuse("commands", [command.name for command in commands], f"at most {MOST} of different names")
    return found


@final
class WrongArgument(ValueError):
    """An argument is missing, or not what it must be; `answer` is for who used the command."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


def arguments_of(command: Command, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given to a command, which may be anything; what it does not know is left out. O(options).

    Raises:
        WrongArgument: something is missing, or not what it must be.
    """
    missing = [option.name for option in command.options if option.required and option.name not in given]
    if missing:
        raise WrongArgument(Answer("missing", {"option": missing[0]}))
    known = (option for option in command.options if option.name in given)
    return {option.name: _checked(option, given[option.name]) for option in known}


def _checked(option: Option, value: Any) -> Any:
    kind, low, high = option.kind, option.low, option.high
    if kind in (int, float):
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST
        fits = number and (kind is float or value == int(value))
    else:
        fits = type(value) is kind
    if fits and kind is not bool:
        size = len(value) if kind is str else value
        fits = (low is None or low <= size) and (high is None or size <= high)
    if not fits:
        values = {"option": option.name, "kind": kind, "low": low, "high": high, "given": value}
        raise WrongArgument(Answer("wrong", values))
    return kind(value)


def definitions(commands: Mapping[str, Command]) -> list[dict[str, Any]]:
    """What Discord is to be told of commands."""
    return [
        {
            "type": 1, "name": command.name, "description": command.description,
            "options": [_definition(option) for option in command.options],
            "default_member_permissions": None if command.permissions is None else str(command.permissions),
            "contexts": [GUILD, BOT_CHAT] if command.permissions is None else [GUILD],
        }
        for command in commands.values()
    ]  # fmt: skip


def _definition(option: Option) -> dict[str, Any]:
    ends = ("min_length", "max_length") if option.kind is str else ("min_value", "max_value")
    bounds = {name: end for name, end in zip(ends, (option.low, option.high), strict=True) if end is not None}
    return {
        "type": KINDS[option.kind], "name": option.name, "description": option.description,
        "required": option.required, **bounds,
    }  # fmt: skip


def same(told: Sequence[Mapping[str, Any]], known: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the commands that Discord knows are those it is to be told of."""
    return sorted(map(repr, map(_bare, told))) == sorted(map(repr, map(_bare, known)))


def _bare(value: Any) -> Any:
    """A description without what is not told, and without what says the same as nothing."""
    if isinstance(value, list):
        return [_bare(each) for each in value]
    if not isinstance(value, Mapping):
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return {
        key: _bare(value[key])
        for key in TOLD
        if key in value and value[key] is not None and value[key] is not False and value[key] != []
    }
