"""Unpacks what the gateway sends, with a bound on what comes out: 48 kB of zlib can be 50 MB of text.

One context lives as long as its connection, so after an error nothing more can be read from it.
"""

from __future__ import annotations

import zlib
from typing import Any, Protocol, final

__all__ = ["Inflater", "UnpackError", "ZlibInflater", "ZstdInflater", "inflater"]

SUFFIX = b"\x00\x00\xff\xff"
"""Ends each message of a zlib stream: what Z_SYNC_FLUSH leaves."""


class UnpackError(Exception):
    """It is broken or too large; the connection cannot be read any further."""


class Inflater(Protocol):
    """Turns frames into messages."""

    def feed(self, data: bytes) -> bytes | None:
        """The message that `data` completes, or None when more must come.

        Raises:
            UnpackError: it cannot be unpacked.
        """
        ...


@final
class ZlibInflater:
    """`compress=zlib-stream`.

    Args:
        limit: bytes of one message at most, packed and unpacked.
    """

    __slots__ = ("_context", "_held", "_limit", "_size")

    # _held  frames of a message whose end has not come; _size  their bytes, at most _limit

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._context = zlib.decompressobj()
        self._held: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes | None:
        """The message that `data` completes, or None. O(bytes)."""
        if not data:
            return None
        if self._held or not data.endswith(SUFFIX):
            data = self._join(data)
            if not data:
                return None
        elif len(data) > self._limit:
            raise UnpackError(f"a message is larger than {self._limit} bytes")
        try:
            text = self._context.decompress(data, self._limit)
        except zlib.error as error:
            raise UnpackError(f"this is no zlib stream: {error}") from None
        # `unconsumed_tail` is what there was no room for. It can be empty although output is held back, when
        # the limit is hit exactly: no message is of exactly that length, so a full one is one too large.
        if self._context.unconsumed_tail or len(text) >= self._limit:
            raise UnpackError(f"a message unpacks to {self._limit} bytes or more")
        if self._context.eof:
            raise UnpackError("the zlib stream has ended")
        return text

    def _join(self, data: bytes) -> bytes:
        """All that is held if `data` ends a message, nothing otherwise."""
        self._size += len(data)
        if self._size > self._limit:
            raise UnpackError(f"a message is larger than {self._limit} bytes")
        self._held.append(data)
        # The suffix may itself be cut in two by frames.
        tail = data if len(data) >= len(SUFFIX) else b"".join(self._held[-len(SUFFIX) :])
        if not tail.endswith(SUFFIX):
            return b""
        whole = b"".join(self._held)
        self._held.clear()
        self._size = 0
        return whole


@final
class ZstdInflater:
    """`compress=zstd-stream`: each frame is flushed, so each is a message.

    Args:
        limit: bytes of one message at most, packed and unpacked.
        context: a decompressor with the interface of `compression.zstd.ZstdDecompressor`; None makes one.

    Raises:
        RuntimeError: this Python has no zstd, and `backports.zstd` is not installed.
    """

    __slots__ = ("_context", "_errors", "_limit")

    def __init__(self, limit: int, context: Any = None) -> None:
        zstd = _zstd()
        self._errors: tuple[type[Exception], ...] = (zstd.ZstdError, EOFError)
        self._limit = limit
        self._context = zstd.ZstdDecompressor() if context is None else context

    def feed(self, data: bytes) -> bytes | None:
        """The message of this frame; None for an empty one. O(bytes)."""
        if len(data) > self._limit:
            raise UnpackError(f"a message is larger than {self._limit} bytes")
        try:
            text = self._context.decompress(data, self._limit)
        except self._errors as error:
            raise UnpackError(f"this is no zstd stream: {error}") from None
        if len(text) >= self._limit or not (self._context.needs_input or self._context.eof):
            raise UnpackError(f"a message unpacks to {self._limit} bytes or more")
        if self._context.eof:
            raise UnpackError("the zstd stream has ended")
        return bytes(text) or None


def _zstd() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            from backports import zstd  # type: ignore[import-not-found,no-redef,unused-ignore]
        except ImportError:
            raise RuntimeError(
                "compress='zstd-stream' needs Python 3.14 or the package backports.zstd; "
                "install it, or take 'zlib-stream'"
            ) from None
    return zstd


def inflater(compress: str | None, limit: int) -> Inflater | None:
    """A fresh context for one connection; None when nothing is packed."""
    if compress is None:
        return None
    return ZlibInflater(limit) if compress == "zlib-stream" else ZstdInflater(limit)
