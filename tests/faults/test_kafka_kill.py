"""Sources are killed at random points while records flow; in the end every event is there, once."""

from __future__ import annotations

import asyncio
import signal
from multiprocessing.connection import wait

import apps
import kafka_apps
import pytest
from processes import KILLED

from fanfold.model import TaskState
from kafka_broker import kafka_broker
from kafka_mock import mock_cluster
from sourcing import until_committed, value

PARTITIONS = 4
KILLS = 24
AT_ONCE = 2
MOST_ENQUEUED = 10
RECORDS_A_ROUND = AT_ONCE * MOST_ENQUEUED
"""So many that one source at least gets to its strike."""
LONGEST_STRIKE = 0.03
LONGEST_ROUND = 0.3
IMPATIENT = {"session.timeout.ms": 500, "heartbeat.interval.ms": 50, "max.poll.interval.ms": 3_000}
"""The mock cluster never answers those who wait to join when another one dies in the middle of that. They ask again,
some seconds after the last of these."""
CRASHED = -signal.SIGSEGV
"""librdkafka 2.16.0 follows a null pointer now and then, in `rd_kafka_sticky_assignor_assign_cb`, when a group's
leader divides partitions while others die. To the promise it is one more way to be killed."""


@pytest.fixture
def site(make_site):
    return make_site()


# About 25 seconds on two cores: the mock cluster notices a dead member within half a second.
async def test_sources_killed_at_random_points_lose_no_event_and_enqueue_none_twice(site, rng):
    with mock_cluster() as cluster:
        topic, group = cluster.topic(PARTITIONS), cluster.group()
        client = cluster.client | {"group.id": group, **IMPATIENT}
        worker = site.start(kafka_worker)
        names = await massacre(site, rng, cluster, client, topic)
        await finish(site, cluster, client, topic, len(names))
        worker.terminate()  # in order: what it holds goes back at once
        worker.join()
    site.run(kafka_apps.drain_all)
    await assert_all_ran_once(site, names)


# About 25 seconds, most of them Tansu's: a dead member's partitions come back when its session is over.
async def test_a_source_killed_on_a_real_broker_is_followed_by_one_that_loses_nothing(site, rng):
    with kafka_broker() as broker:
        topic, group = broker.topic(PARTITIONS), broker.group()
        client = broker.client | {"group.id": group}
        names = [f"doc-{number}" for number in range(300)]
        broker.produce(topic, map(value, names), key=lambda raw: raw)
        doomed = site.start(kafka_apps.doomed_source, rng.randint(1, 250), rng.uniform(0, 0.05), client, topic)
        doomed.join()
        await assert_nothing_uncovered(site, broker, group, topic)
        await finish(site, broker, client, topic, len(names))
    site.run(kafka_apps.drain_all)
    await assert_all_ran_once(site, names)


async def massacre(site, rng, cluster, client, topic):
    """Kill sources of one group, several at once, while records come in; answers the entities of all records.

    Every other one dies while it enqueues, the rest at any time: also while they start, join or leave.
    """

    def doomed():
        enqueued, seconds = rng.randint(1, MOST_ENQUEUED), rng.uniform(0, LONGEST_STRIKE)
        return site.start(kafka_apps.doomed_source, enqueued, seconds, client, topic)

    crew, killed, names = [doomed() for _ in range(AT_ONCE)], 0, []
    while killed < KILLS:
        new = [f"doc-{len(names) + number}" for number in range(RECORDS_A_ROUND)]
        names += new
        cluster.produce(topic, map(value, new), key=lambda raw: raw)
        waits = None if killed % 2 else rng.uniform(0, LONGEST_ROUND)
        fallen = wait([source.sentinel for source in crew], waits)
        dead = [source for source in crew if source.sentinel in fallen]
        for source in dead or [rng.choice(crew)]:
            source.kill()
            source.join()
            assert source.exitcode in {KILLED, CRASHED}
            crew.remove(source)
            killed += 1
        await assert_nothing_uncovered(site, cluster, client["group.id"], topic)
        crew += [doomed() for _ in range(AT_ONCE - len(crew))]
    for source in crew:
        source.kill()
        source.join()
    return names


async def assert_nothing_uncovered(site, cluster, group, topic):
    """No committed offset passes an event that isn't in the ledger."""
    committed = await asyncio.to_thread(cluster.committed, group, topic, PARTITIONS)
    async with site.producer() as app:
        known = {fan_out.event_id for fan_out in await app.fan_outs_async(limit=100_000)}
    below = {f"{topic}:{number}:{at}" for number, offset in enumerate(committed) for at in range(offset)}
    assert below <= known


async def finish(site, cluster, client, topic, count):
    """Let a last source do what is left, and stop in order; the next one, where librdkafka crashes: never in here."""
    committed = asyncio.create_task(until_committed(cluster, client["group.id"], topic, count, PARTITIONS))
    while not committed.done():
        source = site.start(kafka_apps.source, client, topic)
        ended = asyncio.create_task(asyncio.to_thread(source.join))
        await asyncio.wait({committed, ended}, return_when=asyncio.FIRST_COMPLETED)
        assert committed.done() or source.exitcode == CRASHED
    await committed
    source.terminate()
    await ended
    assert source.exitcode in {0, CRASHED}


async def assert_all_ran_once(site, names):
    fan_outs, counts, letters = await site.outcome()
    assert sorted(fan_out.entity_id for fan_out in fan_outs) == sorted(names)
    assert all(fan_out.progress.succeeded == len(kafka_apps.NAMES) for fan_out in fan_outs)
    assert all(fan_out.fold_state is TaskState.SUCCEEDED for fan_out in fan_outs)
    assert (counts.messages_available, counts.messages_in_flight, letters) == (0, 0, [])
    expected = {(name, task): [1] for name in names for task in (*kafka_apps.NAMES, apps.FOLD)}
    assert site.runs() == expected


def kafka_worker():
    from fanfold.runner import run_worker  # noqa: PLC0415 - in the process that works

    run_worker(kafka_apps.app)
