"""Servers on one file, that can be killed and come back, and clients that speak to them over plain connections."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from endpoint_http import Connection
from servers import FanfoldServer

QUEUE = "tasks.fifo"
LEASE = 60


class Site:
    """A file and the servers on it."""

    def __init__(self, file):
        self._file = file
        self._servers = []
        self._clients = []

    async def serve(self, *arguments):
        """Start a server; the queue and its dead letter queue are there."""
        server = await asyncio.to_thread(FanfoldServer, self._file, "--create", QUEUE, *arguments)
        self._servers.append(server)
        return server

    async def client(self, server):
        """A connection to a server."""
        connection = Connection(*await asyncio.open_connection("127.0.0.1", server.port, limit=2**24))
        self._clients.append(Client(connection))
        return self._clients[-1]

    async def restarted(self):
        """A server in the place of one that has gone, and a connection to it."""
        return await self.client(await self.serve())

    def end(self):
        """Kill and close what a test left behind."""
        for client in self._clients:
            client.leave()
        for server in self._servers:
            if server.process.poll() is None:
                server.kill()


class Client:
    """One connection to a server, one request at a time. Raises ConnectionError where the server goes away."""

    def __init__(self, connection):
        self._connection = connection

    def ask(self, action, **payload):
        self._connection.ask(action, {"QueueUrl": QUEUE, **payload})

    async def answer(self):
        try:
            answer = await self._connection.answer()
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError from error
        return answer

    async def call(self, action, **payload):
        self.ask(action, **payload)
        answer = await self.answer()
        assert answer.status == 200, answer.text
        return answer.json

    async def refused(self, action, **payload):
        self.ask(action, **payload)
        answer = await self.answer()
        assert answer.status == 400, answer.text
        return answer.json["message"]

    async def send(self, name, group="g"):
        return await self.call("SendMessage", **message(name, group))

    async def receive(self, most=10, *, wait=0, lease=LEASE):
        answer = await self.call(
            "ReceiveMessage",
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait,
            VisibilityTimeout=lease,
            MessageSystemAttributeNames=["All"],
        )
        return answer.get("Messages", [])

    async def delete(self, received):
        await self.call("DeleteMessage", ReceiptHandle=received["ReceiptHandle"])

    async def drain(self):
        """Receive and delete until nothing comes; answers the bodies, in order."""
        bodies = []
        while batch := await self.receive():
            entries = [{"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(batch)]
            assert len((await self.call("DeleteMessageBatch", Entries=entries))["Successful"]) == len(batch)
            bodies += [received["Body"] for received in batch]
        return bodies

    async def health(self):
        self._connection.say(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return (await self.answer()).json

    def leave(self):
        self._connection.leave()


def message(name, group="g"):
    return {"MessageBody": name, "MessageGroupId": group, "MessageDeduplicationId": name}


def entries(names, group="g"):
    return [{"Id": str(n), **message(name, group)} for n, name in enumerate(names)]


def sequence_number(received):
    return int(received["Attributes"]["SequenceNumber"])


async def until_gone(coroutine):
    """Run it until its server goes away."""
    with suppress(ConnectionError):
        await coroutine
