"""What the endpoint does with a request, whichever way it came."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, lru_cache
from typing import Any, Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from fanfold import ids
from fanfold.endpoint import faults, json_protocol, query_json, query_protocol
from fanfold.endpoint.access import Guard
from fanfold.endpoint.exchange import Headers, Request, Response
from fanfold.endpoint.model import members, sqs_model
from fanfold.endpoint.polls import Client, ClientGoneError, Polls, Receiver
from fanfold.endpoint.reading import Body, Room, check_head
from fanfold.engine.errors import SqsError
from fanfold.engine.service import CallContext
from fanfold.errors import FanfoldError

logger: Final = logging.getLogger("fanfold.endpoint")

_METHODS: Final = ("POST", "GET")
_UNREAD: Final = (405, 413)
"""Answers after which what is left of a body isn't waited for."""
_LONGEST_SAID: Final = 100
"""Characters of what a client says that are in a line of the log."""


class Wire(Protocol):
    """A protocol: the modules `json_protocol`, `query_protocol` and `query_json`."""

    def parse(self, request: Request, /) -> tuple[str, dict[str, Any]]:
        """The action and its request. Raises SqsError."""

    def answer(self, action: str, result: Mapping[str, Any], request_id: str, /) -> Response:
        """A success."""

    def failure(self, error: SqsError, request_id: str, /) -> Response:
        """An error."""


class Visit(Struct):
    """One request on its way, for the log; without a method where none could be read."""

    request_id: str
    client: str = ""
    method: str = ""
    path: str = ""
    action: str = ""
    queue: str = ""
    key_id: str = ""
    status: int = 0
    seconds: float = 0.0
    error: str = ""


class Application:
    """Answers HTTP requests with what the engine says.

    1. `begin` looks at the head: bounds, signature's key. What fails here is answered without reading the body.
    2. The exchange takes the body within bounds; checks the signature over it.
    3. It parses, by the request's protocol; checks the key's rights; calls the engine.
    4. It answers. A fault of ours is logged with the request's id and answered as `InternalFailure`.

    It never answers 500 to anything that a client can send.
    """

    def __init__(
        self,
        engine: Receiver,
        guard: Guard,
        *,
        health: Callable[[int], Awaitable[Response]],
        report: Callable[[Visit], None] = lambda _visit: None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        """`report` hears of each answer; `health` answers `GET /health`, given the number of waiting polls."""
        self.engine = engine
        self.guard = guard
        self.health = health
        self.report = report
        self.new_id = new_id or ids.numbered_uuids()
        self.room = Room()
        self.polls = Polls(engine, self.room)

    def begin(self, head: Request) -> Exchange:
        """A request whose head has come."""
        return Exchange(self, head)

    def refuse(self, status: int, client: str) -> Response:
        """The answer to what is no request, or comes too late, or is one connection too many."""
        visit = Visit(self.new_id(), client, status=status)
        self.report(visit)
        return Response(status, b"", request_id=visit.request_id)


class Exchange:
    """One request on its way to its answer.

    `feed` it its body, then await `answer`, once. Where `refused` is an answer, that is the answer, and the rest of the
    body isn't needed. `leave` says that the client has gone away.
    """

    def __init__(self, application: Application, head: Request) -> None:
        self._application = application
        self._head = head
        self._started = time.perf_counter()
        self._visit = Visit(application.new_id(), head.client, head.method, head.path[:_LONGEST_SAID])
        self._wire = _wire(head.headers)
        self._body = Body(application.room)
        self._client = Client()
        self._asks_health = head.path == "/health" and head.method in ("GET", "HEAD")
        self.refused: Response | None = None
        try:
            self._admit()
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the cause
            self._refuse(error)

    def feed(self, part: bytes) -> None:
        """Take a part of the body."""
        if self.refused is None:
            try:
                self._body.add(part)
            except SqsError as error:
                self._refuse(error)

    def hang_up(self) -> None:
        """The client says no more: it may read an answer, and a receive takes nothing."""
        self._client.leave()

    def leave(self) -> None:
        """The client has gone: there is nobody to answer, and a receive takes nothing."""
        self._client.leave()
        self._body.release()

    async def answer(self) -> Response | None:
        """The answer, or None where there is nobody any more to take it."""
        if self.refused is not None:
            return self.refused
        try:
            response = await self._respond()
        except ClientGoneError:
            return None
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            response = self._failure(error)
        finally:
            self._body.release()
        return self._finished(response)

    def _admit(self) -> None:
        check_head(self._head)
        if not self._asks_health:
            if self._head.method not in _METHODS:
                raise faults.not_allowed(self._head.method)
            self._visit.key_id = self._application.guard.admit(self._head)

    def _refuse(self, error: Exception) -> None:
        self._body.release()
        self.refused = self._finished(self._failure(error))

    async def _respond(self) -> Response:
        application = self._application
        if self._asks_health:
            return await application.health(application.polls.waiting)
        body = self._body.whole()
        request = replace(self._head, body=body) if body else self._head
        guard, visit = application.guard, self._visit
        guard.verify(request)
        visit.action, payload = _parsed(self._wire, request)
        visit.queue = str(payload.get("QueueUrl", payload.get("QueueName", ""))).rpartition("/")[2][:_LONGEST_SAID]
        guard.allow(visit.key_id, visit.action, visit.queue)
        result = await self._call(visit.action, payload)
        return self._wire.answer(visit.action, result, visit.request_id)

    def _call(self, action: str, payload: Mapping[str, Any]) -> Awaitable[Mapping[str, Any]]:
        context = _context(self._head.base_url, self._head.headers.get("x-amzn-trace-id"))
        if action == "ReceiveMessage":
            return self._application.polls.receive(payload, context, self._client)
        return self._application.engine.call(action, payload, context)

    def _failure(self, error: Exception) -> Response:
        if not isinstance(error, SqsError):
            self._visit.error = type(error).__name__
            return self._wire.failure(_fault(error, self._visit), self._visit.request_id)
        self._visit.error = error.shape
        return self._wire.failure(error, self._visit.request_id)

    def _finished(self, response: Response) -> Response:
        visit, status = self._visit, response.status
        visit.status, visit.seconds = status, time.perf_counter() - self._started
        self._application.report(visit)
        return replace(response, request_id=visit.request_id, last=status in _UNREAD)


def _wire(headers: Headers) -> Wire:
    """The protocol that a request speaks, or asks to be answered in; its headers may be worth nothing yet."""
    if "x-amz-target" in headers:
        return json_protocol
    return query_json if query_json.CONTENT_TYPE in headers.get("accept", "") else query_protocol


def _parsed(wire: Wire, request: Request) -> tuple[str, dict[str, Any]]:
    action, payload = wire.parse(request)
    if request.on_queue and _is_about_a_queue(action):
        payload.setdefault("QueueUrl", request.base_url + request.path)
    return action, payload


@cache
def _is_about_a_queue(action: str) -> bool:
    return "QueueUrl" in members(sqs_model().actions[action].input)


@lru_cache(maxsize=16)
def _context(base_url: str, trace_header: str | None) -> CallContext:
    """Kept, as most calls come from the same clients and say nothing of a trace."""
    return CallContext(base_url, trace_header)


def _fault(error: Exception, visit: Visit) -> SqsError:
    if isinstance(error, FanfoldError) and error.transient:
        logger.warning("request %s: %s", visit.request_id, error)
        return faults.busy("The queue's file can't be written now; try again")
    logger.error("request %s (%s) failed", visit.request_id, visit.action or visit.method, exc_info=error)
    return faults.internal()
