"""The end of a fan-out: it is complete when all of its buckets are full, or when its options say so.

Whoever notes the last entry finds all others there, since reads are strongly consistent; whoever dies before it has
noted its own leaves a message behind, and the claim of that notes it. An end is one conditional write to the header, so
there is one in each generation.
"""

from __future__ import annotations

from typing import Final

from fanfold.ledgers.dynamodb import intents, reading, shapes
from fanfold.ledgers.dynamodb.shapes import Header
from fanfold.ledgers.dynamodb.store import Store
from fanfold.model import Ended

_COMPLETE: Final = (
    "SET completed_at = :now, ended_by = :ended, unfolded_at = :now, purge_at = :now + keep_for "
    "REMOVE open_at, unsent_at, ends_by"
)
_COMPLETE_AND_SWEEP: Final = (
    "SET completed_at = :now, ended_by = :ended, unfolded_at = :now, purge_at = :now + keep_for, sweeping = :ended "
    "REMOVE open_at, unsent_at, ends_by"
)
_IF_OPEN: Final = (
    "nonce = :nonce AND generation = :generation AND attribute_not_exists(completed_at) "
    "AND attribute_not_exists(rerunning)"
)


async def settled(store: Store, fan_out_id: str, now: float) -> Header | None:
    """A header with nothing left to carry out, or None."""
    while True:
        header = await reading.header(store, fan_out_id)
        if header is None or not await intents.carry_out(store, header, now):
            return header


async def conclude(store: Store, fan_out_id: str, now: float) -> Header | None:
    """End an open fan-out if it is time; answers its header as it stands then."""
    while True:
        header = await settled(store, fan_out_id, now)
        if header is None or header.completed_at is not None:
            return header
        # A re-run that begins after the header was read makes its generation another one, and the write below fails.
        ended = shapes.end_of(header, await reading.buckets(store, header.layout))
        if ended is None:
            return header
        await complete(store, header, ended, now)


async def complete(store: Store, header: Header, ended: Ended, now: float) -> bool:
    """End an open fan-out; False: somebody else did, or runs it again. What is left is cancelled by `settled`."""
    sweeping = ended is not Ended.COMPLETE and (header.cancel_rest or ended in (Ended.CANCELLED, Ended.DEADLINE))
    values = {
        "now": now,
        "ended": ended.value,
        "nonce": header.layout.nonce,
        "generation": header.generation,
    }
    change = _COMPLETE_AND_SWEEP if sweeping else _COMPLETE
    written = await store.update(shapes.header_key(header.layout.fan_out_id), change, values, when=_IF_OPEN)
    return written.applied


async def cancel(store: Store, fan_out_id: str, ended: Ended, now: float) -> list[str] | None:
    """End a fan-out and cancel what is left of it; answers the names cancelled now, or None where there is none."""
    while True:
        header = await settled(store, fan_out_id, now)
        if header is None:
            return None
        if header.completed_at is not None or await complete(store, header, ended, now):
            break
    # Of a header that was completed just now, the sweep that it wants is this one.
    return await intents.sweep(store, header, ended, now)
