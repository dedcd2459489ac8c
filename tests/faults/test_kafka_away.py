"""Kafka, the queue or the ledger is away for a while, members come and go: a source lives through it."""

from __future__ import annotations

import sqlite3

import pytest

from fanfold import database
from fanfold.model import EntryError, SendResult
from kafka_broker import kafka_broker
from kafka_mock import mock_cluster
from servers import line_to
from sourcing import Gated, entities, running, until_committed, value

TASKS = 2


@pytest.fixture
async def gated(tmp_path):
    made = Gated(f"sqlite:///{tmp_path}/tasks.db")
    async with made.app:
        yield made


def names(count, prefix="doc"):
    return [f"{prefix}-{number:03}" for number in range(count)]


def fill(cluster, topic, entities):
    cluster.produce(topic, map(value, entities), key=lambda raw: raw)


async def assert_there_once(app, wanted):
    assert await entities(app) == sorted(wanted)
    assert (await app.status_async()).messages_available == TASKS * len(wanted)


async def test_a_broker_that_is_silent_for_a_while_is_waited_for(gated, kafka):
    topic, group = kafka.topic(2), kafka.group()
    before, after = names(50), names(50, "late")
    client = {"socket.timeout.ms": 1000, "reconnect.backoff.max.ms": 200}
    async with running(gated.app, kafka, topic, group, client=client) as run:
        fill(kafka, topic, before)
        await run.until_done(50)
        with kafka.away():
            await run.until_said("kafka.error")
        fill(kafka, topic, after)
        await run.until_done(100)
        await run.stop()
    await assert_there_once(gated.app, before + after)
    assert sum(kafka.committed(group, topic, 2)) == 100


