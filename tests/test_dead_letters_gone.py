"""Sending dead letters back to a queue that is gone: nothing is changed, or nothing is lost."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from click.testing import CliRunner

from fanfold import Fanfold, codec
from fanfold.brokers.protocol import Burial
from fanfold.cli import main
from fanfold.dead_letters.selection import Selection
from fanfold.deploy import embedded
from fanfold.errors import QueueNotFoundError
from fanfold.ledgers.protocol import Finish
from fanfold.model import Failure, TaskState
from fanfold.urls import parse_sqlite

ALL = Selection()


class Embedded:
    """A queue in a file, which somebody deletes by the SQS API."""

    def __init__(self, tmp_path):
        self.url, self.dlq_url = f"sqlite:///{tmp_path}/tasks.db", None
        self.ledger = f"sqlite:///{tmp_path}/ledger.db"

    async def delete(self):
        async with embedded.opened(parse_sqlite(self.url)) as engine:
            url = (await engine.call("GetQueueUrl", {"QueueName": "tasks.fifo"}))["QueueUrl"]
            await engine.call("DeleteQueue", {"QueueUrl": url})


class Served:
    """The same on `fanfold serve`."""

    def __init__(self, client, tmp_path):
        self.client = client
        name = f"gone-{uuid.uuid4().hex[:12]}"
        self.url, self.dlq_url = (
            client.create_queue(QueueName=f"{name}{end}", Attributes={"FifoQueue": "true"})["QueueUrl"]
            for end in (".fifo", "-dlq.fifo")
        )
        self.ledger = f"sqlite:///{tmp_path}/ledger.db"

    async def delete(self):
        await asyncio.to_thread(self.client.delete_queue, QueueUrl=self.url)


@pytest.fixture(params=["embedded", "served"])
def place(request, tmp_path):
    if request.param == "embedded":
        return Embedded(tmp_path)
    return Served(request.getfixturevalue("served_client"), tmp_path)


def application(place):
    app = Fanfold(place.url, dlq_url=place.dlq_url, ledger=place.ledger)

    @app.task("roof")
    async def roof(): ...

    return app


async def buried(app):
    for n in range(3):
        await app.enqueue_async(f"doc-{n}", ["roof"])
    broker, failure = await app.broker(), Failure(type="Reject", message="it has no roof")
    ledger = app._parts.ledger
    while batch := await broker.receive(10, wait=0, lease=60):
        tasks = [codec.decode(delivery.body) for delivery in batch]
        await ledger.finish([death(task, failure) for task in tasks])
        await broker.dead_letter([Burial(delivery=one, failure=failure, attempts=1) for one in batch])


def death(task, failure):
    return Finish(fan_out_id=task.fan_out_id, task_name="roof", attempt=None, failure=failure, dead=True)


async def states(app):
    fan_outs = [await app.fan_out(one.fan_out_id).get_async() for one in await app.fan_outs_async()]
    return {task.state for fan_out in fan_outs for task in fan_out.tasks}


async def test_a_redrive_to_a_queue_that_went_while_the_application_ran_changes_nothing(place):
    async with application(place) as app:
        await buried(app)
        await place.delete()
        with pytest.raises(QueueNotFoundError, match=r"doesn't exist|was deleted"):
            await app.dead_letters.redrive_async(ALL)
        assert len((await app.dead_letters.find_async()).letters) == 3
        assert await states(app) == {TaskState.DEAD}


async def test_a_queue_that_goes_while_letters_are_sent_back_loses_none(place):
    async with application(place) as app:
        await buried(app)
        opened = await app.dead_letters.opened_async()
        deleted = []

        async def send(messages, _send=opened._broker.send):
            if not deleted:
                deleted.append(await place.delete())
            return await _send(messages)

        opened._broker.send = send
        tally = await opened.redrive(ALL)
        assert (tally.done, tally.failed) == (0, 3)
        assert "QueueNotFound" in tally.errors[0]
        looked = await app.dead_letters.find_async()
        assert (len(looked.letters), looked.hidden) == (3, 0)


def test_the_command_says_that_the_queue_is_gone_and_changes_nothing(place):
    async def before():
        async with application(place) as app:
            await buried(app)
            await place.delete()

    async def after():
        async with application(place) as app:
            return await states(app) if place.dlq_url is None else None

    asyncio.run(before())
    where = ["--queue-url", place.url, "--ledger", place.ledger]
    where += ["--dlq-url", place.dlq_url] if place.dlq_url else []
    for yes in (["--yes"], ["--dry-run"]):
        refused = CliRunner().invoke(main, ["dlq", "redrive", "--all", *yes, *where])
        assert refused.exit_code == 1
        assert "doesn't exist" in refused.stderr or "there is no queue tasks.fifo in this file" in refused.stderr
    assert asyncio.run(after()) in ({TaskState.DEAD}, None)
