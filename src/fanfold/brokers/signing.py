"""AWS Signature Version 4 for the requests of the SQS JSON protocol.

Of a signature's five nested HMACs four change once a day: with the day's key kept, a signature costs much less
than by botocore's signer. `tests/test_brokers_signing.py` compares what the two say.
"""

from __future__ import annotations

import hmac
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final
from urllib.parse import quote

CONTENT_TYPE: Final = "application/x-amz-json-1.0"
TARGET: Final = "AmazonSQS."
"""What precedes the action in the header `X-Amz-Target`."""

_SIGNED: Final = "content-type;host;x-amz-date;x-amz-target;x-amzn-query-mode"
_SIGNED_TEMPORARY: Final = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target;x-amzn-query-mode"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Credentials at one moment. Their secrets show in no text."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """What is the same for all signatures of one second with the same keys."""

    second: int
    keys: Keys
    stamp: str
    scope: str
    key: bytes


class Signer:
    """Writes signed request heads for one endpoint. May be used from several threads: it only ever replaces a value."""

    def __init__(self, *, target: str, host: str, path: str, region: str, unsigned: str = "") -> None:
        """Sign for an endpoint.

        Args:
            target: what stands in the request line: the path, or for a plain proxy the whole URL.
            host: the endpoint's host, with its port unless that is the scheme's own.
            path: the endpoint's path, `/` for most.
            region: the region that the signature is for.
            unsigned: header lines that go with each request and are no part of its signature.
        """
        self._target = target
        self._host = host
        self._path = quote(path, safe="/~")
        self._region = region
        self._unsigned = f"{unsigned}accept-encoding:identity\r\nuser-agent:fanfold\r\n\r\n"
        self._last: _Moment | None = None

    def head(self, action: str, body: bytes, *, keys: Keys, at: float) -> bytes:
        """The signed head of a request: request line and headers, with the empty line behind them.

        Args:
            action: of the SQS API, `SendMessageBatch` for instance.
            body: the request's.
            keys: to sign with.
            at: the time of the request, in seconds since the epoch. AWS refuses more than five minutes of difference.
        """
        moment = self._moment(keys, int(at))
        token, signed = (f"x-amz-security-token:{keys.token}\n", _SIGNED_TEMPORARY) if keys.token else ("", _SIGNED)
        headers = (
            f"content-type:{CONTENT_TYPE}\nhost:{self._host}\nx-amz-date:{moment.stamp}\n{token}"
            f"x-amz-target:{TARGET}{action}\nx-amzn-query-mode:true\n"
        )
        canonical = f"POST\n{self._path}\n\n{headers}\n{signed}\n{sha256(body).hexdigest()}"
        signature = _signature(moment, canonical)
        return (
            f"POST {self._target} HTTP/1.1\r\n"
            + headers.replace("\n", "\r\n")
            + f"authorization:AWS4-HMAC-SHA256 Credential={keys.access_key}/{moment.scope}, SignedHeaders={signed}, "
            f"Signature={signature}\r\ncontent-length:{len(body)}\r\n{self._unsigned}"
        ).encode()

    def _moment(self, keys: Keys, second: int) -> _Moment:
        last = self._last
        if last is None or last.second != second or last.keys != keys:
            last = self._last = self._next_moment(last, keys, second)
        return last

    def _next_moment(self, last: _Moment | None, keys: Keys, second: int) -> _Moment:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        scope = f"{stamp[:8]}/{self._region}/sqs/aws4_request"
        known = last is not None and last.scope == scope and last.keys == keys
        key = last.key if last is not None and known else _signing_key(keys.secret_key, scope)
        return _Moment(second=second, keys=keys, stamp=stamp, scope=scope, key=key)


def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _signature(moment: _Moment, canonical: str) -> str:
    hashed = sha256(canonical.encode()).hexdigest()
    return hmac.digest(
        moment.key, f"AWS4-HMAC-SHA256\n{moment.stamp}\n{moment.scope}\n{hashed}".encode(), "sha256"
    ).hex()
