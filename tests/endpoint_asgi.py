"""Calls an ASGI application as a server would, and stands in for the engine behind it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from fanfold.endpoint.access import Unsigned
from fanfold.endpoint.application import Application
from fanfold.endpoint.exchange import Response

TARGET = "AmazonSQS."


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode()


class FakeEngine:
    """Answers every action with `results[action]`, raises it where it is an error, or calls it."""

    def __init__(self, **results):
        self.results = results
        self.calls = []
        self.contexts = []
        self.given_back = []

    async def give_back(self, queue_url, receipt_handles):
        self.given_back.append((queue_url, receipt_handles))

    async def call(self, action, request, context):
        self.calls.append((action, request))
        self.contexts.append(context)
        result = self.results.get(action, {})
        if isinstance(result, BaseException):
            raise result
        return await result() if callable(result) else result


class Client:
    """One request's other end: what it sends, and whether it has gone away."""

    def __init__(self, *parts):
        self._parts = list(parts) or [b""]
        self._gone = asyncio.Event()
        self.messages = []

    def leave(self):
        self._gone.set()

    async def receive(self):
        if self._parts:
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._parts)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.messages.append(message)

    @property
    def answer(self):
        start, body = self.messages
        headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], headers, body["body"])


def scope(method="POST", path="/", query="", headers=()):
    pairs = {"host": "127.0.0.1:9324", **dict(headers)}
    return {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs.items()],
        "server": ("127.0.0.1", 9324),
        "client": ("127.0.0.1", 5),
    }


def application(engine=None, guard=None, **options):
    async def health(_polls):
        return Response(200, b"{}")

    return Application(engine or FakeEngine(), guard or Unsigned(), health=health, **options)


async def ask(app, *parts, **request):
    """Make one request and answer what came back."""
    client = Client(*parts)
    await app(scope(**request), client.receive, client.send)
    return client.answer


async def ask_json(app, action, payload, path="/", **headers):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return await ask(app, body, path=path, headers={"x-amz-target": TARGET + action, **headers})
