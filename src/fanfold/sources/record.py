"""A record as the source hands it to a planner, a decoder, and the functions that say whose it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Header = tuple[str, bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One Kafka record, undecoded. A tombstone has the value None. `timestamp`: seconds since the epoch; 0: unknown."""

    topic: str
    partition: int
    offset: int
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[Header] = ()
    timestamp: float = 0.0

    @property
    def place(self) -> str:
        """Topic, partition and offset: what stays the same however often the record is delivered."""
        return f"{self.topic}:{self.partition}:{self.offset}"

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        headers = sum(len(name) + len(value or b"") for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers

    def header(self, name: str) -> bytes | None:
        """The last value of a header (Kafka allows several), or None."""
        return next((value for found, value in reversed(self.headers) if found == name), None)
