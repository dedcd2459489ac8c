"""The policies grant what the code asks for, action by action, and nothing else."""

from __future__ import annotations

import asyncio
import json

import pytest

from fanfold import Fanfold, Reject, Retry, codec
from fanfold.dead_letters.selection import Selection
from fanfold.deploy.roles import GRANTS, ROLES, policy
from fanfold.model import Task


class Recorder:
    """A transport that notes each request's action, and which of the two queues it is about."""

    def __init__(self, transport, queue_url, dlq_url):
        self.names = {url.rsplit("/", 1)[1]: which for url, which in ((queue_url, "queue"), (dlq_url, "dlq"))}
        self.asked, self.transport = set(), transport

    async def call(self, action, payload):
        name = payload.get("QueueName") or payload["QueueUrl"].rsplit("/", 1)[1]
        self.asked.add((self.names[name], action.removesuffix("Batch")))
        return await self.transport.call(action, payload)

    def close(self):
        self.transport.close()


def granted(role):
    grants = GRANTS[role]
    return {("queue", action) for action in grants.queue} | {("dlq", action) for action in grants.dlq}


@pytest.fixture(params=["over lean connections", "with a boto3 client"])
async def app(request, sqs_client, sqs_queue, tmp_path):
    """An application on SQS with a ledger beside it, making its requests in either way."""
    client = sqs_client if "boto3" in request.param else None
    async with Fanfold(sqs_queue[0], ledger=f"sqlite:///{tmp_path}/ledger.db", sqs_client=client) as made:

        @made.task("good")
        async def good():
            return 1

        @made.task("bad")
        async def bad():
            raise Reject("no")

        @made.task("slow")
        async def slow():
            raise Retry("later", delay=3600)

        @made.on_complete
        async def fold():
            made.folded.set()

        yield made


async def record(app, sqs_queue):
    """The application's queue, opened again under the eyes of a recorder."""
    broker = await app.broker()
    await broker.close()
    recorder = Recorder(broker._new_transport(), *sqs_queue)
    broker._transport = broker._given_transport = recorder
    broker.dlq_url = None  # as where only the redrive policy names it
    await broker.open()
    return broker, recorder


async def test_a_producer_asks_for_what_it_is_granted(app, sqs_queue):
    _, recorder = await record(app, sqs_queue)
    await app.enqueue_async("doc-1", ["good", "bad"])
    await app.status_async()
    assert recorder.asked == granted("producer")


async def test_a_worker_asks_for_what_it_is_granted(app, sqs_queue):
    app.folded = asyncio.Event()
    await app.enqueue_async("doc-1", ["slow"])
    await app.enqueue_async("doc-2", ["good", "bad"])
    _, recorder = await record(app, sqs_queue)
    worker = await app.worker()
    await worker.start()
    await app.folded.wait()
    stopping = asyncio.create_task(worker.stop())
    await app.enqueue_async("doc-3", ["good"])  # which ends the poll in flight
    await stopping
    await worker._reconciler.reconcile(worker._reconciler._ledger)
    assert recorder.asked == granted("worker")


async def test_an_operator_asks_for_what_it_is_granted(app, sqs_queue):
    broker, recorder = await record(app, sqs_queue)
    task = Task(entity_id="doc-1", task_name="good", fan_out_id="f1")
    await broker._send(broker.dlq_url, [codec.encode(task)])
    lines = await app.dead_letters.export_async()
    assert (await app.dead_letters.redrive_async(Selection())).done == 1
    await app.dead_letters.put_async(lines)
    assert (await app.dead_letters.drop_async(Selection())).done == 1
    await app.status_async()
    assert recorder.asked == granted("operator")


@pytest.mark.parametrize("role", ROLES)
def test_a_policy_names_exact_queues_and_only_sqs(role):
    made = policy(role, queue_arn="arn:q", dlq_arn="arn:d")
    text = json.dumps(made)
    assert "*" not in text
    assert {action.split(":")[0] for statement in made["Statement"] for action in statement["Action"]} == {"sqs"}
    assert [statement["Resource"] for statement in made["Statement"]] == ["arn:q", "arn:d"]
