"""Requests read within bounds: nothing that a client sends is kept without a limit."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from fanfold import limits
from fanfold.endpoint import faults
from fanfold.endpoint.exchange import Request

MAX_BODY: Final = 3 * limits.MAX_REQUEST_BYTES + 256 * 1024
"""Bytes. Messages of 1 MiB, at most three bytes for one as forms and JSON escape them, and room for names and ids."""
ALL_BODIES: Final = 64 * 1024 * 1024
"""Bytes of all requests' bodies that are being read or worked on at one time."""
_SMALL: Final = 64 * 1024
"""Bytes. Bodies up to this size don't count: whoever fills the room for large ones leaves the others alone."""
_DIGITS: Final = 15
"""Of a length that is looked at: to read a number of any length can take long."""
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")


class Room:
    """Counts the bytes of what is large, and has no place for more than `limit` of them.

    Bodies that come, heads, and answers that their clients are slow to take: what many clients can make a server keep.
    """

    def __init__(self, limit: int = ALL_BODIES) -> None:
        self._free = limit

    def take(self, size: int) -> None:
        """Make so many bytes ours. Raises SqsError where there is no room."""
        if size > self._free:
            raise faults.busy("Too many large requests at once; try again")
        self._free -= size

    def owe(self, size: int) -> None:
        """Make so many bytes ours that are there already, in a room that may be full."""
        self._free -= size

    def check(self) -> None:
        """Raises SqsError where there is no room for an answer that may be large."""
        if self._free <= 0:
            raise faults.busy("Too many answers wait for their clients; try again")

    def give(self, size: int) -> None:
        """Give them back."""
        self._free += size


class Body:
    """A request's body as it comes, and the room that it takes until `release`."""

    __slots__ = ("_parts", "_room", "_size", "_taken")

    def __init__(self, room: Room) -> None:
        self._room = room
        self._parts: list[bytes] = []
        self._size = 0
        self._taken = 0

    def add(self, part: bytes) -> None:
        """Keep one more part. Raises SqsError where the body is too large, or there is no room for it now."""
        self._size += len(part)
        if self._size > _SMALL:
            self._make_room()
        self._parts.append(part)

    def whole(self) -> bytes:
        """All that came."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def release(self) -> None:
        """Forget it, and give its room back. Idempotent."""
        if self._taken:
            self._room.give(self._taken)
            self._taken = 0
        self._parts.clear()

    def _make_room(self) -> None:
        if self._size > MAX_BODY:
            raise faults.too_large(MAX_BODY)
        self._room.take(self._size - self._taken)
        self._taken = self._size


def check_head(head: Request) -> None:
    """Raises SqsError where a head has a Host that isn't one, or says that its body is too large."""
    headers = head.headers
    if not _is_host(headers.get("host", "")):
        raise faults.malformed("The Host header must be a host name or address, with or without a port")
    length = headers.get("content-length", "0")
    if len(length) > _DIGITS or not length.isdecimal() or int(length) > MAX_BODY:
        raise faults.too_large(MAX_BODY)


@lru_cache(maxsize=16)
def _is_host(host: str) -> bool:
    return _HOST.fullmatch(host) is not None
