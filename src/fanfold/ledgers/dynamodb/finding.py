"""Questions about many fan-outs, answered from the indexes.

An index tells of a change a moment late, so each answer is held against the headers themselves. When an attempt last
ended in a fan-out, its buckets know; the indexes by that time learn it only here, when it matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fanfold.ledgers.dynamodb import concluding, noting, purging, reading, rerunning, shapes
from fanfold.ledgers.dynamodb.shapes import Header
from fanfold.ledgers.dynamodb.store import Key, Store, together
from fanfold.ledgers.dynamodb.wire import Item
from fanfold.ledgers.protocol import Unsent
from fanfold.model import FanOut

_IN_SLOT: Final = "slot = :slot"
_BY: Final = {
    "open": "slot = :slot AND open_at < :until",
    "unsent": "slot = :slot AND unsent_at < :until",
    "overdue": "slot = :slot AND ends_by <= :until",
    "unfolded": "slot = :slot AND unfolded_at BETWEEN :since AND :until",
    "kept": "slot = :slot AND purge_at <= :until",
}
_MOVE: Final = "SET open_at = :touched"
_IF_OPEN: Final = "nonce = :nonce AND attribute_exists(open_at)"
_MOVE_UNSENT: Final = "SET unsent_at = :touched"
_IF_UNSENT: Final = "nonce = :nonce AND attribute_exists(unsent_at)"


async def newest(store: Store, limit: int) -> list[Header]:
    """The newest fan-outs first."""
    return await _newest_in_slots(store, "newest", "listed_as", limit)


async def open_newest(store: Store, limit: int) -> list[Header]:
    """The open fan-outs, those that were touched last first, as far as the index knows."""
    found = await _newest_in_slots(store, "open", "open_at", limit)
    return [header for header in found if header.completed_at is None]


async def of_entity(store: Store, entity_id: str, limit: int) -> list[Header]:
    """An entity's fan-outs, the newest first."""
    return await _newest_of(store, "of_entity", "entity_id = :of", entity_id, limit)


async def of_parent(store: Store, parent: str, limit: int) -> list[Header]:
    """The fan-outs that another's completion enqueued, the newest first."""
    return await _newest_of(store, "of_parent", "parent_id = :of", parent, limit)


async def unsent(store: Store, since: float, now: float, limit: int) -> list[Unsent]:
    """Open fan-outs that nobody noted as sent, untouched since a time, with what waits of them."""
    found = await _untouched(store, "unsent_at", since, now, limit)
    return await together(rerunning.unsent_of(store, header) for header in found)


async def stalled(store: Store, since: float, now: float, limit: int) -> list[FanOut]:
    """Open fan-outs untouched since a time."""
    return await reading.summaries(store, await _untouched(store, "open_at", since, now, limit))


async def overdue(store: Store, now: float, limit: int) -> list[FanOut]:
    """Open fan-outs whose deadline has come."""
    found = await _headers(store, await _due(store, "overdue", "ends_by", {"until": now}, limit))
    return await reading.summaries(store, [header for header in found if header.overdue(now)])


async def unfolded(store: Store, since: float, before: float, limit: int) -> list[FanOut]:
    """Fan-outs completed between two times whose fold was never claimed."""
    values = {"since": since, "until": before}
    found = await _headers(store, await _due(store, "unfolded", "unfolded_at", values, limit))
    missing = [header for header in found if since <= header.item.get("unfolded_at", before) < before]
    return await reading.summaries(store, missing)


async def unended_folds(store: Store, since: float, limit: int) -> list[FanOut]:
    """Fan-outs whose fold has begun and isn't over, touched last before a time."""
    values = {"since": -shapes.FOLDING, "until": since - shapes.FOLDING}
    found = await _headers(store, await _due(store, "unfolded", "unfolded_at", values, limit))
    return await reading.summaries(store, [header for header in found if _waits_since(header, since)])


async def purge(store: Store, now: float, since: float, limit: int) -> int:
    """Forget fan-outs that are kept no longer, and clear away remains; answers how many were forgotten.

    Those that can't be yet stand in the index before the others, and hide none of them.
    """
    seen: set[Key] = set()
    forgotten = 0
    while forgotten < limit:
        due = await _due(store, "kept", "purge_at", {"until": now}, limit + len(seen))
        fresh = [key for item in due if (key := (item["pk"], item["sk"])) not in seen][: limit - forgotten]
        if not fresh:
            break
        seen |= set(fresh)
        expired = [item for item in await store.get_many(fresh) if item.get("purge_at", now + 1) <= now]
        forgotten += sum(await together(_purge(store, item, now, since) for item in expired))
    return forgotten


