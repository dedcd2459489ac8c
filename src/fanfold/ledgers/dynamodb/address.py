"""Addresses of the table: `dynamodb://fanfold?region=eu-west-1`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from fanfold.errors import ConfigurationError

PREFIX: Final = "dynamodb://"
_TABLE: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_OPTIONS: Final = ("create", "endpoint_url", "region")
_ANSWERS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a `dynamodb:` URL says: the table, where it is, and whether to make it where it is missing."""

    table: str
    region: str | None = None
    endpoint_url: str | None = None
    create: bool = False


def parse(url: str) -> Address:
    """Read a `dynamodb:` URL. Options: `?region=eu-west-1&endpoint_url=http://localhost:8000&create=true`.

    Raises:
        ConfigurationError: the table's name is missing or none, or an option is unknown.
    """
    parts = urlsplit(url)
    table = url.removeprefix(PREFIX).partition("?")[0]
    if not _TABLE.fullmatch(table):
        raise ConfigurationError(
            f"ledger {url!r}: a table's name has 3 to 255 letters, digits, '_', '-' or '.'; write dynamodb://fanfold"
        )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - set(_OPTIONS))
    if unknown:
        raise ConfigurationError(f"ledger {url!r}: unknown option {unknown[0]!r}; there are {', '.join(_OPTIONS)}")
    create = options.get("create", "false")
    if create not in _ANSWERS:
        raise ConfigurationError(f"ledger {url!r}: create={create!r}; it is 'true' or 'false'")
    return Address(
        table=table,
        region=options.get("region"),
        endpoint_url=options.get("endpoint_url"),
        create=_ANSWERS[create],
    )
