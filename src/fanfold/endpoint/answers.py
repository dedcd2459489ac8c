"""Answers as they go over the wire. Pure, but for the clock in `Date`, by which AWS's SDKs set theirs."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from fanfold.endpoint.exchange import Response

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


def encoded(response: Response, *, keep: bool, bare: bool = False) -> bytes:
    """An answer; `keep` says whether the connection stays open, `bare` leaves the body out, as HEAD asks for."""
    lines = [_status_line(response.status), _date(int(time.time()))]
    lines += [f"{name}: {value}" for name, value in response.headers.items() if name != "connection"]
    lines.append(f"content-length: {len(response.body)}")
    if not keep:
        lines.append("connection: close")
    head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
    return head if bare else head + response.body


@lru_cache(maxsize=64)
def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return f"date: {formatdate(second, usegmt=True)}"