def _waits_since(header: Header, since: float) -> bool:
    return header.fold_due and header.fold_state is not None and header.item["fold_at"] < since


async def _purge(store: Store, item: Item, now: float, since: float) -> bool:
    if item["sk"] == "header":
        return await purging.forget(store, shapes.header_of(item), now, since)
    await purging.clear(store, shapes.layout_of(item))
    return False


async def _untouched(store: Store, by: str, since: float, now: float, limit: int) -> list[Header]:
    """Open fan-outs in which nothing happened since a time, oldest first; what is wrong with them is mended first."""
    seen: set[str] = set()
    found: list[Header] = []
    while len(found) < limit:
        due = await _due(store, by.removesuffix("_at"), by, {"until": since}, limit + len(seen))
        fresh = [header for header in await _headers(store, due) if header.layout.fan_out_id not in seen]
        if not fresh:
            break
        seen |= {header.layout.fan_out_id for header in fresh}
        looked = await together(_still_untouched(store, header, by, since, now) for header in fresh)
        found += [header for header in looked if header is not None]
    return found[:limit]


async def _still_untouched(store: Store, indexed: Header, by: str, since: float, now: float) -> Header | None:
    header = await concluding.settled(store, indexed.layout.fan_out_id, now)
    if header is None or by not in header.item:
        return None
    touched = max(bucket.touched_at for bucket in await reading.buckets(store, header.layout))
    if max(touched, header.item[by]) >= since:
        await _move(store, header, by, max(touched, header.item[by]))
        return None
    mended = await _mended(store, header, now)
    return mended if mended is not None and by in mended.item else None


async def _mended(store: Store, header: Header, now: float) -> Header | None:
    """A fan-out, after what is terminal in it is noted, where somebody died before that, and it is ended if due."""
    known = await reading.buckets(store, header.layout)
    found = await reading.contents(store, header.layout, [bucket.number for bucket in known if not bucket.full])
    missing = [
        task
        for each in found
        for task in each.tasks
        if task.record.state.terminal and task.position not in each.bucket.states
    ]
    await noting.note(store, header.layout, missing, now)
    return await concluding.conclude(store, header.layout.fan_out_id, now)


async def _move(store: Store, header: Header, by: str, touched: float) -> None:
    change, when = (_MOVE, _IF_OPEN) if by == "open_at" else (_MOVE_UNSENT, _IF_UNSENT)
    key = shapes.header_key(header.layout.fan_out_id)
    await store.update(key, change, {"touched": touched, "nonce": header.layout.nonce}, when=when)


async def _due(store: Store, index: str, by: str, values: dict[str, Any], limit: int) -> list[Item]:
    """What an index holds up to a time, oldest first."""
    slots = [values | {"slot": str(slot)} for slot in range(shapes.SLOTS)]
    found = await together(store.query(_BY[index], slot, IndexName=index, Limit=limit) for slot in slots)
    return sorted((item for items in found for item in items), key=lambda item: item[by])[:limit]


async def _newest_in_slots(store: Store, index: str, by: str, limit: int) -> list[Header]:
    options: dict[str, Any] = {"IndexName": index, "ScanIndexForward": False, "Limit": limit}
    slots = [{"slot": str(slot)} for slot in range(shapes.SLOTS)]
    found = await together(store.query(_IN_SLOT, slot, **options) for slot in slots)
    merged = sorted((item for items in found for item in items), key=lambda item: item[by], reverse=True)
    return await _headers(store, merged[:limit])


async def _newest_of(store: Store, index: str, condition: str, of: str, limit: int) -> list[Header]:
    found = await store.query(condition, {"of": of}, IndexName=index, ScanIndexForward=False, Limit=limit)
    return await _headers(store, found)


async def _headers(store: Store, indexed: Sequence[Item]) -> list[Header]:
    """The headers of what an index holds, in its order, without those that are there no longer."""
    ids = [item["pk"].removeprefix("fan_out/") for item in indexed if item["sk"] == "header"]
    found = await reading.headers(store, ids)
    return [found[fan_out_id] for fan_out_id in ids if fan_out_id in found]
