"""What went wrong with a request to SQS, as errors of our tree with the cure in their text: for every transport."""

from __future__ import annotations

import re
from typing import Final

from fanfold.errors import (
    BrokerError,
    BrokerUnavailableError,
    CredentialsError,
    PermissionMissingError,
    QueueNotFoundError,
)

_PASSING: Final = (
    "InternalError",
    "InternalFailure",
    "OverLimit",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "Throttl",
    "TooManyRequests",
)
_BAD_CREDENTIALS: Final = (
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "MissingAuthenticationToken",
)
_TOO_MANY: Final = 429
_SERVER_ERROR: Final = 500
_KMS_ACTION: Final = re.compile(r"perform: (kms:\w+)")


def passing(code: str) -> bool:
    """Whether an error code says that the same request may succeed later."""
    return any(word in code for word in _PASSING)


def refused(code: str, text: str, *, status: int, action: str, queue_url: str) -> BrokerError:
    """The error for an answer that isn't a success: its error code, text and HTTP status."""
    if "NonExistentQueue" in code or "QueueDoesNotExist" in code:
        return QueueNotFoundError(
            f"queue {queue_url} doesn't exist; create it, or correct the URL (region, account, name)"
        )
    if "AccessDenied" in code or code == "AuthorizationError":
        return _missing_permission(text, action, queue_url)
    if code.startswith(_BAD_CREDENTIALS):
        said = text.rstrip(".")
        return CredentialsError(f"AWS refused the credentials ({code}): {said}. Renew them or check the role")
    if status >= _SERVER_ERROR or status == _TOO_MANY or passing(code):
        return BrokerUnavailableError(f"{action} on {queue_url}: {code}: {text}")
    return BrokerError(f"{action} on {queue_url}: {code}: {text}")


def unanswered(error: Exception, *, action: str, queue_url: str) -> BrokerUnavailableError:
    """The error for a request that nobody answered."""
    return BrokerUnavailableError(f"{action}: {queue_url} can't be reached: {error}")


def without_credentials(error: Exception, *, queue_url: str) -> CredentialsError:
    """The error for credentials that can't be found."""
    return CredentialsError(
        f"no AWS credentials for {queue_url} ({error}); run with a role, AWS_PROFILE, or `aws sso login`"
    )


def _missing_permission(text: str, action: str, queue_url: str) -> PermissionMissingError:
    key = _KMS_ACTION.search(text)
    granted = key[1] if key else f"sqs:{action.removesuffix('Batch')}"
    return PermissionMissingError(granted, f"{granted} is denied on {queue_url}; add it to the role's policy ({text})")
