"""What a source holds: its partitions, the records in flight, and how much more it may take. Pure, for one thread."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from fanfold.sources.offsets import Offsets

Place = tuple[str, int]
"""A topic and the number of one of its partitions."""


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One record in flight. It is compared by identity: the same offset received once more has another ticket."""

    place: Place
    offset: int
    size: int
    received_at: float


@dataclass(slots=True)
class Held:
    """One partition: its offsets, and the tickets of records that aren't settled."""

    offsets: Offsets = field(default_factory=Offsets)
    unsettled: dict[int, Ticket] = field(default_factory=dict)
    paused: bool = False
    fresh: bool = True
    """Not named by `resume` yet: the client may hold it paused since an earlier assignment. Its records count as those
    of one that isn't, since they come where the client doesn't."""


class Assignment:
    """The books of a source.

    1. `assign` opens a partition's books, `let_go` closes them: what is settled afterwards counts for nothing.
    2. `receive` enters a record, `settle` ends it; `commits` are the positions that the group doesn't know yet.
    3. `room` says how many records may come. The bound on records leaves paused partitions out, so that one that is
       stuck doesn't hold up the others; the bound on bytes counts all.
    4. `pause` and `resume` say which partitions should stop or go on, once there is no room for longer.
    """

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        """Nothing is held yet.

        Args:
            max_records: records, of all partitions that aren't paused, that are received and can't be committed.
            max_bytes: bytes of all records that aren't settled.
        """
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._held: dict[Place, Held] = {}
        self.bytes = 0
        """Of all records that aren't settled."""
        self.passed = 0
        """Records that the positions have passed."""

    @property
    def places(self) -> Collection[Place]:
        """The partitions that are held."""
        return self._held.keys()

    @property
    def paused(self) -> list[Place]:
        """Those that are paused."""
        return [place for place, held in self._held.items() if held.paused]

    @property
    def room(self) -> int:
        """How many more records may be received now."""
        if self.bytes >= self._max_bytes:
            return 0
        return max(0, self._max_records - sum(h.offsets.window for h in self._held.values() if not h.paused))

    def assign(self, places: Iterable[Place]) -> None:
        """Hold these partitions, from scratch."""
        self.let_go(places := list(places))
        self._held |= {place: Held() for place in places}

    def let_go(self, places: Iterable[Place]) -> None:
        """Hold them no more."""
        for place in places:
            held = self._held.pop(place, Held())
            self.bytes -= sum(ticket.size for ticket in held.unsettled.values())

    def receive(self, place: Place, offset: int, size: int, now: float) -> Ticket | None:
        """Enter a record; None where its partition isn't held, and another member will get it."""
        held = self._held.get(place)
        if held is None:
            return None
        if not held.offsets.follows(offset):
            self._rewind(held, offset)
        held.offsets.received(offset)
        ticket = held.unsettled[offset] = Ticket(place, offset, size, now)
        self.bytes += size
        return ticket

    def settle(self, ticket: Ticket, *, done: bool) -> bool:
        """A record is over; answers whether it was still held. One that isn't `done` keeps its place uncommitted."""
        held = self._held.get(ticket.place)
        if held is None or held.unsettled.get(ticket.offset) is not ticket:
            return False
        del held.unsettled[ticket.offset]
        self.bytes -= ticket.size
        if done:
            self.passed += held.offsets.done(ticket.offset)
        return True

    def unsettled(self, places: Iterable[Place] | None = None) -> int:
        """How many records of these partitions (None: of all) aren't settled."""
        return sum(len(held.unsettled) for _, held in self._of(places))

    def oldest(self) -> Ticket | None:
        """The record that has been in flight for longest."""
        first = (next(iter(held.unsettled.values()), None) for held in self._held.values())
        return min((t for t in first if t is not None), key=lambda ticket: ticket.received_at, default=None)

    def commits(self, places: Iterable[Place] | None = None) -> dict[Place, int]:
        """Positions of these partitions (None: of all) that the group doesn't know yet."""
        return {place: at for place, held in self._of(places) if (at := held.offsets.to_commit) is not None}

    def committed(self, positions: Mapping[Place, int]) -> None:
        """The group knows these positions now."""
        for place, position in positions.items():
            if place in self._held:
                self._held[place].offsets.committed(position)

    def next_needed(self, place: Place) -> int | None:
        """The lowest offset of a partition that isn't safe yet; None where nothing of it was received."""
        return self._held[place].offsets.next_needed if place in self._held else None

    def pause(self) -> list[Place]:
        """Partitions to pause because there is no room: those with their share of records, or all for want of bytes."""
        full = self.bytes >= self._max_bytes
        return self._paused([p for p, held in self._held.items() if full or held.offsets.window >= self._share])

    def pause_all(self) -> list[Place]:
        """All partitions that aren't paused yet, to be paused."""
        return self._paused(self._held)

    def resume(self) -> list[Place]:
        """Partitions that may go on: new ones, and those of whose share half is free again."""
        if self.bytes >= self._max_bytes:
            return []
        chosen = [p for p, held in self._held.items() if held.fresh or (held.paused and self._half_free(held))]
        for place in chosen:
            self._held[place].paused = self._held[place].fresh = False
        return chosen

    def _half_free(self, held: Held) -> bool:
        return 2 * held.offsets.window <= self._share

    def _rewind(self, held: Held, offset: int) -> None:
        held.offsets.rewind(offset)
        for again in [at for at in held.unsettled if at >= offset]:
            self.bytes -= held.unsettled.pop(again).size

    def _paused(self, places: Iterable[Place]) -> list[Place]:
        chosen = [place for place in places if not self._held[place].paused]
        for place in chosen:
            self._held[place].paused = True
        return chosen

    @property
    def _share(self) -> int:
        return max(1, self._max_records // max(1, len(self._held)))

    def _of(self, places: Iterable[Place] | None) -> list[tuple[Place, Held]]:
        wanted = self._held.keys() if places is None else places
        return [(place, self._held[place]) for place in wanted if place in self._held]
