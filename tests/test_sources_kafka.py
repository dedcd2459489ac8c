from __future__ import annotations

import asyncio

import pytest

from fanfold import Fanfold
from fanfold.errors import ConfigurationError, KafkaError, KafkaUnavailableError, PoisonEventError
from fanfold.service import Deadline
from fanfold.sources import consumer as consumer_module
from fanfold.sources.kafka import KafkaSource
from fanfold.sources.settings import resolve
from kafka_mock import HEARTBEAT, ILLEGAL_GENERATION, NOT_COORDINATOR, OFFSET_COMMIT, REBALANCE, UNKNOWN_MEMBER
from sourcing import Gated, entities, running, until_committed, value


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/tasks.db?synchronous=NORMAL"


@pytest.fixture
async def gated(url):
    made = Gated(url)
    async with made.app:
        yield made


@pytest.fixture
def cluster(kafka_mock):
    return kafka_mock


def values(*names):
    return [value(name) for name in names]


async def test_every_record_becomes_its_fan_out_and_all_is_committed(gated, cluster):
    topic, group = cluster.topic(3), cluster.group()
    names = sorted(f"doc-{number}" for number in range(60))
    cluster.produce(topic, values(*names), key=lambda raw: raw)
    async with running(gated.app, cluster, topic, group) as run:
        await run.until_done(60)
        await run.stop()
        await run.source.wait()
    assert await entities(gated.app) == names
    assert sum(cluster.committed(group, topic, 3)) == 60
    fan_out = (await gated.app.fan_outs_async())[0]
    assert fan_out.event_id.startswith(f"{topic}:")


async def test_no_offset_is_committed_past_a_record_that_isnt_enqueued(gated, cluster):
    topic, group = cluster.topic(), cluster.group()
    gated.hold("stuck")
    cluster.produce(topic, values("a", "b", "stuck", "c", "d"))
    async with running(gated.app, cluster, topic, group) as run:
        await run.until_done(4)
        await until_committed(cluster, group, topic, 2)
        await run.stop(0.5)
    assert cluster.committed(group, topic) == [2]
    assert await entities(gated.app) == ["a", "b", "c", "d"]


async def test_the_next_source_goes_on_where_the_last_one_was_and_enqueues_nothing_twice(gated, cluster):
    topic, group = cluster.topic(), cluster.group()
    gated.hold("stuck")
    cluster.produce(topic, values("a", "stuck", "b"))
    async with running(gated.app, cluster, topic, group) as run:
        await run.until_done(2)
        await until_committed(cluster, group, topic, 1)
        await run.stop(0.5)
    gated.let_go()
    async with running(gated.app, cluster, topic, group) as run:
        await run.until_done(2)
        await run.stop()
    assert gated.planned.count("a") == 1
    assert await entities(gated.app) == ["a", "b", "stuck"]
    assert (await gated.app.status_async()).messages_available == 6
    assert cluster.committed(group, topic) == [3]


async def test_a_stop_lets_what_is_in_flight_finish_and_commits_it(gated, cluster):
    topic, group = cluster.topic(), cluster.group()
    gated.hold("slow")
    cluster.produce(topic, values("slow", "b"))
    async with running(gated.app, cluster, topic, group) as run:
        await run.until_done(1)
        stopping = asyncio.create_task(run.stop())
        await run.until_said("kafka.stopping")
        gated.let_go()
        await stopping
    assert cluster.committed(group, topic) == [2]


async def test_a_stop_that_is_hurried_ends_at_once_and_commits_what_is_done(gated, cluster):
    topic, group = cluster.topic(), cluster.group()
    gated.hold("slow")
    cluster.produce(topic, values("a", "slow"))
    async with running(gated.app, cluster, topic, group) as run:
        await run.until_done(1)
        stopping = asyncio.create_task(run.stop())
        await run.until_said("kafka.stopping")
        run.source.hurry()
        await stopping
        assert await run.until_said("kafka.progress")
    assert await entities(gated.app) == ["a"]
    gated.let_go()
    async with running(gated.app, cluster, topic, group) as run:
        await run.until_done(1)
        await run.stop()
    assert await entities(gated.app) == ["a", "slow"]
    assert cluster.committed(group, topic) == [2]


async def test_a_stop_before_the_start_and_a_second_one_do_no_harm(gated, cluster):
    topic = cluster.topic()
    client = cluster.client | {"group.id": "g"}
    source = KafkaSource(gated.app, resolve({"topics": [f"events={topic}"]}, client=client, environ={}))
    await source.stop(Deadline(1))
    await source.stop(Deadline(1))
    await source.wait()


