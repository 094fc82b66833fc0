"""Who may use an endpoint, and whose data it may show."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import HTTPConnection

from ._keys import Caller
from ._problems import ProblemError


def caller_of(connection: HTTPConnection) -> Caller:
    """Who sent this request, or opened this WebSocket: the guard has noted it."""
    caller = connection.scope.get("ccm.caller")
    if not isinstance(caller, Caller):  # an application without its guard is open to nobody
        raise ProblemError(401, "a key is needed.", reason="unauthorised")
    return caller


def check_scope(connection: HTTPConnection, scope: str) -> Caller:
    """Who sent this request, if it may do `scope`; 403 to others."""
    caller = caller_of(connection)
    if not caller.may(scope):
        raise ProblemError(403, f"this key may not do that: it lacks {scope!r}.", reason="scope")
    return caller


def _dependency(scope: str) -> Callable[[HTTPConnection], Caller]:
    # Async, or FastAPI runs it in a thread.
    async def needs_scope(connection: HTTPConnection) -> Caller:
        return check_scope(connection, scope)

    return needs_scope  # type: ignore[return-value]


_NEEDS = {scope: _dependency(scope) for scope in ("chat", "read", "admin")}


def needs(scope: str) -> Callable[[HTTPConnection], Caller]:
    """The FastAPI dependency that lets in only who may do `scope`: `Depends(needs("read"))`.

    Answers 403 to others. In an endpoint it is the `Caller`.
    """
    return _NEEDS[scope]


def tenant_of(caller: Caller, requested: str | None) -> str:
    """The tenant a request is about: the one it names, or the caller's own; "" when there is neither.

    Raises:
        ProblemError: 403, the caller is bound to another tenant.
    """
    if caller.tenant is None:
        return requested or ""
    if requested is not None and requested != caller.tenant:
        raise ProblemError(403, "this key belongs to another tenant.", reason="tenant")
    return caller.tenant


def check_unbound(caller: Caller, why: str) -> None:
    """403 to a key of one tenant, for what concerns all of them; `why` is the sentence that says so."""
    if caller.tenant is not None:
        raise ProblemError(403, why, reason="tenant")


def check_figures(caller: Caller) -> None:
    """403 to a key of one tenant, for figures of the whole service."""
    check_unbound(caller, "these figures are of all tenants together.")


def visible(caller: Caller, tenant: str) -> bool:
    """Whether the caller may know that something of this tenant exists; to others it is a 404."""
    return caller.tenant is None or caller.tenant == tenant
