"""Receipt handles: which queue, which message, which receive. To clients they are opaque."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from fanfold.model import EntryError

# 18 digits always fit into SQLite's integers.
_FORM: Final = re.compile(r"(\d{1,18})\.(\d{1,18})\.(\w+)", re.ASCII)


class Handle(msgspec.Struct, frozen=True):
    """A receipt handle taken apart: the queue's id, the message's sequence number, and what its receive drew."""

    queue: int
    seq: int
    receipt: str

    def __str__(self) -> str:
        return f"{self.queue}.{self.seq}.{self.receipt}"


def parse(text: str, queue: int) -> Handle | EntryError:
    """The handle that `text` is, or why it is none of this queue's."""
    found = _FORM.fullmatch(text)
    if found is None:
        return forged(text)
    handle = Handle(int(found[1]), int(found[2]), found[3])
    if handle.queue != queue:
        return _invalid(f'The receipt handle "{text}" is not valid for this queue.')
    return handle


def expired(handle: str) -> EntryError:
    """The lease has ended, or the message was received again since."""
    return lost(f"Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.")


def unavailable(handle: str) -> EntryError:
    """There is no message any more whose visibility could change."""
    return lost(
        f"Value {handle} for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not available "
        "for visibility timeout change."
    )


def lost(text: str) -> EntryError:
    """An error after which the holder of the handle holds nothing."""
    return EntryError(code="InvalidParameterValue", text=text, lease_lost=True)


def forged(handle: str) -> EntryError:
    """No receive can have given this one."""
    return _invalid(f'The input receipt handle "{handle}" is not a valid receipt handle.')


def _invalid(text: str) -> EntryError:
    return EntryError(code="ReceiptHandleIsInvalid", text=text, lease_lost=True)
