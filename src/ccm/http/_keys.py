"""API keys: who asks, what they may do, and for which tenant. Only fingerprints are kept.

A key is 256 random bits. Nobody can guess one, so a fast hash is as good here as a slow one: scrypt
protects passwords that people choose, and would cost a server 50 ms of CPU per request, which is an
invitation to overload it. Each key starts with a public id, so that finding it takes one look and one
comparison in constant time, however many keys there are.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, final

import attrs

from .._checks import refuse

SCOPES = ("chat", "read", "admin")
ALL_SCOPES = frozenset(SCOPES)

_SHAPE = re.compile(r"ccm_([A-Za-z0-9]{8})_([A-Za-z0-9_-]{43})", re.ASCII)
_NAME = re.compile(r"[^\x00-\x1f\x7f\"\\]{1,100}")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_NOBODY = "0" * 64  # no key has this fingerprint; strangers are compared with it, which takes as long


@final
@attrs.frozen
class Caller:
    """Who sent a request.

    Attributes:
        name: of the key; "local" when there are no keys.
        tenant: the only tenant whose data it may touch; None is every tenant.
        scopes: what it may do: "chat" (send, cancel), "read" (look), "admin" (all of it).
        key: public id of the key; "" without keys. Callers with equal rights are equal whatever their keys.
    """

    name: str
    tenant: str | None
    scopes: frozenset[str]
    key: str = attrs.field(default="", eq=False)

    def may(self, scope: str) -> bool:
        """Whether it may do what `scope` stands for."""
        return scope in self.scopes or "admin" in self.scopes


LOCAL = Caller("local", None, ALL_SCOPES)


def _check_name(instance: Any, field: Any, value: Any) -> None:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise refuse(
            field.name, value, "1 to 100 characters without quotes, backslashes and control characters"
        )


def _check_tenant(instance: Any, field: Any, value: Any) -> None:
    if value is not None:
        _check_name(instance, field, value)


def _scopes(value: Any) -> Any:
    return frozenset([value] if isinstance(value, str) else value)


def _check_scopes(instance: Any, field: Any, value: frozenset[str]) -> None:
    if not value or not value <= ALL_SCOPES:
        raise refuse(field.name, sorted(map(str, value)), "one or more of " + ", ".join(SCOPES))


def _check_hex(instance: Any, field: Any, value: Any) -> None:
    if not isinstance(value, str) or re.fullmatch(r"[0-9a-f]{64}", value) is None or value == _NOBODY:
        raise refuse(field.name, "...", "the SHA-256 of a key, 64 hexadecimal digits")


@final
@attrs.frozen(kw_only=True)
class Key:
    """What is kept of a key: all but the key.

    Args:
        id: its public part, 8 letters and digits.
        name: whose it is, for logs and audits.
        scopes: one or more of "chat", "read", "admin".
        tenant: the only tenant it may touch, or None for all.
        sha256: fingerprint of the whole key, hexadecimal.
        created: when it was made, UTC.
    """

    id: str = attrs.field()
    name: str = attrs.field(validator=_check_name)
    scopes: frozenset[str] = attrs.field(converter=_scopes, validator=_check_scopes)
    tenant: str | None = attrs.field(default=None, validator=_check_tenant)
    sha256: str = attrs.field(repr=False, validator=_check_hex)
    created: datetime = attrs.field(factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @id.validator
    def _check_id(self, field: Any, value: Any) -> None:
        if not isinstance(value, str) or re.fullmatch(r"[A-Za-z0-9]{8}", value) is None:
            raise refuse(field.name, value, "8 letters and digits")

    @property
    def caller(self) -> Caller:
        """Who uses this key."""
        return Caller(self.name, self.tenant, self.scopes, self.id)

    def _lines(self) -> Iterator[str]:
        yield "[[key]]"
        yield f'id = "{self.id}"'
        yield f'name = "{self.name}"'
        yield "scopes = [" + ", ".join(f'"{scope}"' for scope in SCOPES if scope in self.scopes) + "]"
        if self.tenant is not None:
            yield f'tenant = "{self.tenant}"'
        yield f'sha256 = "{self.sha256}"'
        yield f"created = {self.created.isoformat()}"
        yield ""


Stamp = tuple[int, int, int, int]


def stamp_of(file: Path) -> Stamp:
    """What differs when a file was changed or replaced: its mode, inode, time and size.

    Raises:
        OSError: it cannot be looked at.
    """
    found = file.stat()
    return found.st_mode, found.st_ino, found.st_mtime_ns, found.st_size


def _fingerprint(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@final
class Keys:
    """A set of keys, immutable. `Keys.load(path)` reads a file that `ccm keys new` wrote.

    Args:
        keys: the keys; no two may have the same id or name.

    Attributes:
        file: where they were read; a server looks there for newer ones. None: nowhere.
        stamp: what `stamp_of(file)` was then.
    """

    __slots__ = ("_by_id", "file", "stamp")

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self.file: Path | None = None
        self.stamp: Stamp | None = None
        self._by_id: dict[str, Key] = {}
        names = set()
        for key in keys:
            if key.id in self._by_id or key.name in names:
                raise refuse("keys", key.name, "keys whose names and ids are all different")
            self._by_id[key.id] = key
            names.add(key.name)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    @staticmethod
    def make(name: str, scopes: Iterable[str] = ("chat",), tenant: str | None = None) -> tuple[str, Key]:
        """A new key, to be shown once to whoever will use it, and what is kept of it."""
        public = "".join(secrets.choice(_ALPHABET) for _ in range(8))
        secret = f"ccm_{public}_{secrets.token_urlsafe(32)}"
        return secret, Key(id=public, name=name, scopes=scopes, tenant=tenant, sha256=_fingerprint(secret))

    def with_key(self, key: Key) -> Keys:
        """These and one more."""
        return Keys((*self, key))

    def without(self, name: str) -> Keys:
        """These without the one of this name or id.

        Raises:
            KeyError: there is none.
        """
        left = [key for key in self if name not in (key.name, key.id)]
        if len(left) == len(self):
            raise KeyError(name)
        return Keys(left)

    def caller(self, secret: str) -> Caller | None:
        """Whose key this is, or None. Takes as long for a wrong key as for a right one."""
        shape = _SHAPE.fullmatch(secret)
        key = None if shape is None else self._by_id.get(shape[1])
        known = _NOBODY if key is None else key.sha256
        if hmac.compare_digest(_fingerprint(secret), known) and key is not None:
            return key.caller
        return None

    def still(self, caller: Caller) -> bool:
        """Whether the key with which this caller came is here, and gives it the same rights. O(1)."""
        key = self._by_id.get(caller.key)
        return key is not None and key.caller == caller

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file of keys.

        Raises:
            OSError: it cannot be read.
            ConfigError: it is no file of keys, or others than its owner could change it.
        """
        file = Path(path)
        stamp = stamp_of(file)  # before it is read: what is written meanwhile is a change
        mode = stamp[0]
        if os.name == "posix" and mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise refuse("keys file", str(file), f"writable by its owner alone (chmod 600 {file})")
        try:
            data = tomllib.loads(file.read_text(encoding="utf-8"))
            if set(data) - {"key"}:
                raise ValueError(f"unknown entries {sorted(set(data) - {'key'})!r}")
            keys = cls(Key(**entry) for entry in data.get("key", ()))
        except (TypeError, ValueError) as error:
            reason = _SHAPE.sub("ccm_...", str(error))  # somebody may have pasted a key into it
            raise refuse("keys file", str(file), f"a file that `ccm keys` wrote ({reason})") from None
        keys.file, keys.stamp = file.absolute(), stamp
        return keys

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them to a file, whole or not at all; only its owner may read it."""
        file = Path(path)
        text = "# API keys of ccm: fingerprints, not the keys. Written by `ccm keys`.\n\n"
        text += "\n".join(line for key in self for line in key._lines())
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.name, suffix=".new")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as new:
                new.write(text)
                new.flush()
                os.fsync(new.fileno())
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def __repr__(self) -> str:
        return f"<Keys: {', '.join(repr(key.name) for key in self) or 'none'}>"
