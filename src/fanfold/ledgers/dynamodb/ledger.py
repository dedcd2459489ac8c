"""The ledger in a table of Amazon DynamoDB."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Final, TypeVar

from fanfold.clock import Clock, SystemClock
from fanfold.errors import LedgerError
from fanfold.ledgers.dynamodb import address as addresses
from fanfold.ledgers.dynamodb import (
    concluding,
    finding,
    finishing,
    intents,
    noting,
    opening,
    reading,
    rerunning,
    shapes,
)
from fanfold.ledgers.dynamodb import table as tables
from fanfold.ledgers.dynamodb.claiming import Claiming
from fanfold.ledgers.dynamodb.client import make_client
from fanfold.ledgers.dynamodb.reading import Layouts
from fanfold.ledgers.dynamodb.shapes import Header
from fanfold.ledgers.dynamodb.store import Store, together
from fanfold.ledgers.protocol import Cancelled, Claim, Claimed, Configs, Finish, Opened, Plan, Recorded, Unsent
from fanfold.model import FOLD_NAME, Ended, FanOut, TaskRecord

T = TypeVar("T")
R = TypeVar("R")

_SENT: Final = "SET open_at = :now REMOVE unsent_at"
_IF_OPEN: Final = "generation = :generation AND attribute_exists(open_at)"
_LEAD: Final = "SET holder = :holder, lead_until = :until, expires_at = :expires"
_IF_FREE: Final = "attribute_not_exists(pk) OR holder = :holder OR lead_until <= :now"
_ROLE_KEPT: Final = 86_400


class DynamoDBLedger:
    """A `Ledger` on DynamoDB. Every write is conditional on one item; `docs/ledgers.md` counts them."""

    def __init__(self, url: str, *, client: Any = None, clock: Clock | None = None) -> None:
        """Nothing is connected before `start`.

        Args:
            url: `dynamodb://table?region=…&endpoint_url=…&create=true`.
            client: a boto3 DynamoDB client to use; it stays its owner's. None: one is made.
            clock: where times come from.

        Raises:
            ConfigurationError: the URL can't be read.
        """
        self.url = url
        self._address = addresses.parse(url)
        self._given = client
        self._clock = clock or SystemClock()
        self._client: Any = None
        self._open_store: Store | None = None
        self._layouts = Layouts()
        self._numbers = itertools.count()

    async def start(self) -> None:
        """See that the table is there. Idempotent.

        Raises:
            ConfigurationError: no client can be made.
            LedgerError: the table is missing, or another application's, or may not be looked at.
        """
        if self._open_store is None:
            self._client = self._given or await asyncio.to_thread(make_client, self._address)
            await asyncio.to_thread(tables.check, self._client, self._address)
            self._open_store = Store(self._client, self._address.table, self._clock.sleep)

    async def close(self) -> None:
        """Let go of threads and connections. Idempotent."""
        if self._open_store is not None:
            closing, self._open_store = self._open_store, None
            await asyncio.to_thread(closing.close)
            if self._given is None:
                self._client.close()

    async def open(self, plan: Plan) -> Opened:
        """Seal the plan's names, or find them as they stand."""
        now = self._clock.now()
        listed_as = f"{now:017.6f}/{next(self._numbers):09d}"
        return await opening.open_fan_out(self._store, self._layouts, plan, listed_as, now)

    async def sent(self, fan_out_id: str, generation: int) -> None:
        """Note that the queue has accepted what waits."""
        values = {"now": self._clock.now(), "generation": generation}
        await self._store.update(shapes.header_key(fan_out_id), _SENT, values, when=_IF_OPEN)

    async def claim(self, claims: Sequence[Claim]) -> list[Claimed | None]:
        """Start attempts."""
        headers = await self._look(claim.fan_out_id for claim in claims if claim.task_name != FOLD_NAME)
        claiming = Claiming(store=self._store, layouts=self._layouts, headers=headers, now=self._clock.now())

        def answer(claim: Claim) -> Awaitable[Claimed | None]:
            return claiming.claim_fold(claim) if claim.task_name == FOLD_NAME else claiming.claim(claim)

        return await _in_turn(claims, lambda claim: (claim.fan_out_id, claim.task_name), answer)

    async def finish(self, finishes: Sequence[Finish]) -> list[Recorded]:
        """End attempts."""
        await self._look(finish.fan_out_id for finish in finishes if finish.task_name != FOLD_NAME)
        now = self._clock.now()

        def end(finish: Finish) -> Awaitable[finishing.Ended]:
            return finishing.end(self._store, self._layouts, finish, now)

        ended = await _in_turn(finishes, lambda finish: (finish.fan_out_id, finish.task_name), end)
        return await finishing.recorded(self._store, ended, now)

    async def stopped(self, claims: Sequence[Claim]) -> list[bool]:
        """Which running attempts nobody wants any more."""
        await self._look(claim.fan_out_id for claim in claims)
        known = [(claim, self._layouts.get(claim.fan_out_id)) for claim in claims]
        keys = {layout.task_key(claim.task_name): None for claim, layout in known if layout is not None}
        items = {(item["pk"], item["sk"]): shapes.task_of(item) for item in await self._store.get_many([*keys])}
        found = [items.get(layout.task_key(claim.task_name)) if layout else None for claim, layout in known]
        return [task is not None and task.stopped(claim.generation) for claim, task in zip(claims, found, strict=True)]

    async def cancel(
        self, fan_out_id: str, task_names: Sequence[str] | None = None, *, ended: Ended = Ended.CANCELLED
    ) -> Cancelled | None:
        """Cancel some tasks, or all."""
        now = self._clock.now()
        if task_names is None:
            names: Sequence[str] | None = await concluding.cancel(self._store, fan_out_id, ended, now)
        else:
            names = await self._cancel_some(fan_out_id, task_names, ended, now)
        header = await concluding.conclude(self._store, fan_out_id, now)
        if names is None or header is None:
            return None
        return Cancelled(task_names=names, fold_due=header.fold_due, generation=header.due_generation)

    async def rerun(
        self,
        fan_out_id: str,
        task_names: Sequence[str] | None = None,
        *,
        failed_only: bool = True,
        configs: Configs | None = None,
    ) -> Unsent | None:
        """Let terminal tasks start anew."""
        edited = {name: opening.encoded_config(name, config) for name, config in (configs or {}).items()}
        wanted = rerunning.Wanted(names=task_names, failed_only=failed_only, configs=edited)
        return await rerunning.rerun(self._store, fan_out_id, wanted, self._clock.now())

    async def get(self, fan_out_id: str) -> FanOut | None:
        """One fan-out with its tasks."""
        header = await reading.header(self._store, fan_out_id)
        return await reading.fan_out(self._store, header) if header is not None else None

    async def summary(self, fan_out_id: str) -> FanOut | None:
        """One fan-out without its tasks."""
        header = await reading.header(self._store, fan_out_id)
        return await reading.summary(self._store, header) if header is not None else None

    async def list(
        self, *, limit: int = 50, open_only: bool = False, entity_id: str | None = None, parent: str | None = None
    ) -> Sequence[FanOut]:
        """The newest fan-outs (with `open_only`: those that were touched last) first, without their tasks."""
        if parent is not None:
            found = await finding.of_parent(self._store, parent, limit)
        elif entity_id is not None:
            found = await finding.of_entity(self._store, entity_id, limit)
        else:
            found = await (finding.open_newest if open_only else finding.newest)(self._store, limit)
        wanted = [header for header in found if not open_only or header.completed_at is None]
        return await reading.summaries(self._store, wanted)

    async def tasks(self, fan_out_id: str) -> Sequence[TaskRecord]:
        """The tasks of one fan-out in the order of the plan."""
        header = await reading.header(self._store, fan_out_id)
        return [task.record for task in await reading.tasks(self._store, header.layout)] if header is not None else []

    async def unsent(self, *, untouched_for: float, limit: int = 100) -> Sequence[Unsent]:
        """Open fan-outs that nobody noted as sent."""
        now = self._clock.now()
        return await finding.unsent(self._store, now - untouched_for, now, limit)

    async def stalled(self, *, untouched_for: float, limit: int = 100) -> Sequence[FanOut]:
        """Open fan-outs in which no attempt ended for so many seconds."""
        now = self._clock.now()
        return await finding.stalled(self._store, now - untouched_for, now, limit)

    async def overdue(self, *, limit: int = 100) -> Sequence[FanOut]:
        """Open fan-outs whose deadline has come."""
        return await finding.overdue(self._store, self._clock.now(), limit)

    async def unfolded(self, *, completed_since: float, completed_before: float, limit: int = 100) -> Sequence[FanOut]:
        """Completed fan-outs whose fold was never claimed."""
        return await finding.unfolded(self._store, completed_since, completed_before, limit)

    async def unended_folds(self, *, untouched_for: float, limit: int = 100) -> Sequence[FanOut]:
        """Fan-outs whose fold was claimed once, and of which nothing was heard for so many seconds."""
        return await finding.unended_folds(self._store, self._clock.now() - untouched_for, limit)

    async def lead(self, role: str, holder: str, seconds: float) -> bool:
        """Take or keep a role."""
        now = self._clock.now()
        until = now + seconds
        values = {"holder": holder, "until": until, "expires": int(until) + _ROLE_KEPT, "now": now}
        return (await self._store.update((f"role/{role}", "role"), _LEAD, values, when=_IF_FREE)).applied

    async def purge(self, *, unfolded_for: float = 0.0, limit: int = 1000) -> int:
        """Forget fan-outs that are kept no longer."""
        now = self._clock.now()
        return await finding.purge(self._store, now, now - unfolded_for, limit)

    @property
    def _store(self) -> Store:
        if self._open_store is None:
            raise LedgerError(f"ledger {self.url} isn't started, or is closed")
        return self._open_store

    async def _cancel_some(
        self, fan_out_id: str, names: Sequence[str], ended: Ended, now: float
    ) -> Sequence[str] | None:
        header = await concluding.settled(self._store, fan_out_id, now)
        if header is None:
            return None
        cancelled = await intents.cancel_tasks(self._store, header, dict.fromkeys(names), ended, now)
        await noting.note(self._store, header.layout, cancelled, now)
        return [task.record.task_name for task in cancelled]

    async def _look(self, fan_out_ids: Any) -> dict[str, Header]:
        """Read the headers that are needed: of fan-outs met for the first time, and of those that aren't plain."""
        known = {fan_out_id: self._layouts.get(fan_out_id) for fan_out_id in fan_out_ids}
        wanted = [fan_out_id for fan_out_id, layout in known.items() if layout is None or not layout.plain]
        headers = await reading.headers(self._store, wanted) if wanted else {}
        for header in headers.values():
            self._layouts.keep(header.layout)
        for fan_out_id in wanted:
            if fan_out_id not in headers:
                self._layouts.forget(fan_out_id)
        return headers


async def _in_turn(entries: Sequence[T], key: Callable[[T], Hashable], act: Callable[[T], Awaitable[R]]) -> list[R]:
    """What comes of each entry, in their order: those of one key one after the other, all others at once."""
    places: dict[Hashable, list[int]] = {}
    for place, entry in enumerate(entries):
        places.setdefault(key(entry), []).append(place)

    async def one_after_the_other(group: Sequence[int]) -> list[tuple[int, R]]:
        return [(place, await act(entries[place])) for place in group]

    done = dict(pair for pairs in await together(map(one_after_the_other, places.values())) for pair in pairs)
    return [done[place] for place in range(len(entries))]
