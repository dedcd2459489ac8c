"""Addresses of a ledger on PostgreSQL: `postgresql://user:secret@host:5432/database?schema=fanfold&connections=4`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import psycopg
from psycopg import conninfo

from fanfold.errors import ConfigurationError

_OURS: Final = {"schema": "fanfold", "connections": "4"}
_SCHEMA: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
# For libpq, where the URL says nothing else. A server that has vanished is noticed after so many seconds: by a new
# connection, by one that waits for an answer, and by one whose request isn't acknowledged (milliseconds).
_PATIENCE: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "20000",
    "application_name": "fanfold",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """What such a URL says: how to connect, the schema of the tables, and how many connections to make at most.

    `shown` is it without the password.
    """

    conninfo: str = field(repr=False)
    shown: str
    schema: str = "fanfold"
    connections: int = 4


def parse_postgres(url: str) -> PostgresAddress:
    """Read a `postgresql:` URL. Ours are `schema` and `connections`; every other option is libpq's (`sslmode=require`).

    Raises:
        ConfigurationError: not of that form, or an unknown option.
    """
    address, _, query = url.partition("?")
    options = [tuple(option.partition("=")[::2]) for option in query.split("&") if option]
    ours = _OURS | {name: value for name, value in options if name in _OURS}
    schema, connections = ours["schema"], ours["connections"]
    shown = re.sub(r"//([^:/@]*):[^/]*@", r"//\1:***@", address)
    if not _SCHEMA.fullmatch(schema):
        raise ConfigurationError(
            f"{shown}: schema={schema!r}; a name has 1-63 of a-z 0-9 _, begins with no digit and not with pg_"
        )
    if not connections.isdecimal() or not 1 <= int(connections) <= 100:  # noqa: PLR2004 - said in the text
        raise ConfigurationError(f"{shown}: connections={connections!r}; write a number from 1 to 100")
    return PostgresAddress(
        conninfo=_conninfo(address, [option for option in options if option[0] not in _OURS], shown),
        shown=shown,
        schema=schema,
        connections=int(connections),
    )


def _conninfo(address: str, options: Sequence[tuple[str, ...]], shown: str) -> str:
    query = "&".join("=".join(option) for option in options)  # as libpq decodes it, which isn't as forms are
    try:
        said = conninfo.conninfo_to_dict(f"{address}?{query}" if query else address)
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(
            f"{shown}: {str(error).strip()}; write postgresql://user@host:5432/database?schema=fanfold"
        ) from None
    return conninfo.make_conninfo("", **(_PATIENCE | said))
