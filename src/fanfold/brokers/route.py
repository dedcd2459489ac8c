"""The way to SQS: its endpoint, the region, a proxy, and whom to trust. All of it is found as botocore finds it."""

from __future__ import annotations

import os
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from fanfold.brokers.boto import endpoint_of, make_session, refusals_named
from fanfold.errors import ConfigurationError

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy. `tls`: it is spoken to over TLS itself; `authorization` goes with each request to it."""

    host: str
    port: int
    tls: bool
    authorization: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where requests go, and how.

    `path` is the endpoint's own (`/` for nearly all), `authorities` the file with the certificates of those whom to
    trust, `proxy` what stands in between.
    """

    host: str
    port: int
    tls: bool
    path: str
    region: str
    authorities: str
    proxy: Proxy | None = None

    @property
    def authority(self) -> str:
        """Host and port as the `Host` header has them: the scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """What the request line names: the path; to a proxy that forwards in clear, the whole URL."""
        return f"http://{self.authority}{self.path}" if self._forwarded else self.path

    @property
    def headers(self) -> str:
        """Header lines that a proxy that forwards in clear wants with each request."""
        known = self.proxy.authorization if self.proxy is not None and self._forwarded else None
        return f"proxy-authorization:{known}\r\n" if known else ""

    @property
    def _forwarded(self) -> bool:
        return self.proxy is not None and not self.tls


def find_route(queue_url: str, *, region: str | None) -> Route:
    """The way to a queue. Reads environment and configuration files, so not for an event loop.

    The endpoint is botocore's for the region, with what `AWS_ENDPOINT_URL_SQS`, `AWS_ENDPOINT_URL`,
    `AWS_USE_FIPS_ENDPOINT`, `AWS_USE_DUALSTACK_ENDPOINT` and the profile say, but where the queue URL's host isn't one
    of Amazon's public ones, that host. Proxies come from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, the authorities
    from `AWS_CA_BUNDLE`, the profile's `ca_bundle` or `REQUESTS_CA_BUNDLE`.

    Raises:
        ConfigurationError: no region is known, or one of these settings can't work.
    """
    with refusals_named(queue_url):
        session = make_session(queue_url, region=region)
        endpoint, name = _endpoint(session, queue_url)
        authorities = _authorities(session)
    return route_to(endpoint, region=name, authorities=authorities, proxy=proxy_for(endpoint))


def route_to(endpoint: str, *, region: str, authorities: str, proxy: Proxy | None = None) -> Route:
    """The route to an endpoint's URL."""
    parts = urlsplit(endpoint)
    return Route(
        host=parts.hostname or "",
        port=_port(parts, endpoint),
        tls=parts.scheme == "https",
        path=parts.path or "/",
        region=region,
        authorities=authorities,
        proxy=proxy,
    )


def proxy_for(endpoint: str) -> Proxy | None:
    """The proxy that the environment names for an endpoint, or None.

    Raises:
        ConfigurationError: it isn't an HTTP proxy.
    """
    parts = urlsplit(endpoint)
    url = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    return _proxy(url if "://" in url else f"http://{url.removeprefix('//')}", parts.scheme) if url else None


def _proxy(url: str, scheme: str) -> Proxy:
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        # The URL itself may hold a password.
        raise ConfigurationError(
            f"{scheme.upper()}_PROXY names {parts.scheme}://{parts.hostname or ''}; only http:// and https:// proxies "
            "with a host are supported. Correct it, or name the queue's host in NO_PROXY"
        )
    return Proxy(
        host=parts.hostname,
        port=_port(parts, f"the proxy {parts.hostname}"),
        tls=parts.scheme == "https",
        authorization=_basic(parts),
    )


def _basic(parts: SplitResult) -> str | None:
    if parts.username is None or parts.password is None:
        return None
    return "Basic " + b64encode(f"{unquote(parts.username)}:{unquote(parts.password)}".encode()).decode()


def _port(parts: SplitResult, what: str) -> int:
    try:
        return parts.port or _PORTS[parts.scheme]
    except ValueError as error:
        raise ConfigurationError(f"{what}: {error}; a port is a number from 0 to 65535") from error


def _endpoint(session: Any, queue_url: str) -> tuple[str, str]:
    endpoint = endpoint_of(queue_url)
    # What stands in for SQS has no regions, but signatures name one.
    region = session.get_config_variable("region") or ("us-east-1" if endpoint else None)
    # Only its endpoint is wanted: with keys of no use given, it doesn't go looking for some, which can take seconds.
    unused = {"aws_access_key_id": "unused", "aws_secret_access_key": "unused"}
    client = session.create_client("sqs", region_name=region, endpoint_url=endpoint, **unused)
    try:
        return client.meta.endpoint_url, client.meta.region_name
    finally:
        client.close()


def _authorities(session: Any) -> str:
    from botocore.httpsession import get_cert_path  # noqa: PLC0415 - only who uses SQS pays for the import

    named = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    return str(named or get_cert_path(verify=True))
