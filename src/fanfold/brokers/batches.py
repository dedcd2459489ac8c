"""Batches of ten: cutting entries into requests, and finding each one's answer again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fanfold import limits
from fanfold.errors import BrokerError
from fanfold.model import EntryError

Answer = Mapping[str, Any] | EntryError
"""What became of one entry: its element of `Successful`, or an error."""


def batches(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Indices of entries cut into requests of at most 10 entries and 1 MiB."""
    batch: list[int] = []
    total = 0
    for index, size in enumerate(sizes):
        if batch and (len(batch) == limits.MAX_BATCH_ENTRIES or total + size > limits.MAX_REQUEST_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(index)
        total += size
    if batch:
        yield batch


def reconcile(answer: Mapping[str, Any], ids: Iterable[str]) -> list[Answer]:
    """Each entry's own answer. One that it doesn't mention has failed: it may or may not have had its effect."""
    done = {entry["Id"]: entry for entry in answer.get("Successful") or ()}
    failed = {entry["Id"]: _entry_error(entry) for entry in answer.get("Failed") or ()}
    missing = EntryError(code="NotInAnswer", text="the queue's answer doesn't mention this entry", retryable=True)
    return [failed.get(entry_id) or done.get(entry_id, missing) for entry_id in ids]


def error_of_all(error: BrokerError) -> EntryError:
    """A whole request's failure as the error of each of its entries."""
    return EntryError(code=type(error).__name__, text=str(error), retryable=error.transient)


def _entry_error(entry: Mapping[str, Any]) -> EntryError:
    code, text = str(entry.get("Code", "")), str(entry.get("Message", ""))
    return EntryError(
        code=code, text=text, retryable=not entry.get("SenderFault", False), lease_lost=_lease_lost(code, text)
    )


def _lease_lost(code: str, text: str) -> bool:
    if "ReceiptHandleIsInvalid" in code or "MessageNotInflight" in code:
        return True
    return "InvalidParameterValue" in code and ("expired" in text or "not available for visibility" in text)
