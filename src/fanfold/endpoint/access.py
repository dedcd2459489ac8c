"""Who may do what: keys, their roles, and the two ways to guard an endpoint."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Protocol
from urllib.parse import urlsplit

from fanfold import limits
from fanfold.clock import Clock
from fanfold.endpoint.exchange import Request
from fanfold.endpoint.signing import check_claim, claim_of, is_signed_by, mismatch
from fanfold.engine.errors import SqsError

_BATCH: Final = "Batch"
_PRODUCER: Final = frozenset({"SendMessage", "GetQueueUrl", "GetQueueAttributes"})
_WORKER: Final = _PRODUCER | {"ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility"}
_LOCAL_NAMES: Final = re.compile(r"[^.]+|([^.]+\.)*(localhost|local|internal|localdomain)")
"""Names that no stranger can register: without a dot, or under a reserved top-level domain."""


class Role(StrEnum):
    """What a key is for; each may do what the former may. A batch is covered by its single action, as in IAM.

    - producer: send, find queues, count.
    - worker: also receive, delete, change visibility. It sends too: dead letters with reasons, and completions.
    - operator: everything, also creating, purging and redriving.
    """

    PRODUCER = "producer"
    WORKER = "worker"
    OPERATOR = "operator"

    def may(self, action: str) -> bool:
        """Whether this role may do `action`."""
        single = action.removesuffix(_BATCH)
        return self is Role.OPERATOR or single in (_WORKER if self is Role.WORKER else _PRODUCER)


@dataclass(frozen=True, slots=True)
class Key:
    """An access key. Its secret is shown nowhere."""

    id: str
    secret: str = field(repr=False)
    role: Role


class Guard(Protocol):
    """Decides whom the endpoint serves. Each step raises SqsError where it refuses."""

    def admit(self, head: Request) -> str:
        """Look at a request before its body is read; answers the key's id, or "" where nobody asks for one."""

    def verify(self, request: Request) -> None:
        """Look at a request that was read whole, and was admitted."""

    def allow(self, key_id: str, action: str, queue: str) -> None:
        """Look at what an admitted key asks for."""


class Unsigned:
    """Serves whoever can reach it, which must be this machine only; any signature is good, or none.

    A web page that is open in a browser on this machine can reach it too, so what comes from one is refused: by the
    headers that browsers add, and by host names, since a page can have its own name point here.
    """

    def admit(self, head: Request) -> str:
        """Refuse browsers."""
        headers = head.headers
        # A browser says for what it fetches only to addresses that it trusts; what it calls itself, it always says.
        site = headers.get("sec-fetch-site", "" if headers.get("user-agent", "").startswith("Mozilla/") else "none")
        if "origin" in headers or site != "none":
            raise SqsError("AccessDeniedException", "Web pages are not served; call from a program", status=403)
        host = headers.get("host", "")
        if not _is_local(host):
            text = (
                f"The host {_name(host)!r} is not this machine's; call it 127.0.0.1 or localhost, or serve with --keys"
            )
            raise SqsError("AccessDeniedException", text, status=403)
        return ""

    def verify(self, request: Request) -> None:
        """Nothing to verify."""

    def allow(self, key_id: str, action: str, queue: str) -> None:
        """Everything."""


class Signed:
    """Serves requests that one of its keys signed, and what that key's role may do."""

    def __init__(self, keys: Iterable[Key], *, region: str, clock: Clock) -> None:
        self._keys = {key.id: key for key in keys}
        self._region = region
        self._now: Callable[[], datetime] = lambda: datetime.fromtimestamp(clock.now(), UTC)

    def admit(self, head: Request) -> str:
        """Refuse unknown keys and stale signatures, before anything of the body is kept."""
        claim = claim_of(head)
        if claim.key_id not in self._keys:
            text = "The security token included in the request is invalid."
            raise SqsError("UnrecognizedClientException", text, status=403)
        check_claim(claim, self._region, self._now())
        return claim.key_id

    def verify(self, request: Request) -> None:
        """Refuse signatures that the key's secret doesn't give."""
        claim = claim_of(request)
        if not is_signed_by(claim, request, self._keys[claim.key_id].secret):
            raise mismatch(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details."
            )

    def allow(self, key_id: str, action: str, queue: str) -> None:
        """Refuse what the key's role may not do."""
        if not self._keys[key_id].role.may(action):
            granted = f"sqs:{action.removesuffix(_BATCH).lower()}"
            user, resource = f"iam::{limits.ACCOUNT}:user/{key_id}", f"sqs:{self._region}:{limits.ACCOUNT}:{queue}"
            raise SqsError(
                "AccessDeniedException",
                f"User: arn:aws:{user} is not authorized to perform: {granted} on resource: arn:aws:{resource} because "
                f"no identity-based policy allows the {granted} action",
                status=403,
            )


def _name(host: str) -> str:
    """What a Host header calls the server, without a port."""
    return urlsplit(f"//{host}").hostname or ""


@functools.lru_cache(maxsize=16)
def _is_local(host: str) -> bool:
    """Whether a Host header is an address, or a name that no stranger can own. Kept: clients say the same each time."""
    name = _name(host)
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return _LOCAL_NAMES.fullmatch(name) is not None
    return True
