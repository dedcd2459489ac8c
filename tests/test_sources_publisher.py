from __future__ import annotations

import asyncio

import pytest

from fanfold.errors import InvalidInputError, KafkaError, KafkaUnavailableError
from fanfold.sources.client import producer_config
from fanfold.sources.publisher import Publisher
from kafka_mock import MSG_SIZE_TOO_LARGE, NOT_LEADER, PRODUCE, TOPIC_AUTHORIZATION_FAILED


@pytest.fixture
def cluster(kafka_mock):
    return kafka_mock


@pytest.fixture
def publisher(cluster):
    return Publisher(producer_config({"bootstrap.servers": cluster.address, "log_level": 0}))


async def send(publisher, topic, value=b"v"):
    await publisher.send(topic, key=b"k", value=value, headers=[("a", b"1"), ("none", None)])


async def test_a_record_that_was_sent_is_there_with_key_and_headers(publisher, cluster):
    topic = cluster.topic()
    await send(publisher, topic)
    [record] = cluster.records(topic, 1)
    assert (record.key(), record.value(), record.headers()) == (b"k", b"v", [("a", b"1"), ("none", None)])


async def test_many_at_once_from_threads_and_loops_are_all_acknowledged(publisher, cluster):
    topic = cluster.topic()
    threads = (
        asyncio.to_thread(lambda: publisher.submit(topic, key=None, value=b"t", headers=()).result()) for _ in range(20)
    )
    await asyncio.gather(*(send(publisher, topic) for _ in range(100)), *threads)
    assert len(cluster.records(topic, 120)) == 120


async def test_the_thread_ends_when_nothing_is_to_come_and_begins_again(publisher, cluster):
    topic = cluster.topic()
    for _ in range(2):
        await send(publisher, topic)
        if (thread := publisher._thread) is not None:
            await asyncio.to_thread(thread.join)
        assert publisher._thread is None


async def test_what_a_retry_mends_is_no_error(publisher, cluster):
    topic = cluster.topic()
    cluster.answer(PRODUCE, NOT_LEADER, NOT_LEADER)
    await send(publisher, topic)
    assert len(cluster.records(topic, 1)) == 1


async def test_a_record_that_is_too_large_is_refused_with_the_cure(publisher, cluster):
    with pytest.raises(InvalidInputError, match=r"refuses the record.*Raise message\.max\.bytes"):
        await send(publisher, cluster.topic(), b"x" * 2_000_000)
    topic = cluster.topic()
    cluster.answer(PRODUCE, MSG_SIZE_TOO_LARGE)
    with pytest.raises(InvalidInputError, match=r"max\.message\.bytes of the topic"):
        await send(publisher, topic)


async def test_a_right_that_is_missing_is_named(publisher, cluster):
    topic = cluster.topic()
    cluster.answer(PRODUCE, TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaError, match="TOPIC_AUTHORIZATION_FAILED") as refused:
        await send(publisher, topic)
    assert not refused.value.transient


async def test_without_a_broker_a_record_isnt_acknowledged_and_may_be_tried_again():
    config = {"bootstrap.servers": "127.0.0.1:9", "delivery.timeout.ms": 50, "linger.ms": 0, "log_level": 0}
    with pytest.raises(KafkaUnavailableError, match=r"wasn't acknowledged.*try again"):
        await send(Publisher(producer_config(config)), "t")


async def test_a_full_queue_of_the_client_is_trouble_that_passes():
    limits = {"queue.buffering.max.messages": 1, "delivery.timeout.ms": 200, "linger.ms": 0}
    publisher = Publisher(producer_config({"bootstrap.servers": "127.0.0.1:9", "log_level": 0} | limits))
    first, second = await asyncio.gather(*(send(publisher, "t") for _ in range(2)), return_exceptions=True)
    assert isinstance(first, KafkaUnavailableError)
    assert isinstance(second, KafkaUnavailableError)
    assert "too much waits" in str(second)


async def test_nobody_needs_to_wait_for_the_acknowledgement(publisher, cluster):
    topic = cluster.topic()
    sending = asyncio.create_task(send(publisher, topic))
    await asyncio.sleep(0)
    sending.cancel()
    await send(publisher, topic)
    assert len(cluster.records(topic, 1)) == 1
