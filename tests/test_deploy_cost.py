"""Costs and plans: formulas against counted requests and against a simulation."""

from __future__ import annotations

import json
import math

import pytest
from click.testing import CliRunner

from fanfold import Fanfold
from fanfold.brokers.boto import BotoTransport
from fanfold.cli import main
from fanfold.deploy.cost import MONTH, Load, dollars, fit, naive, requests, table
from fanfold.errors import ConfigurationError

LOAD = Load(entities=100_000, tasks=42, seconds=3, workers=4)


class Counter:
    """A transport that counts its requests by action."""

    def __init__(self, transport):
        self.transport, self.counts = transport, {}

    async def call(self, action, payload):
        self.counts[action] = self.counts.get(action, 0) + 1
        return await self.transport.call(action, payload)

    def close(self):
        self.transport.close()


def test_batches_make_a_tenth_of_the_requests():
    batched, single = requests(LOAD), naive(LOAD)
    assert batched.send == 100_000 * 6  # 42 in five requests, and the fold
    assert batched.delete == pytest.approx(430_000)
    assert single.send == single.delete == 4_200_000
    assert dollars(batched) < dollars(single) / 5


def test_the_first_million_is_free_and_large_messages_count_for_several():
    small = Load(entities=100, tasks=10, seconds=1)
    assert dollars(requests(small)) == 0
    large = Load(entities=100_000, tasks=10, seconds=1, bytes=200_000)
    assert requests(large).send == 100_000 * 31 + 100_000


def test_long_tasks_are_extended():
    assert requests(Load(entities=1_000, tasks=10, seconds=10)).change == 0
    assert requests(Load(entities=1_000, tasks=10, seconds=620)).change == pytest.approx(30_000)


async def test_a_real_fan_outs_requests_are_those_that_are_reckoned(sqs_client, sqs_queue):
    async with Fanfold(sqs_queue[0], sqs_client=sqs_client) as app:
        broker = await app.broker()
        broker._transport = counter = Counter(BotoTransport(sqs_client))
        for n in range(5):
            await app.enqueue_async(f"doc-{n}", [f"t{k}" for k in range(42)])
        held = []
        while batch := await broker.receive(10, wait=0, lease=60):
            held += batch
        await broker.delete(held)
    reckoned = requests(Load(entities=5, tasks=42, seconds=0))
    folds = 5
    assert counter.counts["SendMessageBatch"] == reckoned.send - folds
    assert counter.counts["ReceiveMessage"] - 1 == math.ceil(reckoned.receive - folds / 10)
    assert counter.counts["DeleteMessageBatch"] == math.ceil(reckoned.delete - folds / 10)


def test_littles_law_says_how_many_workers_a_load_needs():
    of = fit(LOAD)
    busy = LOAD.messages * 3 / MONTH
    assert of.utilization == pytest.approx(busy / 40)
    assert of.slots_needed == math.ceil(busy / 0.8)
    assert fit(LOAD, peak=100).workers_needed == math.ceil(math.ceil(100 * busy / 0.8) / 10)


def test_quotas_are_those_of_the_region_and_of_the_mode():
    assert fit(LOAD, region="eu-west-1").quota == 70_000
    assert fit(LOAD, region="nowhere-1").quota == table()["quotas"]["least"]
    assert fit(LOAD, high_throughput=False).quota == 300
    assert fit(LOAD, peak=10_000).partitions > 1


@pytest.mark.parametrize("wrong", [{"entities": 0}, {"failures": 1.0}, {"active": 0.0}, {"seconds": -1.0}])
def test_a_load_that_cant_be_is_refused(wrong):
    with pytest.raises(ConfigurationError):
        Load(**{"entities": 1, "tasks": 1, "seconds": 1.0} | wrong)


def test_the_table_says_when_and_where_it_was_read():
    assert table()["read"].startswith("20")
    assert table()["prices"]["source"]
    assert table()["quotas"]["source"]


def test_the_commands_answer_people_and_scripts():
    load = ["--entities", "1000", "--tasks", "42", "--seconds", "3"]
    assert "dollars" in CliRunner().invoke(main, ["cost", *load]).stdout
    assert json.loads(CliRunner().invoke(main, ["cost", *load, "--json"]).stdout)["fanfold"]["send"] == 6_000
    shown = CliRunner().invoke(main, ["plan", *load, "--simulate", "500"])
    assert (shown.exit_code, "every run fails" in shown.stdout) == (0, True)
    assert json.loads(CliRunner().invoke(main, ["plan", *load, "--json"]).stdout)["fits"]["1"]["quota"] == 70_000
