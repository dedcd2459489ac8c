"""New connections: TLS under a private authority, proxies, and what can be wrong with either."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trustme

from fanfold.brokers.dialing import Dialer
from fanfold.brokers.route import Proxy, route_to
from fanfold.errors import ConfigurationError
from scripted import gone, hang_up, read_request, reply, scripted, silence

REQUEST = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def authorities(authority, tmp_path_factory):
    file = tmp_path_factory.mktemp("tls") / "ours.pem"
    authority.cert_pem.write_to_path(file)
    return str(file)


@pytest.fixture(scope="module")
def tls(authority):
    """A server's side of TLS, for `localhost`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    context.names = []
    context.sni_callback = lambda _, name, context: context.names.append(name)
    return context


def dialer(url, authorities="", *, proxy=None, **options):
    return Dialer(route_to(url, region="eu-west-1", authorities=authorities, proxy=proxy), **options)


async def ask(dial):
    connection = await dial.dial()
    answer = await connection.exchange(REQUEST, patience=60)
    connection.close()
    return answer


@dataclass
class ForwardingProxy:
    """A proxy that connects its clients to where they want, or answers what it was told to."""

    refusal: bytes = b""
    port: int = 0
    asked: list = field(default_factory=list)
    pipes: set = field(default_factory=set)
    writers: list = field(default_factory=list)

    async def serve(self, reader, writer):
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            request = await read_request(reader)
            self.asked.append(request)
            if self.refusal:
                writer.write(self.refusal)
                writer.close()
                return
            host, _, port = request.line.split()[1].rpartition(":")
            there_reader, there = await asyncio.open_connection(host.strip("[]"), int(port))
            self.writers.append(there)
            writer.write(b"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\n")
            self.pipes |= {asyncio.create_task(pipe(reader, there)), asyncio.create_task(pipe(there_reader, writer))}


