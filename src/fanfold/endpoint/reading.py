"""Requests from ASGI, read within bounds: nothing that a client sends is kept without a limit."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any, Final

from fanfold import limits
from fanfold.endpoint import faults
from fanfold.endpoint.exchange import Request

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MAX_BODY: Final = 3 * limits.MAX_REQUEST_BYTES + 256 * 1024
"""Bytes. Messages of 1 MiB, at most three bytes for one as forms and JSON escape them, and room for names and ids."""
ALL_BODIES: Final = 64 * 1024 * 1024
"""Bytes of all requests' bodies that are being read or worked on at one time."""
_SMALL: Final = 64 * 1024
"""Bytes. Bodies up to this size don't count: whoever fills the room for large ones leaves the others alone."""
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(:[0-9]{1,5})?")


class ClientGoneError(Exception):
    """The client went away: there is nobody to answer."""


class Room:
    """Counts the bytes of large bodies, and has no place for more than `limit` of them."""

    def __init__(self, limit: int = ALL_BODIES) -> None:
        self._free = limit

    def take(self, size: int) -> None:
        """Make so many bytes ours. Raises SqsError where there is no room."""
        if size > self._free:
            raise faults.busy("Too many large requests at once; try again")
        self._free -= size

    def give(self, size: int) -> None:
        """Give them back."""
        self._free += size


def head_of(scope: Scope) -> Request:
    """A request without its body.

    Raises:
        SqsError: a Host that isn't one, or a body that is said to be too large.
    """
    headers = _joined(scope["headers"])
    host, port = scope.get("server") or ("localhost", None)
    headers.setdefault("host", f"{host}:{port}" if port else host)
    if not _HOST.fullmatch(headers["host"]):
        raise faults.malformed("The Host header must be a host name or address, with or without a port")
    if _length(headers) > MAX_BODY:
        raise faults.too_large(MAX_BODY)
    return Request(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=b"",
        scheme=scope["scheme"],
    )


async def whole(head: Request, receive: Receive, room: Room) -> tuple[Request, int]:
    """The request with its body, and the bytes that it takes of the `room`, which the caller gives back.

    Raises:
        SqsError: the body is too large, or there is no room for it now.
        ClientGoneError: the client went away.
    """
    body = bytearray()
    taken = 0
    try:
        async for part in _parts(receive):
            body += part
            taken += _make_room(len(body), taken, room)
    except BaseException:
        room.give(taken)
        raise
    return replace(head, body=bytes(body)), taken


async def gone(receive: Receive) -> None:
    """Return when the client goes away, after its request was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _make_room(size: int, taken: int, room: Room) -> int:
    """Take what a body of this size needs beyond what was taken for it; answers how much that was."""
    if size > MAX_BODY:
        raise faults.too_large(MAX_BODY)
    more = size - taken if size > _SMALL else 0
    room.take(more)
    return more


async def _parts(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _joined(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _length(headers: Mapping[str, str]) -> int:
    said = headers.get("content-length", "0")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 16 else MAX_BODY + 1  # noqa: PLR2004
