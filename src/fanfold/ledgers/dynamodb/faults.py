"""What went wrong with a request to DynamoDB, as errors of our tree: try again, or change something, and what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fanfold.errors import FanfoldError, InvalidInputError, LedgerError, LedgerUnavailableError

CONDITION: Final = "ConditionalCheckFailed"
_PASSING: Final = (
    "InternalServerError",
    "LimitExceeded",
    "ProvisionedThroughputExceeded",
    "ReplicatedWriteConflict",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "Throttl",
    "TransactionConflict",
    "TransactionInProgress",
)
# Credentials are renewed by whoever gives them out, and until then settlements are held.
_CREDENTIALS: Final = (
    "ExpiredToken",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignature",
    "MissingAuthenticationToken",
    "UnrecognizedClient",
)
_NO_CREDENTIALS: Final = ("NoCredentials", "PartialCredentials", "TokenRetrieval", "CredentialRetrieval", "SSO")
_SERVER_ERROR: Final = 500


def code(error: Exception) -> str:
    """The error code of an answer of DynamoDB's; empty where there was no answer."""
    return str(_answer(error).get("Error", {}).get("Code", ""))


def reasons(error: Exception) -> Sequence[str]:
    """Why a transaction was cancelled: a code for each of its items, `None` for those that were not to blame."""
    found: list[dict[str, Any]] = _answer(error).get("CancellationReasons", [])
    return [str(reason.get("Code", "None")) for reason in found]


def told(error: Exception, action: str, table: str) -> FanfoldError:
    """The error that a caller gets; `action` is the request's name, which is that of the right to make it, too."""
    name, words = code(error), f"ledger dynamodb://{table}: {action}: {error}"
    if not name:
        return _unanswered(error, words, table)
    if name.startswith("AccessDenied"):
        return LedgerError(
            f"{words}. Add dynamodb:{_right(action)} on the table (and its indexes) to the role's policy"
        )
    if name.startswith("ResourceNotFound"):
        return missing(table)
    if name.startswith(_CREDENTIALS):
        return LedgerUnavailableError(f"{words}. Renew the credentials or check the role; it is tried again")
    if name.startswith("ValidationException") and "size" in str(error):
        return InvalidInputError(f"{words}. An item of DynamoDB holds 400 KB")
    return LedgerUnavailableError(f"{words}. It is tried again") if _passing(error, name) else LedgerError(words)


def missing(table: str) -> LedgerError:
    """The error for a table that isn't there."""
    return LedgerError(
        f"ledger dynamodb://{table}: there is no such table in this region and account. Correct the URL, write "
        f"?create=true into it, or make the table: fanfold provision QUEUE --ledger 'dynamodb://{table}' --yes"
    )


def _passing(error: Exception, name: str) -> bool:
    if name.startswith("TransactionCanceled"):
        return any(word in why for why in reasons(error) for word in _PASSING)
    status = _answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= _SERVER_ERROR or any(word in name for word in _PASSING)


def _unanswered(error: Exception, words: str, table: str) -> FanfoldError:
    kind = type(error).__name__
    if kind.startswith(_NO_CREDENTIALS):
        return LedgerUnavailableError(
            f"ledger dynamodb://{table}: no AWS credentials ({error}); run with a role, AWS_PROFILE, or `aws sso login`"
        )
    if isinstance(error, OSError) or "Timeout" in kind or "Connection" in kind or kind == "HTTPClientError":
        return LedgerUnavailableError(f"{words}. It is tried again while it is away")
    return LedgerError(f"ledger dynamodb://{table}: {kind}: {error}")


def _right(action: str) -> str:
    return "PutItem and dynamodb:DeleteItem" if action == "TransactWriteItems" else action


def _answer(error: Exception) -> dict[str, Any]:
    answer = getattr(error, "response", None)
    return answer if isinstance(answer, dict) else {}
