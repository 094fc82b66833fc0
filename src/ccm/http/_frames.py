"""The frames of the WebSocket: what a client may send, and how it is checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from ._json import json_error
from ._models import ChatIn, Key, Short, Tenant, Text, _In

Ref = Annotated[str, Field(max_length=200)] | int | None


class Hello(_In):
    """The first frame; with `resume`, go on where another socket was cut off."""

    type: Literal["hello"]
    resume: str | None = Field(None, max_length=100)
    last_seen: int = Field(0, ge=0)


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


class BadFrame(ValueError):
    """It is no frame; `detail` says why, without what it held."""

    def __init__(self, detail: str, ref: Any = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.ref = ref


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
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadFrame(f"{place}: {first['msg']}" if place else first["msg"]) from None
    except RecursionError:
        raise BadFrame("it is nested too deeply") from None