async def pipe(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


@asynccontextmanager
async def forwarding(refusal=b"", tls=None):
    proxy = ForwardingProxy(refusal)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await gone(proxy.writers)
        await asyncio.gather(*proxy.pipes)


# --- TLS


async def test_a_certificate_of_a_named_authority_is_trusted_and_the_host_is_named_to_the_server(tls, authorities):
    tls.names.clear()
    async with scripted(tls=tls) as server:
        answer = await ask(dialer(f"https://localhost:{server.port}", authorities))
    assert (answer.status, tls.names) == (200, ["localhost"])


async def test_a_certificate_of_another_authority_is_refused_with_the_cure(tls, tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    async with scripted(tls=tls) as server:
        with pytest.raises(ConnectionError, match="AWS_CA_BUNDLE"):
            await ask(dialer(f"https://localhost:{server.port}", str(other)))
    assert server.asked == []


async def test_a_certificate_for_another_host_is_refused(tls, authorities):
    async with scripted(tls=tls) as server:
        with pytest.raises(ConnectionError, match="127"):
            await ask(dialer(f"https://127.0.0.1:{server.port}", authorities))
    assert server.asked == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_next_handshake_resumes_the_last_session(authority, authorities, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    context.minimum_version = context.maximum_version = version
    async with scripted(tls=context) as server:
        dial = dialer(f"https://localhost:{server.port}", authorities)
        for _ in range(3):
            await ask(dial)
    assert [made.session_reused for made in server.tls_objects] == [False, True, True]


async def test_a_thread_does_not_touch_the_session_of_another(tls, authorities):
    async with scripted(tls=tls) as server:
        dial = dialer(f"https://localhost:{server.port}", authorities)
        await ask(dial)
        await asyncio.to_thread(lambda: asyncio.run(ask(dial)))
    assert [made.session_reused for made in server.tls_objects] == [False, False]


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_authorities_that_can_not_be_read_are_a_configuration_error(tmp_path, text):
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"ca\.pem.*AWS_CA_BUNDLE"):
        dialer("https://localhost", str(file))


async def test_a_server_without_tls_is_no_tls_server(authorities):
    async with scripted() as server:
        server.serve = hang_up(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(OSError, match="SSL"):
            await dialer(f"https://localhost:{server.port}", authorities).dial()


# --- no connection


async def test_a_port_where_nobody_listens_is_an_error():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await dialer(f"http://127.0.0.1:{unused.getsockname()[1]}").dial()


async def test_a_handshake_that_does_not_end_is_given_up(authorities):
    async with scripted() as server:
        server.serve = silence()
        with pytest.raises(TimeoutError, match=rf"no connection to localhost:{server.port} within 0.05 s"):
            await dialer(f"https://localhost:{server.port}", authorities, patience=0.05).dial()


# --- proxies


async def test_in_clear_a_proxy_is_spoken_to_in_the_endpoints_place():
    async with scripted() as proxy:
        way = Proxy(host="127.0.0.1", port=proxy.port, tls=False)
        answer = await ask(dialer("http://queue.example.org", proxy=way))
    assert (answer.status, len(proxy.asked)) == (200, 1)


@pytest.mark.parametrize("to_the_proxy_too", [False, True])
async def test_tls_goes_through_a_proxys_tunnel(tls, authorities, to_the_proxy_too):
    async with scripted(tls=tls) as server, forwarding(tls=tls if to_the_proxy_too else None) as proxy:
        way = Proxy(host="localhost", port=proxy.port, tls=to_the_proxy_too, authorization="Basic bWU6cHc=")
        answer = await ask(dialer(f"https://localhost:{server.port}", authorities, proxy=way))
    [asked] = proxy.asked
    assert answer.status == 200
    assert asked.line == f"CONNECT localhost:{server.port} HTTP/1.1"
    assert asked.headers["host"] == f"localhost:{server.port}"
    assert asked.headers["proxy-authorization"] == "Basic bWU6cHc="
    assert "proxy-authorization" not in server.asked[0].headers


async def test_a_proxy_can_not_stand_in_for_the_endpoint(tls, authorities):
    async with scripted(tls=tls) as server, forwarding() as proxy:
        way = Proxy(host="127.0.0.1", port=proxy.port, tls=False)
        with pytest.raises(ConnectionError, match="AWS_CA_BUNDLE"):
            await ask(dialer(f"https://127.0.0.1:{server.port}", authorities, proxy=way))


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", "407 Proxy Authentication"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "SSH-2.0"),
        (b"HTTP/1.1 200 ", "closed the connection"),
        (b"x" * 70_000, "xxxx"),
    ],
)
async def test_a_proxy_that_does_not_connect_us_is_named_with_what_it_said(authorities, refusal, said):
    async with forwarding(refusal) as proxy:
        way = Proxy(host="127.0.0.1", port=proxy.port, tls=False)
        with pytest.raises(ConnectionError, match=said):
            await dialer("https://queue.example.org", authorities, proxy=way).dial()
    assert len(proxy.asked) == 1


async def test_a_connection_to_a_proxy_that_refuses_is_not_left_behind(authorities):
    hung_up = asyncio.Event()

    async def refuse(reader, writer):
        writer.write(reply(status="407 Proxy Authentication Required"))
        await reader.read()
        hung_up.set()

    async with scripted() as server:
        server.serve = refuse
        way = Proxy(host="127.0.0.1", port=server.port, tls=False)
        with pytest.raises(ConnectionError, match="407"):
            await dialer("https://queue.example.org", authorities, proxy=way).dial()
        await hung_up.wait()


async def test_a_proxy_that_says_nothing_is_given_up(authorities):
    async with scripted() as server:
        server.serve = silence()
        way = Proxy(host="127.0.0.1", port=server.port, tls=False)
        with pytest.raises(TimeoutError, match="no connection to queue"):
            await dialer("https://queue.example.org", authorities, proxy=way, patience=0.05).dial()


async def test_an_address_in_brackets_stays_in_brackets(authorities):
    async with forwarding(reply(status="403 Forbidden")) as proxy:
        way = Proxy(host="127.0.0.1", port=proxy.port, tls=False)
        with pytest.raises(ConnectionError, match="403"):
            await dialer("https://[::1]:9", authorities, proxy=way).dial()
    assert proxy.asked[0].line == "CONNECT [::1]:9 HTTP/1.1"