async def test_a_poison_event_goes_to_the_dead_letter_topic_with_its_reason_and_is_committed(gated, cluster):
    topic, dead, group = cluster.topic(), cluster.topic(), cluster.group()
    cluster.produce(topic, [value("a"), b"{not json", value("b")], key=b"k", headers=[("own", b"1")])
    async with running(gated.app, cluster, topic, group, dead_letter_topic=dead) as run:
        await run.until_done(3)
        said = await run.until_said("kafka.poison")
        await run.stop()
    assert (said["record"], said["stage"], said["topic"]) == (f"{topic}:0:1", "decoding", dead)
    assert cluster.committed(group, topic) == [3]
    [copy] = cluster.records(dead, 1)
    headers = dict(copy.headers())
    assert (copy.key(), copy.value(), headers["own"]) == (b"k", b"{not json", b"1")
    assert (headers["fanfold.error.stage"], headers["fanfold.origin.offset"]) == (b"decoding", b"1")
    assert b"JSON" in headers["fanfold.error.message"]
    assert headers["fanfold.group"] == group.encode()


@pytest.mark.parametrize(
    "poison", [b"\xff", value("x" * 300), value("c", tasks=["a", "a"]), value("c", tasks=["fanfold.fold"])], ids=repr
)
async def test_without_a_dead_letter_topic_a_poison_event_stops_the_source_uncommitted(gated, cluster, poison):
    topic, group = cluster.topic(), cluster.group()
    cluster.produce(topic, [value("a"), poison, value("b")])
    async with running(gated.app, cluster, topic, group) as run:
        with pytest.raises(PoisonEventError, match=f"{topic}:0:1 can't be enqueued"):
            await run.source.wait()
    assert cluster.committed(group, topic) == [1]


async def test_a_partition_that_is_stuck_is_paused_while_the_others_go_on(gated, cluster):
    topic, group = cluster.topic(2), cluster.group()
    gated.hold("stuck")
    cluster.produce(topic, values("stuck", *(f"behind-{number}" for number in range(40))), partition=0)
    async with running(gated.app, cluster, topic, group, max_in_flight=10) as run:
        await run.until(lambda: len(gated.planned) >= 10 or run.of("fan_out.enqueued"))
        cluster.produce(topic, values(*(f"other-{number}" for number in range(40))), partition=1)
        await run.until(lambda: sum(name.startswith("other") for name in gated.planned) == 40)
        assert len(gated.planned) < 81
        gated.let_go()
        await run.until_done(81)
        await run.stop()
    assert cluster.committed(group, topic, 2) == [41, 40]


async def test_what_is_held_in_memory_is_bounded_by_bytes(gated, cluster):
    topic, group = cluster.topic(), cluster.group()
    names = [f"{'x' * 200}-{number}" for number in range(50)]
    gated.hold(*names)
    cluster.produce(topic, values(*names))
    fit = 5
    async with running(gated.app, cluster, topic, group, max_bytes=fit * len(value(names[0]))) as run:
        await run.until(lambda: run.source._consumer.standing.paused == 1)
        assert run.source.tally.read == fit
        gated.let_go()
        await run.until_done(50)
        await run.stop()
    assert cluster.committed(group, topic) == [50]


@pytest.mark.parametrize("error", [NOT_COORDINATOR, REBALANCE])
async def test_a_commit_that_is_refused_is_made_up_for_by_the_next(gated, cluster, error):
    topic, group = cluster.topic(), cluster.group()
    async with running(gated.app, cluster, topic, group) as run:
        await run.until_said("kafka.assigned")
        cluster.answer(OFFSET_COMMIT, error)
        cluster.produce(topic, values("a", "b"))
        await run.until_done(2)
        await run.stop()
    assert cluster.committed(group, topic) == [2]


async def test_a_member_whose_commit_is_refused_for_good_lets_go_and_reads_again(gated, cluster):
    topic, group = cluster.topic(), cluster.group()
    async with running(gated.app, cluster, topic, group) as run:
        await run.until_said("kafka.assigned")
        cluster.answer(OFFSET_COMMIT, ILLEGAL_GENERATION)
        cluster.produce(topic, values("a"))
        await run.until_said("kafka.lost")
        await run.until_done(2)
        await run.stop()
    assert cluster.committed(group, topic) == [1]
    assert (await gated.app.status_async()).messages_available == 2


