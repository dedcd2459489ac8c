"""What a region's requests and units cost: the table's prices, or those that were given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fanfold.deploy.description import check_region
from fanfold.deploy.load import table
from fanfold.errors import ConfigurationError

KNOWN: Final = "us-east-1"
"""Whose prices stand in for those that the table hasn't; it has all of this one's."""
_NAMES: Final = ("fifo", "dynamodb_write", "dynamodb_read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Dollars for a million: FIFO requests, write units and read units of DynamoDB.

    `assumed` names those that are another region's, since the table has none of `region`; `source` says where the
    others are from, and `read` when.
    """

    region: str
    fifo: float
    dynamodb_write: float
    dynamodb_read: float
    assumed: Sequence[str] = ()
    source: str = ""
    read: str = ""


def prices_of(
    region: str, *, fifo: float | None = None, dynamodb_write: float | None = None, dynamodb_read: float | None = None
) -> Prices:
    """A region's prices; what is given counts for more than the table.

    Raises:
        ConfigurationError: that is no region, or no price.
    """
    check_region(region)
    given = dict(zip(_NAMES, (fifo, dynamodb_write, dynamodb_read), strict=True))
    for name, price in given.items():
        if price is not None and not 0 <= price < math.inf:
            raise ConfigurationError(f"{name}={price}: dollars for a million, at least 0")
    regions = table()["prices"]["regions"]
    there, elsewhere = regions.get(region, {}), regions[KNOWN]
    own = {name: price if price is not None else there.get(name) for name, price in given.items()}
    return Prices(
        **{name: price if price is not None else elsewhere[name] for name, price in own.items()},
        region=region,
        assumed=[name for name, price in own.items() if price is None],
        source=there.get("source", ""),
        read=there.get("read", ""),
    )
