"""New connections: directly or through a proxy, in clear or over TLS."""

from __future__ import annotations

import asyncio
import ssl
import threading
from functools import partial
from typing import Final, cast

from fanfold.brokers.connections import Connection
from fanfold.brokers.route import Proxy, Route
from fanfold.errors import ConfigurationError

_PATIENCE: Final = 5.0
"""Seconds for a connection to come about: name, TCP, proxy and TLS together."""
_HEAD: Final = 65_536
"""Bytes that a proxy's answer to CONNECT may have."""


class Trust(ssl.SSLContext):
    """Whom to trust. Each handshake resumes the session of the one before, which saves the server its certificate.

    asyncio doesn't let its callers name a session, but asks the context for the object that would have it. TLS 1.3
    hands sessions out some time after the handshake, so the last one is looked for when the next connection is made.
    """

    _last: tuple[int, ssl.SSLObject] | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - the base class's signature
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As the base class's, with the last session."""
        # Another thread's object may be at work in this moment, and OpenSSL's objects are for one thread at a time.
        last, thread = self._last, threading.get_ident()
        if session is None and last is not None and last[0] == thread:
            session = last[1].session
        made = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        self._last = (thread, made)
        return made


class Dialer:
    """Makes connections for a route, for any event loop.

    Raises:
        ConfigurationError: the file of the authorities can't be used.
    """

    def __init__(self, route: Route, *, patience: float = _PATIENCE) -> None:
        self._route = route
        self._patience = patience
        self._trust = _trusting(route.authorities) if route.tls else None
        self._proxy_trust = _trusting(route.authorities) if route.proxy is not None and route.proxy.tls else None

    async def dial(self) -> Connection:
        """A new connection.

        Raises:
            OSError: there is none to be had, or not in time.
        """
        where = f"{self._route.host}:{self._route.port}"
        try:
            async with asyncio.timeout(self._patience):
                return await self._connection()
        except TimeoutError as error:
            raise TimeoutError(f"no connection to {where} within {self._patience:g} s") from error
        except ssl.SSLCertVerificationError as error:
            raise ConnectionError(
                f"{error}. Where {where} or a proxy has the certificate of a private authority, name the file of that "
                "authority's own in AWS_CA_BUNDLE"
            ) from error

    async def _connection(self) -> Connection:
        proxy = self._route.proxy
        if proxy is None:
            return await _connect(self._route.host, self._route.port, self._trust)
        if self._trust is None:
            return await _connect(proxy.host, proxy.port, self._proxy_trust)
        return await self._through(proxy, self._trust)

    async def _through(self, proxy: Proxy, trust: ssl.SSLContext) -> Connection:
        loop = asyncio.get_running_loop()
        transport, tunnel = await loop.create_connection(_Tunnel, proxy.host, proxy.port, ssl=self._proxy_trust)
        try:
            await tunnel.open(self._route, proxy)
            connection = Connection(loop)
            inner = await loop.start_tls(transport, connection, trust, server_hostname=self._route.host)
        except BaseException:
            transport.abort()
            raise
        connection.connection_made(cast("asyncio.Transport", inner))
        return connection


class _Tunnel(asyncio.Protocol):
    """A connection to a proxy, until the proxy says that it leads to the endpoint."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._said = bytearray()
        self._answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def open(self, route: Route, proxy: Proxy) -> None:
        """Ask the proxy to connect us. Raises ConnectionError."""
        authority = f"[{route.host}]:{route.port}" if ":" in route.host else f"{route.host}:{route.port}"
        authorization = f"proxy-authorization:{proxy.authorization}\r\n" if proxy.authorization else ""
        request = f"CONNECT {authority} HTTP/1.1\r\nhost:{authority}\r\n{authorization}user-agent:fanfold\r\n\r\n"
        cast("asyncio.Transport", self._transport).write(request.encode())
        status = await self._answered
        version, _, said = status.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not said.startswith(b"2"):
            shown = status[:200].decode("latin-1")
            raise ConnectionError(f"the proxy {proxy.host}:{proxy.port} doesn't connect us to {authority}: {shown!r}")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._said += data
        if not self._answered.done() and (b"\r\n\r\n" in self._said or len(self._said) > _HEAD):
            self._answered.set_result(bytes(self._said.partition(b"\r\n")[0]))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answered.done():
            self._answered.set_exception(ConnectionError(f"the proxy closed the connection ({exc or 'said nothing'})"))


async def _connect(host: str, port: int, trust: ssl.SSLContext | None) -> Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(partial(Connection, loop), host, port, ssl=trust)
    return connection


def _trusting(authorities: str) -> Trust:
    trust = Trust(ssl.PROTOCOL_TLS_CLIENT)
    try:
        trust.load_verify_locations(authorities)
    except OSError as error:
        raise ConfigurationError(
            f"the certificate authorities in {authorities} can't be read ({error}); check AWS_CA_BUNDLE, "
            "REQUESTS_CA_BUNDLE or the profile's ca_bundle"
        ) from error
    return trust
