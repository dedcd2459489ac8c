"""What the three batch actions share: the checks of a whole request, and an answer entry by entry. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fanfold import limits
from fanfold.engine import errors
from fanfold.engine.desk import Answer, Request, without_empty
from fanfold.engine.errors import SqsError
from fanfold.model import EntryError

Entry = Mapping[str, Any]

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_BAD_ID: Final = (
    "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters "
    "long."
)


def entries(request: Request, kind: str) -> Sequence[Entry]:
    """The entries of a batch request; `kind` is their name in the service model.

    Raises:
        SqsError: none, too many, or an id that is missing, invalid or repeated.
    """
    found: Sequence[Entry] | None = request.get("Entries")
    if not found:
        raise SqsError("EmptyBatchRequest", f"There should be at least one {kind} in the request.")
    if len(found) > limits.MAX_BATCH_ENTRIES:
        said = f"Maximum number of entries per request are {limits.MAX_BATCH_ENTRIES}."
        raise SqsError("TooManyEntriesInBatchRequest", f"{said} You have sent {len(found)}.")
    _check_ids(found, kind)
    return found


def answer(entries: Sequence[Entry], results: Sequence[Answer | EntryError | SqsError]) -> Answer:
    """What became of each entry: its answer among the successful ones, or its error among the failed ones."""
    successful, failed = [], []
    for entry, result in zip(entries, results, strict=True):
        if isinstance(result, dict):
            successful.append({"Id": entry["Id"], **result})
        else:
            failed.append(_failed(entry["Id"], result))
    return without_empty({"Successful": successful, "Failed": failed})


def _check_ids(entries: Sequence[Entry], kind: str) -> None:
    seen = set()
    for number, entry in enumerate(entries, 1):
        if entry.get("Id") is None:
            raise errors.missing(f"{kind}.{number}.Id")
        if not _ID.fullmatch(entry["Id"]):
            raise SqsError("InvalidBatchEntryId", _BAD_ID)
    for entry in entries:
        if entry["Id"] in seen:
            raise SqsError("BatchEntryIdsNotDistinct", f"Id {entry['Id']} repeated.")
        seen.add(entry["Id"])


def _failed(entry_id: str, error: EntryError | SqsError) -> Answer:
    text = error.text if isinstance(error, EntryError) else error.message
    return {"Id": entry_id, "SenderFault": True, "Code": error.code, "Message": text}
