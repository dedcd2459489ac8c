"""The limits of SQS and of Fanfold, as values, and pure checks of single values against them.

Source of the SQS numbers: the Amazon SQS developer guide, "message quotas", and botocore's service model.
"""

from __future__ import annotations

import re
from typing import Final

MAX_BATCH_ENTRIES: Final = 10
"""Entries in one batch request."""
MAX_REQUEST_BYTES: Final = 1_048_576
"""Bytes of one message, and of all messages of one batch request (1 MiB since August 2025)."""
MAX_ID_LENGTH: Final = 128
"""Characters of a message group id and of a message deduplication id."""
MAX_ATTRIBUTES: Final = 10
"""Message attributes on one message."""
MAX_VISIBILITY: Final = 43_200
"""Seconds (12 hours) that a message can stay invisible, counted from its receive."""
MAX_WAIT: Final = 20
"""Seconds of one long poll."""
MAX_DELAY: Final = 900
"""Seconds (15 minutes) that a message can be delayed."""
MIN_MESSAGE_SIZE: Final = 1_024
"""Bytes: the least that a queue's MaximumMessageSize can be."""
MIN_RETENTION: Final = 60
"""Seconds: the least that a queue keeps messages."""
MAX_RETENTION: Final = 1_209_600
"""Seconds (14 days): the most that a queue keeps messages."""
DEFAULT_RETENTION: Final = 345_600
"""Seconds (4 days) that a queue keeps messages when nobody says otherwise."""
MAX_IN_FLIGHT: Final = 120_000
"""Messages of a queue that can be in flight."""
MAX_TAGS: Final = 50
"""Tags on one queue."""
DEFAULT_MAX_RECEIVES: Final = 100
"""Receives after which a queue that Fanfold has made sets a message aside. A backstop for crash loops, far above
`max_attempts`: a shutdown or a failed lane gives messages back unrun, and that spends receives too."""
ACCOUNT: Final = "000000000000"
"""The account of embedded queues, as LocalStack has it."""
RECREATE_DELAY: Final = 60
"""Seconds after a queue's delete in which its name can't be taken again, and between two purges."""
MAX_MOVES_PER_SECOND: Final = 500
"""Messages a second that a message move task can be asked to move."""
DEDUPLICATION_WINDOW: Final = 300
"""Seconds (5 minutes) in which SQS drops a second send with the same deduplication id."""
MAX_RESULT_BYTES: Final = 262_144
"""Bytes of one task's JSON result (256 KiB): it must fit a ledger item on every ledger (DynamoDB: 400 KB)."""
MAX_NAME_LENGTH: Final = 256
"""Characters of an entity id and of a task name; longer ids than SQS allows are digested (`codec`)."""

_MAX_ID_LENGTH: Final = 128
_UNREPRESENTABLE: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def is_sqs_id(value: str) -> bool:
    """Whether SQS takes `value` for a group or deduplication id: ASCII letters, digits and punctuation, no space."""
    return 0 < len(value) <= _MAX_ID_LENGTH and value.isascii() and value.isprintable() and " " not in value


def unrepresentable(text: str) -> str | None:
    """The first character of `text` that SQS refuses in a body or attribute value, or None."""
    if text.isascii() and text.isprintable():
        return None  # most are, and this is a fraction of the search
    found = _UNREPRESENTABLE.search(text)
    return found.group() if found else None


def utf8_size(text: str) -> int:
    """Bytes of `text` in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())
