"""Asks an application as a connection would, and stands in for the engine behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from fanfold.endpoint.access import Unsigned
from fanfold.endpoint.application import Application
from fanfold.endpoint.exchange import Request, Response

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

    async def call(self, action, request, context):
        self.calls.append((action, request))
        self.contexts.append(context)
        result = self.results.get(action, {})
        if isinstance(result, BaseException):
            raise result
        return await result() if callable(result) else result

    def give_back(self, queue_url, handles):
        self.given_back.append((queue_url, handles))


def head(method="POST", path="/", query="", headers=()):
    pairs = {"host": "127.0.0.1:9324", **dict(headers)}
    return Request(method=method, path=path, query=query, headers=pairs)


def application(engine=None, guard=None, **options):
    async def health(_polls):
        return Response(200, b"{}")

    return Application(engine or FakeEngine(), guard or Unsigned(), health=health, **options)


async def ask(app, *parts, **request):
    """Make one request, as a connection would, and answer what came back."""
    exchange = app.begin(head(**request))
    for part in parts:
        exchange.feed(part)
    response = await exchange.answer()
    return Answer(response.status, {**response.headers, "x-amzn-requestid": response.request_id}, response.body)


async def ask_json(app, action, payload, path="/", **headers):
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return await ask(app, body, path=path, headers={"x-amz-target": TARGET + action, **headers})