async def test_while_the_file_is_locked_the_source_waits_and_the_group_hears_of_it(
    gated, kafka_mock, tmp_path, monkeypatch
):
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.05)
    topic, group = kafka_mock.topic(), kafka_mock.group()
    # Short, so that a source that forgot to poll or to let its heart beat would be thrown out.
    client = {"session.timeout.ms": 3000, "max.poll.interval.ms": 3000, "heartbeat.interval.ms": 100}
    async with running(gated.app, kafka_mock, topic, group, client=client, max_in_flight=10) as run:
        await run.until_said("kafka.assigned")
        lock = sqlite3.connect(tmp_path / "tasks.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        fill(kafka_mock, topic, names(30))
        said = await run.until_said("kafka.waiting", times=2)
        assert "locked by another program" in said["reason"]
        assert kafka_mock.committed(group, topic) == [0]
        assert len(gated.planned) < 30
        lock.close()
        await run.until_done(30)
        await run.stop()
    assert [*run.of("kafka.lost"), *run.of("kafka.error"), *run.of("kafka.revoked")[1:]] == []
    await assert_there_once(gated.app, names(30))
    assert kafka_mock.committed(group, topic) == [30]


async def test_while_sqs_is_away_the_source_waits_and_then_enqueues_what_has_come_meanwhile(
    kafka_mock, sqs_endpoint, sqs_queue, tmp_path, monkeypatch
):
    url, _ = sqs_queue
    monkeypatch.setenv("FANFOLD_LEDGER", f"sqlite:///{tmp_path}/ledger.db")
    topic, group = kafka_mock.topic(2), kafka_mock.group()
    async with line_to(sqs_endpoint) as line:
        gated = Gated(url.replace(sqs_endpoint, f"http://127.0.0.1:{line.port}"))
        async with gated.app, running(gated.app, kafka_mock, topic, group) as run:
            fill(kafka_mock, topic, names(10))
            await run.until_done(10)
            line.cut()
            fill(kafka_mock, topic, names(10, "late"))
            await run.until_said("kafka.waiting")
            assert len(await entities(gated.app)) > 10  # in the ledger, and not in the queue
            await line.mend()
            await run.until_done(20)
            await run.stop()
            await assert_there_once(gated.app, names(10) + names(10, "late"))
    assert run.of("kafka.lost") == []
    assert sum(kafka_mock.committed(group, topic, 2)) == 20


async def test_a_broker_that_is_restarted_with_its_data_is_gone_on_with(gated):
    with mock_cluster() as cluster:
        topic, group = cluster.topic(2), cluster.group()
        async with running(gated.app, cluster, topic, group, client={"reconnect.backoff.max.ms": 100}) as run:
            fill(cluster, topic, names(50))
            await run.until_done(50)
            with cluster.down():
                await run.until_said("kafka.error")
            fill(cluster, topic, names(50, "late"))
            await run.until_done(100)
            await run.stop()
        assert sum(cluster.committed(group, topic, 2)) == 100
    await assert_there_once(gated.app, names(50) + names(50, "late"))


async def test_a_broker_that_comes_back_with_nothing_is_read_from_its_new_beginning(gated):
    with kafka_broker() as broker:
        topic, group = broker.topic(), broker.group()
        client = {"reconnect.backoff.max.ms": 100, "topic.metadata.refresh.interval.ms": 500}
        async with running(gated.app, broker, topic, group, client=client) as run:
            fill(broker, topic, names(5))
            await run.until_done(5)
            broker.restart()
            broker.make_topic(topic, 1)
            fill(broker, topic, names(3, "late"))
            await run.until_done(8)
            await until_committed(broker, group, topic, 3, 1)
            await run.stop()
    await assert_there_once(gated.app, names(5) + names(3, "late"))


async def test_what_the_queue_takes_in_part_is_sent_again_until_it_has_it_all(gated, kafka_mock):
    topic, group = kafka_mock.topic(), kafka_mock.group()
    broker, failures = await gated.app.broker(), 5
    send = broker.send

    async def send_in_part(messages):
        nonlocal failures
        if failures <= 0:
            return await send(messages)
        failures -= 1
        refused = SendResult(error=EntryError(code="Throttled", text="slow down", retryable=True))
        return [*await send(messages[:1]), *[refused] * (len(messages) - 1)]

    broker.send = send_in_part
    async with running(gated.app, kafka_mock, topic, group) as run:
        fill(kafka_mock, topic, names(5))
        await run.until_said("kafka.waiting")
        await run.until_done(5)
        await run.stop()
    await assert_there_once(gated.app, names(5))
    assert kafka_mock.committed(group, topic) == [5]


async def test_sources_that_join_and_leave_a_group_share_its_partitions_and_lose_nothing(gated, kafka):
    topic, group = kafka.topic(4), kafka.group()
    wanted = names(400)
    async with running(gated.app, kafka, topic, group) as first:
        fill(kafka, topic, wanted[:100])
        await first.until_done(100)
        async with running(gated.app, kafka, topic, group) as second:
            fill(kafka, topic, wanted[100:200])
            await first.until_said("kafka.revoked")
            fill(kafka, topic, wanted[200:300])
            await second.until_done(1)
        fill(kafka, topic, wanted[300:])
        await until_committed(kafka, group, topic, 400, 4)
        await first.stop()
    await assert_there_once(gated.app, wanted)


@pytest.mark.parametrize("strategy", ["cooperative-sticky", "range"])
async def test_what_is_in_flight_of_a_revoked_partition_is_finished_and_committed_first(gated, kafka, strategy):
    topic, group = kafka.topic(2), kafka.group()
    client = {"partition.assignment.strategy": strategy}
    gated.hold("slow-0", "slow-1")
    kafka.produce(topic, [value("slow-0")], partition=0)
    kafka.produce(topic, [value("slow-1")], partition=1)
    async with running(gated.app, kafka, topic, group, client=client) as first:
        await first.until(lambda: len(gated.planned) == 2)
        async with running(gated.app, kafka, topic, group, client=client) as second:
            said = await second.until_said("kafka.revoking")
            assert said["in_flight"] > 0
            gated.let_go()
            await until_committed(kafka, group, topic, 2, 2)
            await second.stop()
        await first.stop()
    assert sorted(gated.planned) == ["slow-0", "slow-1"]
    await assert_there_once(gated.app, ["slow-0", "slow-1"])


async def test_what_isnt_finished_of_a_revoked_partition_in_time_is_left_to_the_next_member(gated, kafka):
    topic, group = kafka.topic(2), kafka.group()
    gated.hold("slow-0", "slow-1")
    kafka.produce(topic, [value("slow-0")], partition=0)
    kafka.produce(topic, [value("slow-1")], partition=1)
    client = {"partition.assignment.strategy": "range"}
    async with running(gated.app, kafka, topic, group, client=client) as first:
        first.source._consumer._patience = 0.1
        await first.until(lambda: len(gated.planned) == 2)
        async with running(gated.app, kafka, topic, group, client=client) as second:
            await second.until(lambda: len(gated.planned) == 4)
            gated.let_go()
            await until_committed(kafka, group, topic, 2, 2)
            await second.stop()
        await first.stop()
    await assert_there_once(gated.app, ["slow-0", "slow-1"])
