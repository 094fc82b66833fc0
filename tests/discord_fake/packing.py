"""Packs what the gateway sends: one context for each connection, flushed after each message."""

from __future__ import annotations

import zlib
from typing import Any


class Packer:
    """`how` is the query's `compress`: `"zlib-stream"`, `"zstd-stream"` or nothing."""

    def __init__(self, how: str) -> None:
        self._zlib = zlib.compressobj() if how == "zlib-stream" else None
        self._zstd: Any = _zstd_context() if how == "zstd-stream" else None

    def pack(self, text: str) -> str | bytes:
        """One frame."""
        if self._zlib is not None:
            return self._zlib.compress(text.encode()) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        if self._zstd is not None:
            return bytes(self._zstd.compress(text.encode(), mode=self._zstd.FLUSH_BLOCK))
        return text

    def broken(self) -> str | bytes:
        """A frame that cannot be read; a client that unpacks can read no other after it, either."""
        if self._zlib is None and self._zstd is None:
            return "{"
        return b"\xff" * 16 + b"\x00\x00\xff\xff"


def _zstd_context() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from backports import zstd  # type: ignore[import-not-found,no-redef,unused-ignore]
    return zstd.ZstdCompressor()
