"""The frames of the WebSocket: what a client may send, and how it is checked."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError

from ._json import json_error
from ._models import ChatIn, Key, Short, Tenant, Text, _In

_WHOLE = 2**53  # what JSON's readers agree on; longer numbers could not even be written back
Ref = Annotated[str, Field(max_length=200)] | Annotated[int, Field(ge=-_WHOLE, le=_WHOLE)] | None


class Hello(_In):
    """The first frame; with `resume`, go on where another socket was cut off."""

    type: Literal["hello"]
    resume: str | None = Field(None, max_length=100)
    last_seen: int = Field(0, ge=0, le=_WHOLE)


class Say(ChatIn):
    """A message."""

    type: Literal["message"]
    ref: Ref = None


class Edit(_In):
    """A new text for a message."""

    type: Literal["edit"]
    id: Key
    text: Text
    tenant: Tenant | None = None
    ref: Ref = None


class Retract(_In):
    """A message is taken back."""

    type: Literal["retract"]
    id: Key
    tenant: Tenant | None = None
    ref: Ref = None


class Stop(_In):
    """All turns of a conversation end."""

    type: Literal["stop"]
    conversation: Key
    ref: Ref = None


class Typing(_In):
    """Somebody is writing; others in the conversation are told."""

    type: Literal["typing"]
    conversation: Key
    user: Short


class Ping(_In):
    """Is anybody there?"""

    type: Literal["ping"]
    ref: Ref = None


Frame = Hello | Say | Edit | Retract | Stop | Typing | Ping
_FRAMES: TypeAdapter[Frame] = TypeAdapter(Annotated[Frame, Field(discriminator="type")])
_TYPES = [kind.model_fields["type"].annotation.__args__[0] for kind in get_args(Frame)]


class BadFrame(ValueError):
    """It is no frame; `detail` says why, without what it held."""

    def __init__(self, detail: str, ref: Any = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.ref = ref


_REF = re.compile(r'"ref"\s*:\s*(?:"([^"\\]{0,200})"|(-?[0-9]{1,15})(?![0-9.eE]))', re.ASCII)


def ref_of(text: str) -> str | int | None:
    """The `ref` of a frame that is refused unread: found, not parsed, for a fraction of the cost. O(length).

    It may be one inside of the frame's metadata. That concerns nobody but the client.
    """
    found = _REF.search(text)
    if found is None:
        return None
    return int(found[2]) if found[1] is None else found[1]


def _reason(error: ValidationError) -> str:
    """What is wrong first, in words of ours: names and values that the client made up are not among them."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    kind, place = first["type"], first["loc"]
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return f"type must be one of {', '.join(_TYPES)}"
    if kind == "extra_forbidden":
        return f"{place[0]}: it has a member that is not known"
    words = str(first["msg"])
    return f"{'.'.join(str(part) for part in place)}: {words}" if place else words


def parse(data: str | bytes, max_depth: int) -> Frame:
    """The frame in a text message. O(length).

    Raises:
        BadFrame: it is none.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    wrong = json_error(raw, max_depth)
    if wrong is not None:
        raise BadFrame(wrong)
    try:
        return _FRAMES.validate_json(raw)
    except ValidationError as error:
        raise BadFrame(_reason(error)) from None
    except RecursionError:
        raise BadFrame("it is nested too deeply") from None
