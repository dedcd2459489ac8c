"""The whole endpoint: a file, its engine, and a server in front of it."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

from fanfold.clock import Clock, SystemClock
from fanfold.database import Database
from fanfold.endpoint import address, queues
from fanfold.endpoint.access import Guard, Key, Signed, Unsigned
from fanfold.endpoint.address import Address
from fanfold.endpoint.application import Application, Visit
from fanfold.endpoint.health import Health
from fanfold.endpoint.server import HttpServer
from fanfold.engine.service import CallContext, SqsEngine
from fanfold.errors import ConfigurationError
from fanfold.service import Deadline, Service
from fanfold.telemetry import LogSubscriber, Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is served, where, and to whom.

    `create`: names of queues to have ready. `keys`: none on loopback serves everybody there. `certificate` and
    `private_key`: PEM files; both or neither. `recreate_at_once`: without the 60 seconds that SQS asks for between a
    queue's deletion and its creation.
    """

    file: Path
    synchronous: str = "FULL"
    listen: Address = field(default_factory=lambda: address.parse(address.DEFAULT))
    region: str = "us-east-1"
    keys: tuple[Key, ...] = ()
    create: tuple[str, ...] = ()
    certificate: Path | None = None
    private_key: Path | None = None
    recreate_at_once: bool = False
    log_requests: bool = False

    def __post_init__(self) -> None:
        if not self.keys and not self.listen.is_loopback:
            raise ConfigurationError(
                f"--listen {self.listen}: other machines can reach it, so requests must be signed, and there are no "
                "keys; add --keys FILE or set FANFOLD_SERVE_KEYS, or listen on 127.0.0.1"
            )
        if (self.certificate is None) != (self.private_key is None):
            raise ConfigurationError("TLS takes both --certificate FILE and --private-key FILE; give both or neither")
        for name in self.create:
            queues.check_name(name)


class Endpoint(Service):
    """Serves a file as SQS.

    1. `start` opens the file, takes the port, has the queues ready, and accepts requests when it returns.
    2. `stop` answers waiting polls empty, lets requests under way finish, and closes the file.
    """

    def __init__(self, plan: Plan, *, clock: Clock | None = None, telemetry: Telemetry | None = None) -> None:
        """Nothing is opened before `start`. `telemetry` hears `request.served` where the plan wants requests logged."""
        super().__init__()
        self._plan = plan
        self._clock = clock or SystemClock()
        self._telemetry = telemetry or Telemetry(LogSubscriber())
        database = Database(plan.file, synchronous=plan.synchronous)
        self._engine = SqsEngine(
            database, clock=self._clock, region=plan.region, recreate_delay=not plan.recreate_at_once
        )
        self._server: HttpServer | None = None
        self.url = ""
        self.queue_urls: tuple[str, ...] = ()

    async def _start(self) -> None:
        """Raises ConfigurationError or StorageError where the plan can't be carried out; then nothing stays open."""
        bound = address.bind(self._plan.listen)
        try:
            self.url = self._named(bound)
            await self._engine.open()
            await self._serve(bound)
        except BaseException:
            bound.close()
            await self._engine.close()
            raise

    async def _serve(self, bound: socket.socket) -> None:
        context = CallContext(self.url)
        self.queue_urls = tuple([await queues.create(self._engine, name, context) for name in self._plan.create])
        self._server = HttpServer(
            self._application(),
            [bound],
            end_polls=self._engine.end_polls,
            certificate=_text(self._plan.certificate),
            private_key=_text(self._plan.private_key),
        )
        await self._server.start()

    async def _stop(self, deadline: Deadline) -> None:
        if self._server is not None:
            await self._server.stop(deadline)
            await self._engine.close()

    def _application(self) -> Application:
        guard: Guard = (
            Signed(self._plan.keys, region=self._plan.region, clock=self._clock) if self._plan.keys else Unsigned()
        )
        health = Health(self._engine, self._clock)
        if self._plan.log_requests:
            return Application(self._engine, guard, health=health, report=self._report)
        return Application(self._engine, guard, health=health)

    def _report(self, visit: Visit) -> None:
        said = {
            "client": visit.client,
            "method": visit.method,
            "path": "" if visit.action else visit.path,
            "action": visit.action,
            "queue": visit.queue,
            "key": visit.key_id,
            "error": visit.error,
        }
        self._telemetry.emit(
            "request.served",
            id=visit.request_id,
            status=visit.status,
            seconds=visit.seconds,
            **{name: value for name, value in said.items() if value},
        )

    def _named(self, bound: socket.socket) -> str:
        """The endpoint's URL: the host as it was asked for, or this machine's name where it is every address."""
        host = self._plan.listen.host
        name = socket.gethostname() if host in ("0.0.0.0", "::") else host  # noqa: S104 - not bound to here
        scheme = "https" if self._plan.certificate else "http"
        return f"{scheme}://{Address(name, bound.getsockname()[1])}"


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
