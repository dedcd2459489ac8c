"""Forgetting fan-outs, and clearing away what belongs to none.

A fan-out is forgotten in one write, which leaves a note of its remains; they are cleared away after it, as those of an
opening that was never sealed are. Whoever dies in between leaves the note to the next.
"""

from __future__ import annotations

from typing import Final

from fanfold.ledgers.dynamodb import shapes
from fanfold.ledgers.dynamodb.shapes import Header, Layout
from fanfold.ledgers.dynamodb.store import Store, together
from fanfold.ledgers.dynamodb.wire import Item
from fanfold.model import TaskState

_CLEARING: Final = "SET clearing = :yes"
_THERE: Final = "attribute_exists(pk)"
_IF_NEW: Final = "attribute_not_exists(pk)"
_IF_EXPIRED: Final = (
    "nonce = :nonce AND purge_at <= :now AND (fold_state IN (:succeeded, :dead, :cancelled) "
    "OR (attribute_not_exists(fold_state) AND purge_at <= :due_before))"
)
_OVER: Final = {state.value: state.value for state in (TaskState.SUCCEEDED, TaskState.DEAD, TaskState.CANCELLED)}


def remains_of(layout: Layout, purge_at: float) -> Item:
    """The note that buckets are there which belong to no fan-out."""
    key = shapes.remains_key(layout)
    return {
        "pk": key[0],
        "sk": key[1],
        "fan_out_id": layout.fan_out_id,
        "nonce": layout.nonce,
        "bucket_count": layout.buckets,
        "slot": shapes.slot_of(layout.fan_out_id),
        "purge_at": purge_at,
    }


async def forget(store: Store, header: Header, now: float, since: float) -> bool:
    """Forget a fan-out that is kept no longer; False: somebody else did, or runs it again, or its fold isn't over.

    One whose fold never began goes only where that was due before `since`.
    """
    layout = header.layout
    due_before = since + header.item["keep_for"]
    never_begun = header.fold_state is None
    if header.completed_at is None or (header.item["purge_at"] > due_before if never_begun else header.fold_due):
        return False
    answers = await store.swap(
        put=remains_of(layout, now),
        when_put=_IF_NEW,
        delete=shapes.header_key(layout.fan_out_id),
        when_deleted=_IF_EXPIRED,
        values=_OVER | {"nonce": layout.nonce, "now": now, "due_before": due_before},
    )
    if not all(answers):
        return False
    await clear(store, layout)
    return True


async def clear(store: Store, layout: Layout) -> None:
    """Clear away remains. An opening that is still at it can't be sealed any more."""
    note = await store.update(shapes.remains_key(layout), _CLEARING, {"yes": True}, when=_THERE)
    if not note.applied:
        return
    await together(_clear(store, layout, number) for number in range(layout.buckets))
    await store.write_many(deletes=[shapes.remains_key(layout)])


async def _clear(store: Store, layout: Layout, number: int) -> None:
    partition = layout.partition(number)
    items = await store.query("pk = :pk", {"pk": partition}, ProjectionExpression="pk, sk")
    await store.write_many(deletes=[(item["pk"], item["sk"]) for item in items])
