"""What the actions work with: the file, the time, the bell, and the names of things outside."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fanfold.clock import Clock
from fanfold.connection_thread import Operation
from fanfold.database import Database, Unflushed
from fanfold.engine import deferred, errors
from fanfold.engine.commits import Commits
from fanfold.engine.deferred import Later, Write, at_once, settled
from fanfold.engine.doorbell import Doorbell
from fanfold.engine.errors import SqsError
from fanfold.engine.polling import LongPolls

T = TypeVar("T")
Request = Mapping[str, Any]
Answer = dict[str, Any]
Change = Callable[[sqlite3.Connection, Write], T]
"""An operation that reads the connection, and changes it by its `Write` (what it changes by itself, it changes now)."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class CallContext:
    """What a call knows beside its request.

    `base_url` is what queue URLs in answers begin with ("http://127.0.0.1:9324"). `trace_header` becomes the
    AWSTraceHeader of what is sent.
    """

    base_url: str
    trace_header: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The engine's means, for its actions."""

    database: Database
    commits: Commits
    clock: Clock
    doorbell: Doorbell
    polls: LongPolls
    new_id: Callable[[], str]
    new_receipt: Callable[[], str]
    account: str
    region: str
    recreate_delay: bool
    wake_mover: Callable[[], None]

    async def write(self, operation: Operation[T]) -> T:
        """Run an operation that may change something.

        It may raise SqsError before its first change, and only then: what it has changed is kept.
        """
        return _unless_refused(await self.commits.write(settled(_refusing(operation))))

    async def read(self, operation: Operation[T]) -> T:
        """Run an operation that changes nothing, and doesn't look at messages."""
        return _unless_refused(await asyncio.wrap_future(self.database.read(_refusing(operation))))

    async def read_messages(self, operation: Operation[T]) -> T:
        """Run an operation that changes nothing: behind what was deferred, which is messages only."""
        return _unless_refused(await deferred.read(self.database, _refusing(operation)))

    async def change(self, decide: Change[T]) -> T:
        """Run an operation that changes something by what it gives to its `Write`, after its answer where that helps.

        It may raise SqsError, as in `write`.
        """
        now, later = _ways(decide)
        return _unless_refused(await self.commits.write(now, lone=later))

    async def receive(self, decide: Change[T], unattended: Callable[[T], None]) -> T:
        """The same for a receive; its result goes to `unattended` where whoever called is gone when it comes.

        It isn't flushed to the disk: a receive that a power loss undoes was none, and its messages come again.
        """

        def left(result: T | SqsError) -> None:
            if not isinstance(result, SqsError):
                unattended(result)

        now, later = _ways(decide)
        return _unless_refused(await self.commits.write(Unflushed(now), left, lone=Unflushed(later)))

    def now(self) -> int:
        """Milliseconds since the epoch. To be read inside an operation, after the wait for the file."""
        return int(self.clock.now() * 1000)

    def arn(self, name: str) -> str:
        """The ARN of the queue of that name."""
        return f"arn:aws:sqs:{self.region}:{self.account}:{name}"

    def url(self, context: CallContext, name: str) -> str:
        """The URL of the queue of that name."""
        return f"{context.base_url}/{self.account}/{name}"


def required(request: Request, name: str) -> Any:
    """A parameter that can't be left out.

    Raises:
        SqsError: it was.
    """
    value = request.get(name)
    if value is None or value == "":
        raise errors.missing(name)
    return value


def queue_name(request: Request) -> str:
    """The name of the queue that a request's QueueUrl means: its last part."""
    url: str = required(request, "QueueUrl")
    return url.rstrip("/").rpartition("/")[2]


def within(request: Request, name: str, least: int, most: int, reason: str) -> int | None:
    """A number that may be left out, and has bounds.

    Raises:
        SqsError: it is beyond them; `reason` says so.
    """
    value: int | None = request.get(name)
    if value is not None and not least <= value <= most:
        raise errors.invalid_value(value, name, reason)
    return value


def without_empty(answer: Answer) -> Answer:
    """An answer without its empty lists and maps, which SQS leaves out."""
    return {name: value for name, value in answer.items() if value not in ([], {})}


def storable(text: str) -> bool:
    """Whether a text can be stored and sent."""
    return _SURROGATE.search(text) is None


def _ways(decide: Change[T]) -> tuple[Operation[T | SqsError], Operation[T | SqsError]]:
    """The two ways to run a change: all of it now, or its statements later."""

    def now(connection: sqlite3.Connection) -> T:
        return decide(connection, at_once(connection))

    def later(connection: sqlite3.Connection) -> T:
        kept = Later()
        result = decide(connection, kept)
        kept.defer(connection)
        return result

    return settled(_refusing(now)), settled(_refusing(later))


def _refusing(operation: Operation[T]) -> Operation[T | SqsError]:
    # A raised error would roll back everybody else's operations of the same commit, and run them again.
    def run(connection: sqlite3.Connection) -> T | SqsError:
        try:
            return operation(connection)
        except SqsError as refusal:
            return refusal

    return run


def _unless_refused(result: T | SqsError) -> T:
    if isinstance(result, SqsError):
        raise result
    return result
