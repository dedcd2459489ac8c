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
    text = _opening(response.status, int(time.time()))
    for name, value in response.headers.items():
        text += f"{name}: {value}\r\n"
    if response.request_id:
        text += f"x-amzn-requestid: {response.request_id}\r\n"
    end = "" if keep else "connection: close\r\n"
    text += f"content-length: {len(response.body)}\r\n{end}\r\n"
    head = text.encode("latin-1", "replace")
    return head if bare else head + response.body


@lru_cache(maxsize=16)
def _opening(status: int, second: int) -> str:
    """What is the same for all answers of a second."""
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ndate: {formatdate(second, usegmt=True)}\r\n"
