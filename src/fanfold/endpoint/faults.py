"""Errors of the endpoint itself, and what both protocols call an error.

The JSON protocol names the error's shape, the query protocol a code, and for several they differ. Source: the SQS
service model before its query traits were removed, and the "Common Errors" page of the SQS API reference.
"""

from __future__ import annotations

from typing import Final

from fanfold.endpoint.model import sqs_model
from fanfold.engine.errors import SqsError

NO_ACTION: Final = "NoAction"

_SQS: Final = "AWS.SimpleQueueService."

_CODES: Final = {
    "AccessDeniedException": "AccessDenied",
    "BatchEntryIdsNotDistinct": _SQS + "BatchEntryIdsNotDistinct",
    "BatchRequestTooLong": _SQS + "BatchRequestTooLong",
    "EmptyBatchRequest": _SQS + "EmptyBatchRequest",
    "IncompleteSignatureException": "IncompleteSignature",
    "InvalidBatchEntryId": _SQS + "InvalidBatchEntryId",
    "InvalidParameterValueException": "InvalidParameterValue",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "MessageNotInflight": _SQS + "MessageNotInflight",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "MissingRequiredParameterException": "MissingParameter",
    "PurgeQueueInProgress": _SQS + "PurgeQueueInProgress",
    "QueueDeletedRecently": _SQS + "QueueDeletedRecently",
    "QueueDoesNotExist": _SQS + "NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
    "SerializationException": "MalformedInput",
    "TooManyEntriesInBatchRequest": _SQS + "TooManyEntriesInBatchRequest",
    "UnknownOperationException": "InvalidAction",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "UnsupportedOperation": _SQS + "UnsupportedOperation",
}


def code_of(error: SqsError) -> str:
    """The query protocol's code, which JSON answers carry in `x-amzn-query-error`."""
    return _CODES.get(error.shape, error.shape)


def type_of(error: SqsError) -> str:
    """The JSON protocol's type: in the service's namespace where the model lists the error, else in the framework's."""
    namespace = "com.amazonaws.sqs" if error.shape in sqs_model().errors else "com.amazon.coral.service"
    return f"{namespace}#{error.shape}"


def fault_of(error: SqsError) -> str:
    """Whose fault it is, in the API's words."""
    return "Sender" if error.sender_fault else "Receiver"


def malformed(text: str) -> SqsError:
    """The request can't be read: not JSON, not a form, or a value of the wrong type."""
    return SqsError("SerializationException", text)


def no_action() -> SqsError:
    """Nothing says that this is a request at all."""
    return SqsError(NO_ACTION, "The request names no action", status=404)


def too_large(limit: int) -> SqsError:
    """The body is larger than any legal request's can be."""
    text = f"The request's body is larger than {limit:,} bytes; SQS takes 1 MiB of messages in a request. Send less"
    return SqsError("RequestEntityTooLarge", text, status=413)


def not_allowed(method: str) -> SqsError:
    """Neither protocol uses this HTTP method."""
    return SqsError("UnsupportedMethod", f"The method {method} is not supported; use POST or GET", status=405)


def busy(text: str) -> SqsError:
    """Not now; the same request may succeed later. AWS's SDKs try again by themselves."""
    return SqsError("ServiceUnavailable", text, status=503, sender_fault=False)


def internal() -> SqsError:
    """A fault of ours. Its cause is in the log, under the request's id, and nowhere else."""
    text = "The request processing has failed because of an unknown error, exception or failure."
    return SqsError("InternalFailure", text, status=500, sender_fault=False)
