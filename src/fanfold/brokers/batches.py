"""Batch requests: any number of entries in, one answer for each of them out."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from fanfold import limits
from fanfold.brokers.faults import passing
from fanfold.clock import Clock
from fanfold.errors import BrokerError
from fanfold.model import EntryError
from fanfold.retry import Backoff

Call = Callable[[str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
Answer = Mapping[str, Any] | EntryError
"""What became of one entry: its element of `Successful`, or an error."""

_AT_ONCE: Final = 8
"""Requests under way at once for one call: a fan-out of 42 is five requests, and takes little longer than one."""
_TRIES: Final = 4
_BACKOFF: Final = Backoff(base=0.1, factor=4.0, cap=2.0)
_MISSING: Final = EntryError(
    code="NotInAnswer", text="the queue's answer doesn't mention this entry", retryable=True
)  # fmt: skip
_LEASE_LOST_TEXT: Final = re.compile("handle has expired|not available for visibility timeout change")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a batch request: its fields without the Id, its bytes, and the group whose order it is part of."""

    fields: Mapping[str, Any]
    size: int = 0
    group: str | None = None


class Batches:
    """Makes batch requests and answers for every entry.

    1. Cuts the entries into requests of ten and 1 MiB, several under way at once. One with messages of a group that is
       in an earlier request waits until that one is settled: requests side by side may overtake each other.
    2. Finds each entry's answer by its id: what isn't mentioned has failed.
    3. Makes a request again for what failed in passing, with the same deduplication ids.

    Where the third of ten messages of one group failed and the others were accepted, sending it again puts it behind
    them. SQS can't take back what it accepted, and leaving it to the caller would put it further behind. By default
    each task is a group of its own, so only groups that were widened by choice can see this.
    """

    def __init__(self, call: Call, *, clock: Clock, rng: random.Random) -> None:
        self._call = call
        self._clock = clock
        self._rng = rng

    async def run(self, action: str, url: str, entries: Sequence[Entry]) -> list[Answer]:
        """Answers in the order of the entries. A request that fails as a whole is the error of each of its entries."""
        request = partial(self._request, asyncio.Semaphore(_AT_ONCE), action, url)
        batches = list(_cut(entries))
        if len(batches) == 1:
            return await self._settle(request, batches[0])
        last: dict[str, asyncio.Task[list[Answer]]] = {}
        tasks = []
        for batch in batches:
            groups = {entry.group for entry in batch if entry.group is not None}
            earlier = {last[group] for group in groups if group in last}
            tasks.append(asyncio.create_task(self._settle(request, batch, after=earlier)))
            last.update(dict.fromkeys(groups, tasks[-1]))
        return [answer for answers in await asyncio.gather(*tasks) for answer in answers]

    async def _settle(
        self,
        request: Callable[[Sequence[Entry]], Awaitable[list[Answer]]],
        batch: Sequence[Entry],
        *,
        after: Collection[asyncio.Task[list[Answer]]] = (),
    ) -> list[Answer]:
        if after:
            await asyncio.wait(after)
        answers = await request(batch)
        for attempt in range(1, _TRIES):
            again = [i for i, answer in enumerate(answers) if isinstance(answer, EntryError) and answer.retryable]
            if not again:
                break
            await self._clock.sleep(_BACKOFF.delay(attempt, self._rng))
            for i, answer in zip(again, await request([batch[i] for i in again]), strict=True):
                answers[i] = answer
        return answers

    async def _request(self, room: asyncio.Semaphore, action: str, url: str, batch: Sequence[Entry]) -> list[Answer]:
        entries = [{"Id": str(i), **entry.fields} for i, entry in enumerate(batch)]
        try:
            async with room:
                answer = await self._call(action, {"QueueUrl": url, "Entries": entries})
        except BrokerError as error:
            return [EntryError(code=type(error).__name__, text=str(error), retryable=error.transient)] * len(batch)
        return _reconciled(len(batch), answer)


def _cut(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    batch: list[Entry] = []
    total = 0
    for entry in entries:
        if batch and (len(batch) == limits.MAX_BATCH_ENTRIES or total + entry.size > limits.MAX_REQUEST_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(entry)
        total += entry.size
    if batch:
        yield batch


def _reconciled(count: int, answer: Mapping[str, Any]) -> list[Answer]:
    done: dict[str, Answer] = {entry["Id"]: entry for entry in answer.get("Successful") or ()}
    failed: dict[str, Answer] = {entry["Id"]: _entry_error(entry) for entry in answer.get("Failed") or ()}
    answers = done | failed
    return [answers.get(str(i), _MISSING) for i in range(count)]


def _entry_error(entry: Mapping[str, Any]) -> EntryError:
    code, text = str(entry.get("Code", "")), str(entry.get("Message", ""))
    lost = _lease_lost(code, text)
    retryable = not entry.get("SenderFault", False) or passing(code)
    return EntryError(code=code, text=text, retryable=retryable and not lost, lease_lost=lost)


def _lease_lost(code: str, text: str) -> bool:
    if "ReceiptHandleIsInvalid" in code or "MessageNotInflight" in code:
        return True
    return "InvalidParameterValue" in code and _LEASE_LOST_TEXT.search(text) is not None
