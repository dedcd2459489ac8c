"""What the engine answers in place of a result, as SQS does: shapes of the service model, with their exact texts.

Texts are those that public suites have recorded of Amazon SQS, or that its users report; where neither is known, they
follow the pattern of their neighbours.
"""

from __future__ import annotations

from typing import Final

from fanfold.model import EntryError

_CODES: Final = {"MissingRequiredParameterException": "MissingParameter"}
_NOWHERE: Final = "The specified queue does not exist"


class SqsError(Exception):
    """An error of an SQS action.

    `shape` is the error's name in the service model ("QueueDoesNotExist"), or what SQS calls one that isn't listed
    there ("InvalidParameterValueException"). `message` is the text of the JSON protocol, `query_message` that of the
    query protocol where it differs. `status` is the HTTP status.
    """

    def __init__(
        self,
        shape: str,
        message: str,
        *,
        status: int = 400,
        sender_fault: bool = True,
        query_message: str | None = None,
    ) -> None:
        # A lone surrogate in an echoed value could not be sent.
        self.message = message.encode("utf-8", "backslashreplace").decode()
        super().__init__(f"{shape}: {self.message}")
        self.shape = shape
        self.status = status
        self.sender_fault = sender_fault
        self.query_message = query_message

    @property
    def code(self) -> str:
        """The code by which a batch names this error for one of its entries."""
        return _CODES.get(self.shape, self.shape.removesuffix("Exception"))


def of_entry(error: EntryError) -> SqsError:
    """The error of a single request that a batch would give one entry."""
    if error.code == "ReceiptHandleIsInvalid":
        return SqsError("ReceiptHandleIsInvalid", error.text, status=404)
    return SqsError(f"{error.code}Exception", error.text)


def invalid(text: str) -> SqsError:
    """A parameter's value breaks a rule."""
    return SqsError("InvalidParameterValueException", text)


def invalid_value(value: object, parameter: str, reason: str) -> SqsError:
    """The same, in the form in which SQS says most of it."""
    return invalid(f"Value {value} for parameter {parameter} is invalid. Reason: {reason}")


def missing(parameter: str) -> SqsError:
    """A required parameter isn't there."""
    return SqsError("MissingRequiredParameterException", f"The request must contain the parameter {parameter}.")


def no_such_queue() -> SqsError:
    """There is no queue of that name."""
    return SqsError("QueueDoesNotExist", f"{_NOWHERE}.", query_message=f"{_NOWHERE} for this wsdl version.")


def queue_exists(attribute: str) -> SqsError:
    """CreateQueue asks for another value than the existing queue has."""
    text = f"A queue already exists with the same name and a different value for attribute {attribute}"
    return SqsError("QueueNameExists", text)


def deleted_recently() -> SqsError:
    """A queue of that name was deleted less than 60 seconds ago."""
    text = "You must wait 60 seconds after deleting a queue before you can create another with the same name."
    return SqsError("QueueDeletedRecently", text)


def purged_recently(name: str) -> SqsError:
    """The last purge is less than 60 seconds ago."""
    text = f"Only one PurgeQueue operation on {name} is allowed every 60 seconds."
    return SqsError("PurgeQueueInProgress", text, status=403)


def unknown_attribute(name: str) -> SqsError:
    """An attribute that this kind of queue doesn't have."""
    return SqsError("InvalidAttributeName", f"Unknown Attribute {name}.")


def invalid_attribute(name: str, reason: str = "") -> SqsError:
    """An attribute's value breaks its rule."""
    text = f"Invalid value for the parameter {name}." + (f" Reason: {reason}" if reason else "")
    return SqsError("InvalidAttributeValue", text)


def over_limit(text: str) -> SqsError:
    """A quota."""
    return SqsError("OverLimit", text, status=403)


def not_found(text: str) -> SqsError:
    """A resource of a move task."""
    return SqsError("ResourceNotFoundException", text, status=404)


def invalid_action(action: str) -> SqsError:
    """There is no such action."""
    return SqsError("UnknownOperationException", f"The action {action} is not valid for this endpoint.")
