"""AWS signatures, version 4: what a request claims, and whether its signature proves it. Pure functions of a clock.

Source: "Signature Version 4 signing process" in the AWS IAM user guide; texts as AWS's services answer them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from botocore.utils import normalize_url_path

from fanfold.endpoint.exchange import Request
from fanfold.engine.errors import SqsError

SERVICE: Final = "sqs"
SKEW: Final = timedelta(minutes=15)
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_LONGEST: Final = 604_800
"""Seconds (a week) for which a presigned URL may be good."""
_PART: Final = re.compile(r"(Credential|SignedHeaders|Signature)=([^\s,]+)")
_MUST_SIGN: Final = ("host", "x-amz-date", "x-amz-target")
"""Headers that say where, when and what; each must be signed where it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who says to have signed what, and when. `expires`: seconds for which a presigned URL is good."""

    key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    stamp: str
    expires: int | None = None


def claim_of(request: Request) -> Claim:
    """What the request's Authorization header, or its presigned URL, claims.

    Raises:
        SqsError: it has neither, or one that can't be read.
    """
    if authorization := request.headers.get("authorization"):
        return _from_header(authorization, request.headers.get("x-amz-date", ""))
    if "X-Amz-Signature=" in request.query:
        return _from_query(dict(parse_qsl(request.query, keep_blank_values=True)))
    raise SqsError("MissingAuthenticationTokenException", "Request is missing Authentication Token", status=403)


def check_claim(claim: Claim, region: str, now: datetime) -> None:
    """Check where, when and over what a signature was made.

    Raises:
        SqsError: for another region or service, or made too long ago or ahead, or over too little.
    """
    if claim.region != region:
        raise mismatch(f"Credential should be scoped to a valid region, not '{claim.region}'. Here it is '{region}'.")
    if claim.service != SERVICE:
        raise mismatch(f"Credential should be scoped to correct service: '{SERVICE}'.")
    if claim.date != claim.stamp[:8]:
        raise mismatch(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{claim.date}' != '{claim.stamp[:8]}', from '{claim.stamp}'."
        )
    if "host" not in claim.signed_headers:
        raise mismatch("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
    _check_time(claim, _moment(claim.stamp), now)


def is_signed_by(claim: Claim, request: Request, secret: str) -> bool:
    """Whether the signature is the one that this secret gives. In constant time."""
    presigned = claim.expires is not None
    if any(name in request.headers and name not in claim.signed_headers for name in _MUST_SIGN):
        return False
    if not presigned and "x-amz-date" not in claim.signed_headers:
        return False
    digest = hashlib.sha256(canonical_request(claim, request)).hexdigest()
    scope = f"{claim.date}/{claim.region}/{claim.service}/aws4_request"
    to_sign = f"{_ALGORITHM}\n{claim.stamp}\n{scope}\n{digest}"
    key = _signing_key(secret, claim.date, claim.region, claim.service)
    expected = hmac.new(key, to_sign.encode("latin-1"), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), claim.signature.encode("utf-8", "replace"))


def canonical_request(claim: Claim, request: Request) -> bytes:
    """What is signed: method, path, query, the signed headers, and the body's digest, which is always the real one."""
    headers = (f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in claim.signed_headers)
    parts = (
        request.method,
        quote(normalize_url_path(request.path), safe="/~", encoding="latin-1"),
        _canonical_query(request.query),
        "".join(headers),
        ";".join(claim.signed_headers),
        hashlib.sha256(request.body).hexdigest(),
    )
    return "\n".join(parts).encode("latin-1", "replace")


def mismatch(text: str) -> SqsError:
    """The signature isn't good."""
    return SqsError("InvalidSignatureException", text, status=403)


@lru_cache(maxsize=16)
def _from_header(authorization: str, stamp: str) -> Claim:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != _ALGORITHM:
        raise _incomplete(f"Unsupported AWS 'algorithm': '{algorithm[:40]}'; sign with {_ALGORITHM}.")
    parts = dict(_PART.findall(rest))
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if name not in parts]
    if missing:
        raise _incomplete(" ".join(f"Authorization header requires '{name}' parameter." for name in missing))
    return _claim(parts["Credential"], parts["SignedHeaders"], parts["Signature"], stamp, expires=None)


def _from_query(parts: dict[str, str]) -> Claim:
    expires = parts.get("X-Amz-Expires", "")
    if parts.get("X-Amz-Algorithm") != _ALGORITHM or not re.fullmatch("[0-9]{1,6}", expires, re.ASCII):
        raise _incomplete("AWS query-string parameters must include 'X-Amz-Algorithm' and 'X-Amz-Expires'.")
    credential, signed = parts.get("X-Amz-Credential", ""), parts.get("X-Amz-SignedHeaders", "")
    stamp, seconds = parts.get("X-Amz-Date", ""), min(int(expires), _LONGEST)
    return _claim(credential, signed, parts.get("X-Amz-Signature", ""), stamp, expires=seconds)


def _claim(credential: str, signed_headers: str, signature: str, stamp: str, *, expires: int | None) -> Claim:
    scope = credential.split("/")
    if len(scope) != 5 or scope[4] != "aws4_request":  # noqa: PLR2004 - key, date, region, service and this word
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements: KEYID/DATE/REGION/SERVICE/aws4_request"
        )
    try:
        _moment(stamp)
    except ValueError:
        raise _incomplete("The signature requires an 'X-Amz-Date' in ISO 8601 basic form, 20261124T093000Z.") from None
    return Claim(
        key_id=scope[0],
        date=scope[1],
        region=scope[2],
        service=scope[3],
        signed_headers=tuple(signed_headers.lower().split(";")),
        signature=signature,
        stamp=stamp,
        expires=expires,
    )


@lru_cache(maxsize=16)
def _moment(stamp: str) -> datetime:
    """When a stamp says that it was; each is looked at several times. Raises ValueError."""
    return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)


def _check_time(claim: Claim, signed: datetime, now: datetime) -> None:
    if signed > now + SKEW:
        raise mismatch(
            f"Signature not yet current: {claim.stamp} is still later than {now + SKEW:{_STAMP}} "
            f"({now:{_STAMP}} + 15 min.)"
        )
    if claim.expires is not None:
        if now > signed + timedelta(seconds=claim.expires):
            raise SqsError("RequestExpired", "Request has expired.", status=400)
    elif signed < now - SKEW:
        raise mismatch(
            f"Signature expired: {claim.stamp} is now earlier than {now - SKEW:{_STAMP}} ({now:{_STAMP}} - 15 min.)"
        )


def _canonical_query(query: str) -> str:
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    encoded = sorted((_encoded(name), _encoded(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded if name != "X-Amz-Signature")


def _encoded(escaped: str) -> str:
    return quote(unquote_to_bytes(escaped), safe="-_.~")


@lru_cache(maxsize=256)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key of one day; derived once, since it takes as long as the rest of the check."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _incomplete(text: str) -> SqsError:
    return SqsError("IncompleteSignatureException", text)
