"""What the tests of the engine's API share: an engine on a file of its own, at a time that the test moves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Self

import pytest

from fanfold.database import Database
from fanfold.engine.service import CallContext, SqsEngine, SqsError
from watched_clock import WatchedClock

CONTEXT = CallContext("http://sqs.test:9324")
ARN = "arn:aws:sqs:us-east-1:000000000000:"
FIFO = {"FifoQueue": "true"}
BY_CONTENT = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}


class Api:
    """An engine with shorthands. A queue is named by its name: a QueueUrl may be one."""

    def __init__(self, path: Path, clock: WatchedClock | None = None, **options) -> None:
        self.path = path
        self.clock = clock or WatchedClock()
        self.engine = SqsEngine(Database(path, synchronous="NORMAL"), clock=self.clock, **options)

    async def __aenter__(self) -> Self:
        await self.engine.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.close()

    async def __call__(self, action: str, queue: str | None = None, /, **request) -> dict:
        if queue is not None:
            request["QueueUrl"] = queue
        return await self.engine.call(action, request, CONTEXT)

    async def refused(self, action: str, queue: str | None = None, /, **request) -> tuple[str, str]:
        """The shape and the text of the error that a call must end in."""
        with pytest.raises(SqsError) as caught:
            await self(action, queue, **request)
        return caught.value.shape, caught.value.message

    async def create(self, name: str, attributes: dict[str, str] | None = None, **more) -> str:
        given = {**(FIFO if name.endswith(".fifo") else {}), **(attributes or {})}
        await self("CreateQueue", QueueName=name, Attributes=given, **more)
        return name

    async def pair(self, name: str = "tasks", most: int = 1, **attributes) -> tuple[str, str]:
        """A queue and its dead letter queue."""
        suffix = ".fifo" if name.endswith(".fifo") else ""
        dead = await self.create(f"{name.removesuffix('.fifo')}-dlq{suffix}")
        return await self.create(name, {"RedrivePolicy": redrive(dead, most), **attributes}), dead

    async def attributes(self, queue: str, *names: str) -> dict[str, str]:
        return (await self("GetQueueAttributes", queue, AttributeNames=list(names or ["All"]))).get("Attributes", {})

    async def counts(self, queue: str) -> tuple[int, int, int]:
        """Available, in flight, delayed."""
        told = await self.attributes(queue)
        kinds = ("", "NotVisible", "Delayed")
        return tuple(int(told[f"ApproximateNumberOfMessages{kind}"]) for kind in kinds)

    async def send(
        self, queue: str, body: str = "body", group: str | None = None, once: str | None = None, **more
    ) -> dict:
        if group is not None:
            more["MessageGroupId"] = group
        if once is not None:
            more["MessageDeduplicationId"] = once
        return await self("SendMessage", queue, MessageBody=body, **more)

    async def send_numbers(self, queue: str, count: int, **more) -> None:
        """So many messages, ten a request: their bodies are the numbers from 0."""
        for start in range(0, count, 10):
            entries = [{"Id": str(n), "MessageBody": str(start + n), **more} for n in range(10)]
            await self("SendMessageBatch", queue, Entries=entries)

    async def receive(self, queue: str, limit: int = 10, **more) -> list[dict]:
        return (await self("ReceiveMessage", queue, MaxNumberOfMessages=limit, **more)).get("Messages", [])

    async def bodies(self, queue: str, limit: int = 10, **more) -> list[str]:
        return [message["Body"] for message in await self.receive(queue, limit, **more)]

    async def delete(self, queue: str, *messages: dict) -> None:
        for message in messages:
            await self("DeleteMessage", queue, ReceiptHandle=message["ReceiptHandle"])

    async def change(self, queue: str, message: dict, seconds: int) -> dict:
        return await self(
            "ChangeMessageVisibility", queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds
        )

    def poll(self, queue: str, limit: int = 10, wait: int = 20) -> asyncio.Task:
        """A long poll under way."""
        return asyncio.create_task(self.receive(queue, limit, WaitTimeSeconds=wait))

    async def until_polling(self, count: int = 1) -> None:
        """Return when so many long polls have looked and wait. (One sleeper more is the engine's own mover.)"""
        await self.clock.until_asleep(count + 1)

    async def until_moved(self, dead: str) -> dict:
        """The newest move task of a queue, once it has ended."""
        while True:
            task = (await self("ListMessageMoveTasks", SourceArn=ARN + dead))["Results"][0]
            if task["Status"] != "RUNNING":
                return task


def redrive(dead: str, most: int | str = 1) -> str:
    return json.dumps({"deadLetterTargetArn": ARN + dead, "maxReceiveCount": most})


def text(value: str, kind: str = "String") -> dict:
    return {"DataType": kind, "StringValue": value}


def binary(value: bytes, kind: str = "Binary") -> dict:
    return {"DataType": kind, "BinaryValue": value}
