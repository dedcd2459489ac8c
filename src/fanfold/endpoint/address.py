"""Where an endpoint listens: `127.0.0.1:9324`, `[::1]:9324`, `0.0.0.0:9324`."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Final

from fanfold.errors import ConfigurationError

DEFAULT: Final = "127.0.0.1:9324"
_FORM: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_BACKLOG: Final = 2048


@dataclass(frozen=True, slots=True)
class Address:
    """A host name or address, and a port; port 0 is any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str) -> Address:
    """Read `HOST:PORT`. Raises ConfigurationError."""
    found = _FORM.fullmatch(text)
    if found is None or int(found["port"]) > 65_535:  # noqa: PLR2004 - ports have 16 bits
        raise ConfigurationError(f"--listen {text!r}: write HOST:PORT, for example {DEFAULT} or [::1]:9324")
    return Address(found["six"] or found["host"], int(found["port"]))


def bind(address: Address) -> socket.socket:
    """A listening socket. Raises ConfigurationError where the address can't be had."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"--listen {address}: {error.strerror}; choose another host") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(where)
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise ConfigurationError(f"--listen {address}: {error.strerror}; choose another address or port") from error
    bound.settimeout(0)
    return bound
