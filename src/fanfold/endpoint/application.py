"""The endpoint as an ASGI application."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from fanfold import ids
from fanfold.endpoint import faults, json_protocol, query_json, query_protocol
from fanfold.endpoint.access import Guard
from fanfold.endpoint.exchange import Request, Response
from fanfold.endpoint.model import members, sqs_model
from fanfold.endpoint.polls import Polls, Receiver
from fanfold.endpoint.reading import ClientGoneError, Receive, Room, Scope, head_of, whole
from fanfold.engine.errors import SqsError
from fanfold.engine.service import CallContext
from fanfold.errors import FanfoldError

logger: Final = logging.getLogger("fanfold.endpoint")

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_METHODS: Final = ("POST", "GET")
_UNREAD: Final = (405, 413)
"""Answers after which what is left of a body isn't waited for."""


class Wire(Protocol):
    """A protocol: the modules `json_protocol`, `query_protocol` and `query_json`."""

    def parse(self, request: Request, /) -> tuple[str, dict[str, Any]]:
        """The action and its request. Raises SqsError."""

    def answer(self, action: str, result: Mapping[str, Any], request_id: str, /) -> Response:
        """A success."""

    def failure(self, error: SqsError, request_id: str, /) -> Response:
        """An error."""


@dataclass(slots=True)
class Visit:
    """One request on its way, for the log."""

    request_id: str
    method: str = ""
    action: str = ""
    queue: str = ""
    key_id: str = ""
    status: int = 0
    seconds: float = 0.0
    error: str = ""


class Application:
    """Answers HTTP requests with what the engine says.

    1. Looks at the head: bounds, signature's key. What fails here is answered without reading the body.
    2. Reads the body within bounds; checks the signature over it.
    3. Parses, by the request's protocol; checks the key's rights; calls the engine.
    4. Answers. A fault of ours is logged with the request's id and answered as `InternalFailure`.

    It never answers 500 to anything that a client can send.
    """

    def __init__(
        self,
        engine: Receiver,
        guard: Guard,
        *,
        health: Callable[[int], Awaitable[Response]],
        report: Callable[[Visit], None] = lambda _visit: None,
        new_id: Callable[[], str] = ids.random_uuid,
    ) -> None:
        """`report` hears of each request after its answer; `health` answers `GET /health`, given the waiting polls."""
        self._engine = engine
        self._guard = guard
        self._health = health
        self._report = report
        self._new_id = new_id
        self._room = Room()
        self._polls = Polls(engine)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        visit, started = Visit(self._new_id()), time.perf_counter()
        try:
            response = await self._respond(scope, receive, visit)
        except ClientGoneError:
            return
        await _send(send, response, visit.request_id)
        visit.status, visit.seconds = response.status, time.perf_counter() - started
        self._report(visit)

    async def _respond(self, scope: Scope, receive: Receive, visit: Visit) -> Response:
        wire = _wire(dict(scope["headers"]))
        visit.method = scope["method"]
        try:
            head = head_of(scope)
            if head.path == "/health" and head.method in ("GET", "HEAD"):
                return await self._health(self._polls.waiting)
            return await self._serve(wire, head, receive, visit)
        except SqsError as error:
            visit.error = error.shape
            return wire.failure(error, visit.request_id)
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the cause
            visit.error = type(error).__name__
            return wire.failure(_fault(error, visit), visit.request_id)

    async def _serve(self, wire: Wire, head: Request, receive: Receive, visit: Visit) -> Response:
        if head.method not in _METHODS:
            raise faults.not_allowed(head.method)
        visit.key_id = self._guard.admit(head)
        request, taken = await whole(head, receive, self._room)
        try:
            self._guard.verify(request)
            visit.action, payload = _parsed(wire, request)
            visit.queue = str(payload.get("QueueUrl", payload.get("QueueName", ""))).rpartition("/")[2]
            self._guard.allow(visit.key_id, visit.action, visit.queue)
            result = await self._call(visit.action, payload, request, receive)
            return wire.answer(visit.action, result, visit.request_id)
        finally:
            self._room.give(taken)

    async def _call(
        self, action: str, payload: Mapping[str, Any], request: Request, receive: Receive
    ) -> Mapping[str, Any]:
        context = CallContext(request.base_url, request.headers.get("x-amzn-trace-id"))
        if action == "ReceiveMessage":
            return await self._polls.receive(payload, context, receive)
        return await self._engine.call(action, payload, context)


def _wire(headers: Mapping[bytes, bytes]) -> Wire:
    """The protocol that a request speaks, or asks to be answered in; its headers may be worth nothing yet."""
    if b"x-amz-target" in headers:
        return json_protocol
    return query_json if query_json.CONTENT_TYPE in headers.get(b"accept", b"").decode("latin-1") else query_protocol


def _parsed(wire: Wire, request: Request) -> tuple[str, dict[str, Any]]:
    action, payload = wire.parse(request)
    if request.on_queue and "QueueUrl" in members(sqs_model().actions[action].input):
        payload.setdefault("QueueUrl", request.base_url + request.path)
    return action, payload


def _fault(error: Exception, visit: Visit) -> SqsError:
    if isinstance(error, FanfoldError) and error.transient:
        logger.warning("request %s: %s", visit.request_id, error)
        return faults.busy("The queue's file can't be written now; try again")
    logger.error("request %s (%s) failed", visit.request_id, visit.action or visit.method, exc_info=error)
    return faults.internal()


async def _send(send: Send, response: Response, request_id: str) -> None:
    headers = {
        **response.headers,
        "x-amzn-requestid": request_id,
        "content-length": str(len(response.body)),
        **({"connection": "close"} if response.status in _UNREAD else {}),
    }
    encoded = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": response.status, "headers": encoded})
    await send({"type": "http.response.body", "body": response.body})
