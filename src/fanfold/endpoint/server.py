"""The endpoint's HTTP server: sockets, TLS and connections, started and stopped in order."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable
from typing import Final

from fanfold.endpoint.connections import READ_SECONDS, Connection
from fanfold.endpoint.crowd import Connections, Serving
from fanfold.errors import ConfigurationError
from fanfold.service import Deadline, Service

_MOST_FILES: Final = 65_536
_SPARE_FILES: Final = 128
"""File descriptors that aren't connections: the database's, the log's, the loop's."""
_LOOK_SECONDS: Final = 1.0
"""Between two looks for clients that are late."""
_RING_AGAIN: Final = 0.02
"""Seconds between two calls of `end_polls` while the server stops: a poll may begin just after one."""


class HttpServer(Service):
    """Takes connections, within bounds.

    1. `start` returns when connections are accepted.
    2. `stop` takes no more of them, has the waiting polls answered, and lets every request that has come be answered;
       at the deadline it ends what is left.

    It never touches signals: those are the process's.
    """

    def __init__(
        self,
        application: Serving,
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
        self._application = application
        self._sockets = sockets
        self._end_polls = end_polls
        self._tls = _tls(certificate, private_key) if certificate else None
        self._listeners: list[asyncio.Server] = []
        self._connections: Connections | None = None
        self._looking: asyncio.Task[None] | None = None

    async def _start(self) -> None:
        connections = Connections(self._application, most=_connections(), scheme="https" if self._tls else "http")
        loop, patience = asyncio.get_running_loop(), READ_SECONDS if self._tls else None
        for bound in self._sockets:
            listener = await loop.create_server(
                lambda: Connection(connections), sock=bound, ssl=self._tls, ssl_handshake_timeout=patience
            )
            self._listeners.append(listener)
        self._connections = connections
        self._looking = asyncio.create_task(self._look(connections))

    async def _stop(self, deadline: Deadline) -> None:
        await self._accept_no_more()
        if self._connections is None or self._looking is None:
            return
        # Every connection knows that it closes with its next answer before a poll gets an empty one, so that its
        # client doesn't come back at once.
        self._connections.close()
        ended = asyncio.create_task(self._answer_polls(self._connections))
        await deadline.wait([ended])
        ended.cancel()
        self._looking.cancel()
        self._connections.abort()
        await self._connections.emptied.wait()

    async def _accept_no_more(self) -> None:
        # What asyncio accepts in the very turn in which its server closes would never be closed.
        for bound in self._sockets:
            asyncio.get_running_loop().remove_reader(bound)
        for _ in range(2):
            await asyncio.sleep(0)
        for listener in self._listeners:
            listener.close()

    async def _answer_polls(self, connections: Connections) -> None:
        ended = False
        while not ended:
            self._end_polls()
            await asyncio.sleep(_RING_AGAIN)  # also for what was accepted as the listeners closed
            ended = not connections.open

    async def _look(self, connections: Connections) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            connections.close_late()


def _tls(certificate: str, private_key: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, private_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"--certificate {certificate} with --private-key {private_key}: {error}; both must be readable PEM files "
            "that belong together"
        ) from error
    return context


def _connections() -> int:
    """How many connections this process can hold; it asks the system for as many as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(soft, most) - _SPARE_FILES
