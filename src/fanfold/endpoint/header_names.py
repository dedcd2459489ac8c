"""Names of headers in lower case, which is how the rest of the endpoint knows them."""

from __future__ import annotations

from typing import Final

_MOST: Final = 256
_LONGEST: Final = 64
"""Bytes."""


class HeaderNames(dict[bytes, str]):
    """Look a name up as it was sent. Clients send the same ones each time, so they are kept: few, and short ones."""

    def __missing__(self, name: bytes) -> str:
        lower = name.decode("latin-1").lower()
        if len(self) < _MOST and len(name) <= _LONGEST:
            self[name] = lower
        return lower
