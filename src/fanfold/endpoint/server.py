"""The endpoint as a server: the engine, the application and uvicorn, started and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn

from fanfold.endpoint.connections import IDLE_SECONDS, BoundedConnection, limited_to
from fanfold.errors import ConfigurationError
from fanfold.service import Deadline, Service

_MOST_FILES: Final = 65_536
_SPARE_FILES: Final = 128
"""File descriptors that aren't connections: the database's, the log's, the loop's."""
_TICKS_A_SECOND: Final = 10
_RING_AGAIN: Final = 0.05
"""Seconds between two calls of `end_polls` while the server stops: a poll may begin just after one."""


class HttpServer(Service):
    """uvicorn under our lifecycle, with our bounds on connections.

    1. `start` returns when connections are accepted.
    2. `stop` takes no more of them, has the waiting polls answered, and lets every request that has come be answered;
       at the deadline it ends what is left.

    It never touches signals: those are the process's.
    """

    def __init__(
        self,
        application: Any,
        sockets: list[socket.socket],
        *,
        end_polls: Callable[[], None],
        certificate: str | None = None,
        private_key: str | None = None,
    ) -> None:
        """Nothing is accepted before `start`.

        Raises:
            ConfigurationError: certificate and private key can't be used.
        """
        super().__init__()
        self._sockets = sockets
        self._server = _Server(_config(application, certificate, private_key), end_polls)
        self._serving: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        self._serving = asyncio.create_task(self._server.serve(self._sockets))
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait((self._serving, ready), return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._serving.done():
            await self._serving

    async def _stop(self, deadline: Deadline) -> None:
        if self._serving is None:
            return
        self._server.should_exit = True
        await deadline.wait([self._serving])
        self._server.give_up()
        await self._serving


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, end_polls: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._end_polls = end_polls

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    def give_up(self) -> None:
        """Wait for nothing that is under way; asyncio's own wait for open connections would, from Python 3.12 on."""
        self.force_exit = True
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_A_SECOND == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedConnection):
                    connection.close_if_late()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # The task begins when `super` first waits. By then every connection knows that it closes with its next answer,
        # so that a client that gets an empty one doesn't come back at once.
        ending = asyncio.create_task(self._answer_polls())
        await super().shutdown(sockets)
        ending.cancel()

    async def _answer_polls(self) -> None:
        while True:
            self._end_polls()
            await asyncio.sleep(_RING_AGAIN)


def _config(application: Any, certificate: str | None, private_key: str | None) -> uvicorn.Config:
    config = uvicorn.Config(
        application,
        http=limited_to(_connections()),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"--certificate {certificate} with --private-key {private_key}: {error}; both must be readable PEM files "
            "that belong together"
        ) from error
    return config


def _connections() -> int:
    """How many connections this process can hold; it asks the system for as many as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(soft, most) - _SPARE_FILES
