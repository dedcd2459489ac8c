"""Which offsets of one partition may be committed: a pure tracker, free of I/O.

A committed offset tells Kafka that everything below it is done, so it may only move over records that are in the
ledger, without a gap. Offsets have holes of their own (compaction, transaction markers): contiguous means contiguous
among the records that were received.
"""

from __future__ import annotations

from collections import deque


class Offsets:
    """The offsets of one partition, from the moment it was assigned.

    1. `received` in the order of the log.
    2. `done` in any order: the record's fan-out is in the ledger and the queue, or the record is set aside.
    3. `position` follows the lowest record that isn't done. It never passes one.
    """

    def __init__(self) -> None:
        self._window: deque[int] = deque()
        self._open: set[int] = set()
        self._last = -1
        self._committed: int | None = None
        self.position: int | None = None
        """The offset to commit: the one after the last of the unbroken run of done records. None: nothing is done."""

    @property
    def window(self) -> int:
        """How many records were received and aren't below `position`: what a restart would bring again, at least."""
        return len(self._window)

    @property
    def next_needed(self) -> int | None:
        """The lowest offset that isn't done, or comes next; None where nothing was received."""
        return self._window[0] if self._window else self.position

    @property
    def to_commit(self) -> int | None:
        """`position`, where the group doesn't know it yet."""
        return self.position if self.position != self._committed else None

    def follows(self, offset: int) -> bool:
        """Whether a record of that offset comes after all that were received; where not, the log was rewound."""
        return offset > self._last

    def received(self, offset: int) -> None:
        """A record was received.

        Raises:
            ValueError: it doesn't follow the last one; `rewind` comes first.
        """
        if not self.follows(offset):
            raise ValueError(f"offset {offset} was received after {self._last}; offsets grow, or the log was rewound")
        self._last = offset
        self._window.append(offset)
        self._open.add(offset)

    def rewind(self, offset: int) -> None:
        """The log goes on from `offset` once more: what was received from there on will come again.

        What lies below stays as it is: a record that isn't done keeps `position` from passing it.
        """
        while self._window and self._window[-1] >= offset:
            self._open.discard(self._window.pop())
        self._last = offset - 1
        if self.position is not None and self.position > offset:
            self.position = offset

    def done(self, offset: int) -> int:
        """A record needs no more care; answers how many records `position` passed for it.

        Saying it twice changes nothing, nor does saying it of one never received.
        """
        self._open.discard(offset)
        before = len(self._window)
        while self._window and self._window[0] not in self._open:
            self.position = self._window.popleft() + 1
        return before - len(self._window)

    def committed(self, position: int) -> None:
        """The group knows `position` now."""
        self._committed = position
