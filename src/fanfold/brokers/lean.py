"""Requests to SQS over kept-alive asyncio connections: what boto3 does, at little cost and without threads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from fanfold.brokers import faults
from fanfold.brokers.answers import Again, Fault, meaning, nothing
from fanfold.brokers.boto import broker_error, make_session
from fanfold.brokers.credentials import Credentials
from fanfold.brokers.dialing import Dialer
from fanfold.brokers.pool import Pool
from fanfold.brokers.retries import Retries
from fanfold.brokers.route import find_route
from fanfold.brokers.signing import Keys, Signer
from fanfold.brokers.threads import Threads
from fanfold.clock import Clock, SystemClock
from fanfold.errors import BrokerError, CredentialsError

_ANSWER: Final = 10.0
"""Seconds for an answer; a long poll has those that it was asked to wait for beside."""

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """What is found once: how to sign, and how to connect."""

    signer: Signer
    dialer: Dialer


class LeanTransport:
    """`call(action, payload) -> answer` on SQS's JSON protocol.

    1. The first call finds the way (endpoint, region, proxy, authorities) and the credentials, in a thread.
    2. Each call is signed and made on a connection of its event loop that was kept, or on a new one.
    3. What may pass is tried again, as botocore's standard mode does: throttling, 5xx, lost connections, cut answers.
       A signature that was refused for our clock is made again with the server's time, and refused keys are looked for
       again once.
    4. `close` ends what is idle, and each connection in use with its answer.

    A request may reach SQS twice, when its answer was lost. That is safe for all that `SqsBroker` asks for: sends carry
    deduplication ids, receives an attempt id (the same messages come again, with their leases begun anew), and deletes
    and lease changes say how things shall be, not what to change about them.

    It follows no redirect, and never blocks an event loop. It may be used from several, in several threads.
    """

    def __init__(
        self,
        queue_url: str,
        *,
        region: str | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """Nothing is looked for before the first call.

        Args:
            queue_url: of the queue; its endpoint and region come from it, and from what botocore finds.
            region: goes before the URL's.
            clock: for the time in signatures and for pauses.
            rng: for the pauses' jitter.
        """
        self._queue_url = queue_url
        self._region = region
        self._clock = clock or SystemClock()
        self._retries = Retries(rng or random.Random())  # noqa: S311 - jitter
        self._credentials = Credentials(lambda: make_session(queue_url, region=region).get_credentials())
        self._threads = Threads("route", 1)
        self._finding: Future[_Way] | None = None
        self._way: _Way | None = None
        self._pools: dict[asyncio.AbstractEventLoop, Pool] = {}
        self._skew = 0.0

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Make one request; `action` and `payload` are those of the SQS API, binary values are base64 in answers.

        Raises:
            ConfigurationError: the way to SQS can't be found.
            BrokerError: a subclass says why; `transient` whether another try may help.
        """
        way = self._way or await self._find_way()
        body = _encode(payload)
        queue_url = str(payload.get("QueueUrl", self._queue_url))
        wait = payload.get("WaitTimeSeconds", 0)
        last: Fault | None = None
        attempt = 0
        while True:
            attempt += 1
            result = await self._attempt(way, action, body, queue_url=queue_url, wait=wait)
            if not isinstance(result, Fault):
                self._retries.succeeded(last)
                return result
            last = result
            pause = self._retries.pause(result, attempt)
            if pause is None:
                raise result.error from result.cause
            await self._clock.sleep(pause)

    def close(self) -> None:
        """Close idle connections, and let requests under way end. Idempotent; a later call opens again."""
        self._credentials.close()
        self._threads.close(wait=False)
        for loop, pool in list(self._pools.items()):
            try:
                loop.call_soon_threadsafe(pool.close)
            except RuntimeError:
                self._pools.pop(loop, None)  # the loop was closed, and its connections with it

    async def _attempt(
        self, way: _Way, action: str, body: bytes, *, queue_url: str, wait: float
    ) -> dict[str, Any] | Fault:
        keys = self._credentials.at_hand() or await self._look_for_keys(action, queue_url)
        at = self._clock.now() + self._skew
        request = way.signer.head(action, body, keys=keys, at=at) + body
        try:
            reply = await self._pool(way).exchange(request, patience=_ANSWER + wait, poll=wait > 0)
        except OSError as error:
            return nothing(error, action=action, queue_url=queue_url)
        result = meaning(reply, action=action, queue_url=queue_url, at=at)
        if isinstance(result, Fault):
            self._learn(result, keys)
        return result

    def _learn(self, fault: Fault, keys: Keys) -> None:
        if fault.time is not None:
            self._skew = fault.time - self._clock.now()
        elif fault.again is Again.REFUSED_KEYS:
            self._credentials.forget(keys)

    async def _look_for_keys(self, action: str, queue_url: str) -> Keys:
        try:
            return await self._credentials.get()
        except CredentialsError as error:
            raise faults.without_credentials(error, queue_url=queue_url) from error
        except Exception as error:
            raise _no_keys(error, action, queue_url) from error

    async def _find_way(self) -> _Way:
        if self._finding is None or (self._finding.done() and self._finding.exception() is not None):
            self._finding = self._threads.submit(lambda: _way_to(self._queue_url, self._region))
        # One caller that is cancelled doesn't end the search that the others wait for.
        self._way = await asyncio.shield(asyncio.wrap_future(self._finding))
        return self._way

    def _pool(self, way: _Way) -> Pool:
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            for other in [other for other in self._pools if other.is_closed()]:
                del self._pools[other]
            pool = self._pools[loop] = Pool(way.dialer.dial)
        return pool


def _way_to(queue_url: str, region: str | None) -> _Way:
    route = find_route(queue_url, region=region)
    signer = Signer(
        target=route.target, host=route.authority, path=route.path, region=route.region, unsigned=route.headers
    )
    return _Way(signer=signer, dialer=Dialer(route))


def _no_keys(error: Exception, action: str, queue_url: str) -> BrokerError:
    # A service that hands credentials out was asked, not the queue: what it refuses is no missing permission on that.
    ours = broker_error(error, action, queue_url)
    return ours if ours.transient else faults.without_credentials(error, queue_url=queue_url)