async def test_partitions_that_are_lost_are_let_go_uncommitted_and_read_again_when_they_come_back(gated, cluster):
    topic, group = cluster.topic(), cluster.group()
    gated.hold("stuck")
    cluster.produce(topic, values("stuck", "a"))
    async with running(gated.app, cluster, topic, group, client={"heartbeat.interval.ms": 50}) as run:
        await run.until_done(1)
        cluster.answer(HEARTBEAT, UNKNOWN_MEMBER)
        await run.until_said("kafka.lost")
        await run.until_said("kafka.assigned", times=2)
        gated.let_go()
        await run.until_done(3)
        await run.stop()
    assert gated.planned.count("stuck") == 2
    assert await entities(gated.app) == ["a", "stuck"]
    assert (await gated.app.status_async()).messages_available == 4
    assert cluster.committed(group, topic) == [2]


async def test_by_key_events_come_into_the_ledger_in_their_order(gated, cluster):
    topic, group = cluster.topic(), cluster.group()
    gated.hold("k-0")
    for number in range(5):
        cluster.produce(topic, values(f"k-{number}"), key=b"k")
        cluster.produce(topic, values(f"other-{number}"), key=b"other")
    async with running(gated.app, cluster, topic, group, order="key") as run:
        await run.until_done(5)
        assert await entities(gated.app) == [f"other-{number}" for number in range(5)]
        gated.let_go()
        await run.until_done(10)
        await run.stop()
    newest_first = [f.entity_id for f in await gated.app.fan_outs_async() if f.entity_id.startswith("k")]
    assert newest_first == [f"k-{number}" for number in reversed(range(5))]


async def test_progress_says_what_was_read_enqueued_committed_and_how_far_behind_it_is(gated, cluster):
    topic, dead, group = cluster.topic(2), cluster.topic(), cluster.group()
    cluster.produce(topic, [*values("a", "b"), b"{", value("none", tasks=[])], partition=1)
    async with running(gated.app, cluster, topic, group, dead_letter_topic=dead) as run:
        await run.until_done(4)
        await run.stop()
        said = run.of("kafka.progress")[-1] if run.of("kafka.progress") else await run.until_said("kafka.progress")
    assert (said["read"], said["enqueued"], said["nothing"], said["poison"]) == (4, 2, 1, 1)
    assert (said["committed"], said["in_flight"], said["lag"], said["waiting"]) == (4, 0, 0, 0)
    assert said["lag_by_partition"] == {f"{topic}:0": 0, f"{topic}:1": 0}
    assert said["since_poll"] >= 0


async def test_what_waits_behind_a_stuck_record_shows_as_lag(gated, cluster):
    topic, group = cluster.topic(), cluster.group()
    gated.hold("stuck")
    cluster.produce(topic, values("a", "stuck", "b", "c"))
    async with running(gated.app, cluster, topic, group) as run:
        await run.until_done(3)
        await run.until(lambda: run.source._consumer.standing.lag.get((topic, 0)) == 3)
        run.source._report()  # now: a busy machine may lose the partition before the last report
        assert run.of("kafka.progress")[-1]["lag_by_partition"] == {f"{topic}:0": 3}
        await run.stop(0.5)


async def test_without_a_broker_the_start_fails_with_the_address_and_a_cure(gated, monkeypatch):
    monkeypatch.setattr(consumer_module, "_CONNECT", 0.2)
    client = {"bootstrap.servers": "127.0.0.1:9", "group.id": "g", "log_level": 0}
    source = KafkaSource(gated.app, resolve({}, client=client, environ={}))
    with pytest.raises(KafkaUnavailableError, match=r"no Kafka broker answers at 127\.0\.0\.1:9 within 0\.2 s"):
        await source.start()
    await source.stop()


async def test_an_option_that_the_client_doesnt_know_is_named(gated):
    client = {"bootstrap.servers": "127.0.0.1:9", "group.id": "g", "securty.protocol": "SSL"}
    source = KafkaSource(gated.app, resolve({}, client=client, environ={}))
    with pytest.raises(KafkaError, match=r"refuses its configuration.*securty\.protocol"):
        await source.start()
    await source.stop()


def test_an_application_without_events_has_no_source(cluster):
    with pytest.raises(ConfigurationError, match="declares no event"):
        KafkaSource(Fanfold(), resolve({}, client=cluster.client | {"group.id": "g"}, environ={}))
