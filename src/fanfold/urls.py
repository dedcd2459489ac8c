"""Addresses of the SQLite file: `sqlite:///tasks.db` (relative), `sqlite:////var/lib/tasks.db` (absolute)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote

from fanfold.errors import ConfigurationError, NotFifoError

_PREFIX: Final = "sqlite:///"
_QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,75}\.fifo")
_SYNCHRONOUS: Final = ("FULL", "NORMAL")


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteUrl:
    """What a `sqlite:` URL says: the file, the queue in it, and how durable a commit is."""

    path: Path
    queue: str = "tasks.fifo"
    synchronous: str = "FULL"

    @property
    def dead_letter_queue(self) -> str:
        """The name of the queue's dead letter queue: `tasks-dlq.fifo` for `tasks.fifo`."""
        return self.queue.removesuffix(".fifo") + "-dlq.fifo"


def is_sqlite(url: str) -> bool:
    """Whether `url` names the embedded engine."""
    return url.startswith("sqlite:")


def parse_sqlite(url: str) -> SqliteUrl:
    """Read a `sqlite:` URL. Options: `?queue=orders.fifo&synchronous=NORMAL`.

    Raises:
        ConfigurationError: not of that form, or an unknown option.
        NotFifoError: the queue's name doesn't end in `.fifo`.
    """
    address, _, query = url.partition("?")
    path = unquote(address.removeprefix(_PREFIX))
    if not address.startswith(_PREFIX) or not path or path.endswith("/"):
        raise ConfigurationError(f"{url!r}: write sqlite:///relative.db or sqlite:////absolute/path.db")
    options = dict(parse_qsl(query, keep_blank_values=True))
    queue, synchronous = options.pop("queue", "tasks.fifo"), options.pop("synchronous", "FULL").upper()
    if options:
        raise ConfigurationError(f"{url!r}: unknown option {min(options)!r}; there are queue and synchronous")
    if synchronous not in _SYNCHRONOUS:
        raise ConfigurationError(f"{url!r}: synchronous={synchronous} is not one of {', '.join(_SYNCHRONOUS)}")
    if not queue.endswith(".fifo"):
        raise NotFifoError(f"queue {queue!r}: the name of a FIFO queue ends in .fifo; write {queue + '.fifo'!r}")
    if not _QUEUE_NAME.fullmatch(queue):
        raise ConfigurationError(
            f"queue {queue!r}: a name has 1-75 of A-Z a-z 0-9 _ - before .fifo (80 with it, and room for -dlq)"
        )
    return SqliteUrl(path=Path(path), queue=queue, synchronous=synchronous)
