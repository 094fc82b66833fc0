"""Bodies of requests, checked as Discord does; what it refuses is an `ApiError` with its code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, final

MENTION_KINDS: Final = frozenset({"roles", "users", "everyone"})
COMMAND_NAME: Final = re.compile(r"^[-_'\w]{1,32}$")
MAX_CONTENT, MAX_NONCE, MAX_EMBEDS = 2000, 25, 10
MAX_TIMEOUT, MAX_DELETE = 28 * 86_400, 604_800

MESSAGES: Final = {
    10003: (404, "Unknown Channel"),
    10004: (404, "Unknown Guild"),
    10007: (404, "Unknown Member"),
    10008: (404, "Unknown Message"),
    10013: (404, "Unknown User"),
    10014: (400, "Unknown Emoji"),
    10015: (404, "Unknown Webhook"),
    10062: (404, "Unknown interaction"),
    40060: (400, "Interaction has already been acknowledged."),
    40333: (403, "internal network error"),
    50003: (403, "Cannot execute action on a DM channel"),
    50005: (403, "Cannot edit a message authored by another user"),
    50006: (400, "Cannot send an empty message"),
    50013: (403, "Missing Permissions"),
    50016: (400, "Provided too few or too many messages to delete. Must provide at least 2 and at most 100."),
    50027: (401, "Invalid Webhook Token"),
    50034: (400, "You can only bulk delete messages that are under 14 days old."),
    50035: (400, "Invalid Form Body"),
    50109: (400, "The request body contains invalid JSON."),
}


@final
class ApiError(Exception):
    """What Discord answers in place of success."""

    def __init__(self, code: int, errors: Any = None) -> None:
        status, message = MESSAGES[code]
        super().__init__(f"{code}: {message} {errors or ''}")
        self.status = status
        self.body: dict[str, Any] = {"message": message, "code": code}
        if errors is not None:
            self.body["errors"] = errors


def invalid(field: str, code: str, message: str) -> ApiError:
    """50035 for one field, `a.b` for one inside another."""
    errors: dict[str, Any] = {"_errors": [{"code": code, "message": message}]}
    for name in reversed(field.split(".")):
        errors = {name: errors}
    return ApiError(50035, errors)


def an_object(body: Any, field: str = "_body") -> dict[str, Any]:
    if not isinstance(body, dict):
        raise invalid(field, "DICT_TYPE_CONVERT", "Only dictionaries may be used in a DictType")
    return body


def snowflake(value: Any, field: str) -> str:
    if not str(value).isascii() or not str(value).isdigit() or isinstance(value, bool):
        raise invalid(field, "NUMBER_TYPE_COERCE", f'Value "{value}" is not snowflake.')
    return str(value)


def number(value: Any, field: str, low: int, high: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid(field, "NUMBER_TYPE_COERCE", f'Value "{value}" is not int.')
    if value < low:
        raise invalid(field, "NUMBER_TYPE_MIN", f"int value should be greater than or equal to {low}.")
    if value > high:
        raise invalid(field, "NUMBER_TYPE_MAX", f"int value should be less than or equal to {high}.")
    return value


# -- messages --------------------------------------------------------------------------------------


def message(body: Any, *, edit: bool = False, field: str = "") -> dict[str, Any]:
    """The body of a message that is to be sent or changed."""
    told = an_object(body)
    _content(told.get("content"), field)
    mentions(told.get("allowed_mentions"), field)
    nonce(told.get("nonce"), field)
    for name in ("tts", "enforce_nonce"):
        if not isinstance(told.get(name, False), (bool, type(None))):
            raise invalid(field + name, "BOOLEAN_TYPE_CONVERT", "Must be either true or false.")
    embeds = told.get("embeds") or []
    if not isinstance(embeds, list) or not all(isinstance(embed, dict) for embed in embeds):
        raise invalid(field + "embeds", "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType")
    if len(embeds) > MAX_EMBEDS:
        raise invalid(field + "embeds", "BASE_TYPE_MAX_LENGTH", f"Must be {MAX_EMBEDS} or fewer in length.")
    reference = told.get("message_reference")
    if reference is not None:
        snowflake(an_object(reference, field + "message_reference").get("message_id"),
                  field + "message_reference.message_id")  # fmt: skip
    full = told.get("embeds") or told.get("components") or told.get("sticker_ids") or told.get("poll")
    blank = not str(told.get("content") or "").strip() and not full
    if blank and (not edit or "content" in told):
        raise ApiError(50006)
    return told


def _content(value: Any, field: str) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise invalid(field + "content", "BASE_TYPE_CONVERT", "Could not interpret as string.")
    if len(value) > MAX_CONTENT:
        text = f"Must be {MAX_CONTENT} or fewer in length."
        raise invalid(field + "content", "BASE_TYPE_MAX_LENGTH", text)


def nonce(value: Any, field: str = "") -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise invalid(field + "nonce", "NONCE_TYPE_INVALID", "Nonce must be a string or an integer.")
    if isinstance(value, str) and len(value) > MAX_NONCE:
        raise invalid(
            field + "nonce", "NONCE_TYPE_TOO_LONG", f"Nonce must be {MAX_NONCE} characters or fewer."
        )


def mentions(value: Any, field: str = "") -> None:
    """`allowed_mentions`."""
    name = field + "allowed_mentions"
    if value is None:
        return
    told = an_object(value, name)
    parse = told.get("parse", [])
    if not isinstance(parse, list) or not all(isinstance(kind, str) for kind in parse):
        raise invalid(name + ".parse", "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType")
    if not set(parse) <= MENTION_KINDS:
        raise invalid(name + ".parse", "BASE_TYPE_CHOICES", f"Value must be one of {sorted(MENTION_KINDS)}.")
    for kind in ("users", "roles"):
        listed = told.get(kind) or []
        if not isinstance(listed, list) or len(listed) > 100:
            raise invalid(f"{name}.{kind}", "BASE_TYPE_MAX_LENGTH", "Must be 100 or fewer in length.")
        for each in listed:
            snowflake(each, f"{name}.{kind}")
        if listed and kind in parse:
            text = f"{kind} and parse are mutually exclusive"
            raise invalid(name, "MESSAGE_ALLOWED_MENTIONS_PARSE_EXCLUSIVE", text)
    if not isinstance(told.get("replied_user", False), (bool, type(None))):
        raise invalid(name + ".replied_user", "BOOLEAN_TYPE_CONVERT", "Must be either true or false.")


# -- the rest --------------------------------------------------------------------------------------


def time_out(value: Any, now: float) -> str | None:
    """`communication_disabled_until`."""
    if value is None:
        return None
    field = "communication_disabled_until"
    try:
        until = datetime.fromisoformat(value)
        far = until.timestamp() - now > MAX_TIMEOUT + 1
    except (TypeError, ValueError):
        raise invalid(
            field, "DATE_TIME_TYPE_PARSE", f'Could not parse "{value}". Should be ISO8601.'
        ) from None
    if until.tzinfo is None:
        raise invalid(field, "DATE_TIME_TYPE_PARSE", f'Could not parse "{value}". Should be ISO8601.')
    if far:
        raise invalid(field, "GUILD_MEMBER_TIMEOUT_TOO_LONG", "Can not be more than 28 days in the future.")
    return str(value)


def command(body: Any, index: int) -> dict[str, Any]:
    """One slash command of a list."""
    told = an_object(body, str(index))
    name, text = told.get("name"), told.get("description", "")
    kind = told.get("type", 1)
    if not isinstance(name, str) or not COMMAND_NAME.match(name) or (kind == 1 and name != name.lower()):
        raise invalid(f"{index}.name", "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")
    if kind == 1 and not (isinstance(text, str) and 1 <= len(text) <= 100):
        raise invalid(f"{index}.description", "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 100 in length.")
    for number_, option in enumerate(told.get("options") or []):
        where = f"{index}.options.{number_}"
        option = an_object(option, where)
        if not isinstance(option.get("type"), int) or not COMMAND_NAME.match(str(option.get("name", ""))):
            raise invalid(where + ".name", "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")
        if not 1 <= len(str(option.get("description", ""))) <= 100:
            raise invalid(where + ".description", "BASE_TYPE_BAD_LENGTH",
                          "Must be between 1 and 100 in length.")  # fmt: skip
    return told


def emoji(text: str) -> str:
    """A reaction: `👍` or `name:id`."""
    name, _, key = text.partition(":")
    if key:
        if not key.isdigit() or not name:
            raise ApiError(10014)
    elif not text or text.isascii() or len(text) > 16:
        raise ApiError(10014)
    return text


def page(query: Mapping[str, str]) -> tuple[str, int, int]:
    """Which messages: `("after", id, limit)` and so on; `("", 0, limit)` for the newest."""
    limit = number(query.get("limit", "50"), "limit", 1, 100)
    given = [name for name in ("after", "before", "around") if name in query]
    if len(given) > 1:
        raise invalid(given[1], "BASE_TYPE_CHOICES", "Only one of after, before and around may be given.")
    if not given:
        return "", 0, limit
    return given[0], int(snowflake(query[given[0]], given[0])), limit
