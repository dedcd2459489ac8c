"""A source in the test's own event loop, and what a test can wait for."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

from fanfold import Fanfold
from fanfold.service import Deadline
from fanfold.sources.kafka import KafkaSource
from fanfold.sources.settings import resolve

LONG = 3600
_LOOK = 0.005


class Gated:
    """An application that plans `{"id": …}` events, each when the test lets it."""

    def __init__(self, url, **options):
        self.app = Fanfold(url, grace=LONG)
        self.gates = {}
        self.planned = []
        self.app.event("events", entity=lambda event: event["id"], **options)(self.plan)

    async def plan(self, event):
        self.planned.append(event["id"])
        if event["id"] in self.gates:
            await self.gates[event["id"]].wait()
        return event.get("tasks", ["a", "b"])

    def hold(self, *names):
        """Let the planner wait at these events until `let_go`."""
        self.gates |= {name: asyncio.Event() for name in names}

    def let_go(self):
        for gate in self.gates.values():
            gate.set()


def value(name, **more):
    """An event's value."""
    return json.dumps({"id": name, **more}).encode()


class Running:
    """A source that runs, and what it says."""

    def __init__(self, app, cluster, topic, group, **given):
        self.said = []
        app.subscribe(self.said.append)
        client = cluster.client | {"group.id": group} | given.pop("client", {})
        self.source = KafkaSource(app, resolve({"topics": [f"events={topic}"], **given}, client=client, environ={}))

    async def until(self, condition):
        """Return when `condition` holds."""
        while not condition():  # noqa: ASYNC110 - counts, threads and clusters tell nobody
            await asyncio.sleep(_LOOK)

    async def until_said(self, name, times=1):
        """Return when an event was said so many times; answers the last one's fields."""
        await self.until(lambda: len(self.of(name)) >= times)
        return self.of(name)[-1]

    async def until_done(self, count):
        """Return when so many records are enqueued, set aside, or meant nothing."""
        tally = self.source.tally
        await self.until(lambda: tally.enqueued + tally.nothing + tally.poison >= count)

    def of(self, name):
        """The fields of all events of a name, in order."""
        return [event.fields for event in self.said if event.name == name]

    async def stop(self, seconds=LONG):
        await self.source.stop(Deadline(seconds))


@asynccontextmanager
async def running(app, cluster, topic, group, **given):
    """A source for the length of a `with` block; it is stopped at once where the test hasn't stopped it."""
    made = Running(app, cluster, topic, group, **given)
    await made.source.start()
    try:
        yield made
    finally:
        await made.stop(0.5)


async def entities(app):
    """The entities of all fan-outs in the ledger, sorted."""
    return sorted(fan_out.entity_id for fan_out in await app.fan_outs_async(limit=100_000))
