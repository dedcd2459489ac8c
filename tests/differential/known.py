"""Where LocalStack answers differently, and why ours stands: each rule with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from differential.requests import Handle
from differential.session import Refusal

# What SQS refuses by its documented limits, and LocalStack 4.14 takes.
_UNCHECKED_THERE = {
    "ReceiveMessage": {"MaxNumberOfMessages", "VisibilityTimeout", "WaitTimeSeconds"},
    "ChangeMessageVisibility": {"VisibilityTimeout"},
    "SendMessage": {
        "DelaySeconds",
        "message attribute name 'a..b'",
        "attribute 'name' to a number",
        "non-empty message (user) attribute",
    },
    "SetQueueAttributes": {
        "DelaySeconds",
        "MaximumMessageSize",
        "MessageRetentionPeriod",
        "ReceiveMessageWaitTimeSeconds",
        "VisibilityTimeout",
    },
}


@dataclass(frozen=True)
class Difference:
    """One request with two answers."""

    action: str
    parameters: dict
    ours: dict | Refusal
    other: dict | Refusal

    @property
    def errors(self):
        return tuple(getattr(answer, "code", None) for answer in (self.ours, self.other))


def _unchecked_there(difference):
    """LocalStack doesn't look at the value; AWS's limits are documented."""
    ours, other = difference.errors
    unchecked = _UNCHECKED_THERE.get(difference.action, ())
    return ours is not None and other is None and any(name in difference.ours.text for name in unchecked)


def _broken_there(difference):
    """LocalStack fails inside ("object of type 'NoneType' has no len()"), where SQS misses a parameter."""
    return difference.errors == ("MissingParameter", "InternalError")


def _two_faults(difference):
    """A handle that isn't one and a value out of range: which is named first is nobody's promise."""
    return set(difference.errors) == {"InvalidParameterValue", "ReceiptHandleIsInvalid"} and (
        difference.parameters.get("VisibilityTimeout") in (-1, 43201)
    )


def _empty_handle(difference):
    """An empty handle is as good as none; LocalStack calls it invalid. Nothing is recorded of AWS."""
    return difference.errors == ("MissingParameter", "ReceiptHandleIsInvalid")


def _handle_of_a_deleted_message(difference):
    """In one batch, the same message twice: whether the second entry fails is nobody's promise on FIFO queues."""
    handles = [entry.get("ReceiptHandle") for entry in difference.parameters.get("Entries", ())]
    return len(handles) != len(set(handles)) and any(isinstance(handle, Handle) for handle in handles)


KNOWN = (
    _unchecked_there,
    _broken_there,
    _two_faults,
    _empty_handle,
    _handle_of_a_deleted_message,
)


def reason_for(request, ours, other):
    """The rule that allows this difference, or None."""
    difference = Difference(request.action, request.parameters, ours, other)
    return next((rule.__doc__ for rule in KNOWN if rule(difference)), None)


def same_state_after(ours, other):
    """Whether both endpoints did nothing: then the sequence can go on."""
    return isinstance(ours, Refusal) and isinstance(other, Refusal)
