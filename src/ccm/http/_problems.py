"""Errors as RFC 9457 problem details, with ccm's `reason` and when to try again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Self, final

import attrs
import trio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from .._errors import (
    BusyConversation,
    CcmError,
    Duplicate,
    Expired,
    HandlerFailed,
    NoRoute,
    Outcome,
    RateLimited,
    Reason,
    Rejected,
    Shed,
    StorageError,
    Superseded,
    TurnCancelled,
)
from .._outcome import Cancelled, Failed

MEDIA_TYPE = "application/problem+json"


@final
@attrs.frozen(kw_only=True)
class Problem:
    """A problem detail.

    Attributes:
        status: of the response.
        detail: one sentence for people; never what somebody wrote.
        reason: one word for programs, or None.
        retry_after: seconds, or None.
        extra: further members, like `dead_letter`.
    """

    status: int
    detail: str
    reason: str | None = None
    retry_after: float | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict)

    def body(self, instance: str | None = None) -> dict[str, Any]:
        """The JSON object."""
        members: dict[str, Any] = {
            "type": "about:blank" if self.reason is None else f"urn:ccm:problem:{self.reason}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if instance is not None:
            members["instance"] = instance
        if self.reason is not None:
            members["reason"] = self.reason
        if self.retry_after is not None:
            members["retry_after"] = self.retry_after
        return members | dict(self.extra)

    def headers(self) -> dict[str, str]:
        """Headers that belong to it."""
        if self.retry_after is None:
            return {}
        return {"Retry-After": str(math.ceil(self.retry_after))}

    def response(self, instance: str | None = None) -> JSONResponse:
        """The response."""
        return JSONResponse(self.body(instance), self.status, self.headers(), MEDIA_TYPE)


BROKEN = Problem(status=500, detail="something went wrong here.")


class ProblemError(Exception):
    """Raised in an endpoint: the response is this problem.

    `raise ProblemError(404, "there is no such conversation.", reason="not_found")`
    """

    def __init__(
        self, status: int, detail: str, *, reason: str | None = None, retry_after: float | None = None,
        **extra: Any,
    ) -> None:  # fmt: skip
        super().__init__(status, detail)
        self.problem = Problem(
            status=status, detail=detail, reason=reason, retry_after=retry_after, extra=extra
        )

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """An error that carries this problem."""
        self = cls(problem.status, problem.detail)
        self.problem = problem
        return self


def missing(what: str) -> ProblemError:
    """404: there is none, or it is another tenant's."""
    return ProblemError(404, f"there is no such {what}.", reason="not_found")


_STATUS: tuple[tuple[type[BaseException] | type[Outcome], int], ...] = (
    (RateLimited, 429),
    (BusyConversation, 409),
    (Duplicate, 409),
    (NoRoute, 422),
    (Rejected, 503),
    (Shed, 503),
    (Superseded, 409),
    (Expired, 504),
    (HandlerFailed, 502),
    (Failed, 502),
    (TurnCancelled, 409),
    (Cancelled, 409),
    (StorageError, 503),
)
_DEFAULT_WAIT = 1.0  # seconds, where a 503 has nothing better to say


def problem_of(error: BaseException | Outcome) -> Problem | None:
    """The problem that an error or an outcome of ccm is; None when it is none of ccm's.

    What a handler raised is not told: it may hold anything.
    """
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
    if status is None:
        return None
    extra: dict[str, Any] = {}
    reason, wait = _reason(error), getattr(error, "retry_after", None)
    if isinstance(error, (HandlerFailed, Failed)):
        extra["dead_letter"] = error.dead_letter
        detail = "the handler failed for good; the message is kept as a dead letter."
    elif isinstance(error, (TurnCancelled, Cancelled)):
        extra["by"] = error.by
        detail = f"the turn was cancelled by {error.by!r}."
    elif isinstance(error, (Rejected, Shed)):
        detail = error.reason.sentence
    elif isinstance(error, StorageError):
        detail = "the storage could not do what was asked; sending the same id again is safe."
    elif isinstance(error, Superseded):
        extra["by"] = error.by
        detail = "a newer message of the conversation took its place."
    else:
        detail = "the message was not answered within its time."
    if status == 503 and wait is None:
        wait = _DEFAULT_WAIT
    return Problem(status=status, detail=detail, reason=reason, retry_after=wait, extra=extra)


def _reason(error: BaseException | Outcome) -> str:
    if isinstance(error, (Rejected, Shed)):
        return error.reason.value
    if isinstance(error, StorageError):
        return Reason.STORAGE.value
    if isinstance(error, (HandlerFailed, Failed)):
        return "handler_failed"
    if isinstance(error, (TurnCancelled, Cancelled)):
        return "cancelled"
    return error.name if isinstance(error, Outcome) else "failed"


def _places(errors: Sequence[Any]) -> list[dict[str, str]]:
    """Which fields, and what is wrong with them; not what stood there."""
    return [
        {"field": ".".join(str(part) for part in error["loc"]), "message": str(error["msg"])}
        for error in errors[:20]
    ]


def install(app: FastAPI) -> None:
    """Let every error of ccm and of the framework leave the application as a problem."""

    async def own(request: Request, error: Exception) -> JSONResponse:
        problem = error.problem if isinstance(error, ProblemError) else problem_of(error)
        if problem is None:
            raise error
        return problem.response(request.url.path)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        errors = _places(error.errors())
        problem = Problem(
            status=422, detail="the request is not what it must be.", reason="invalid",
            extra={"errors": errors},
        )  # fmt: skip
        return problem.response(request.url.path)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        problem = Problem(status=error.status_code, detail=str(error.detail))
        response = problem.response(request.url.path)
        response.headers.update(error.headers or {})
        return response

    async def value(request: Request, error: Exception) -> JSONResponse:
        problem = Problem(
            status=422, detail="the request holds a value that is not allowed.", reason="invalid"
        )
        return problem.response(request.url.path)

    async def closed(request: Request, error: Exception) -> JSONResponse:
        problem = Problem(status=503, detail=Reason.DRAINING.sentence, reason="draining", retry_after=1.0)
        return problem.response(request.url.path)

    async def broken(request: Request, error: Exception) -> JSONResponse:
        # The framework raises the error again after this; the guard notes it.
        return BROKEN.response(request.url.path)

    app.add_exception_handler(Exception, broken)
    for kind in (ProblemError, CcmError):
        app.add_exception_handler(kind, own)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ValueError, value)
    app.add_exception_handler(trio.ClosedResourceError, closed)
