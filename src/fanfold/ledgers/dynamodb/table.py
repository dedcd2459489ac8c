"""The table: its keys, its indexes, and how it is made."""

from __future__ import annotations

from typing import Any, Final

from fanfold.errors import LedgerError
from fanfold.ledgers.dynamodb import faults
from fanfold.ledgers.dynamodb.address import Address, parse
from fanfold.ledgers.dynamodb.client import make_client

INDEXES: Final = {
    "newest": ("slot", "listed_as"),
    "of_entity": ("entity_id", "listed_as"),
    "of_parent": ("parent_id", "listed_as"),
    "open": ("slot", "open_at"),
    "unsent": ("slot", "unsent_at"),
    "overdue": ("slot", "ends_by"),
    "unfolded": ("slot", "unfolded_at"),
    "kept": ("slot", "purge_at"),
}
"""Each index with its two keys. An item is in it while it has both, so most hold only what is to be done."""

_TEXTS: Final = ("pk", "sk", "slot", "listed_as", "entity_id", "parent_id")
_KINDS: Final = dict.fromkeys(_TEXTS, "S") | dict.fromkeys(
    ("open_at", "unsent_at", "ends_by", "unfolded_at", "purge_at"), "N"
)
EXPIRY: Final = "expires_at"
"""The attribute that DynamoDB's TTL reads: only roles have it. What belongs to a fan-out is never left to a clock."""


def create_table(url: str, *, client: Any = None) -> None:
    """Make the table that a ledger's URL names, on demand, with its indexes and TTL; wait until it can be used.

    One that is there already is left as it is. Needs dynamodb:CreateTable, DescribeTable and UpdateTimeToLive.

    Raises:
        ConfigurationError: the URL can't be read, or no client can be made for it.
        LedgerError: DynamoDB refuses.
    """
    address = parse(url)
    made = client or make_client(address)
    try:
        create(made, address)
    finally:
        if client is None:
            made.close()


def create(client: Any, address: Address) -> None:
    """The same with a client."""
    action = "CreateTable"
    try:
        client.create_table(**definition(address.table))
        action = "DescribeTable"
        client.get_waiter("table_exists").wait(TableName=address.table, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
        action = "UpdateTimeToLive"
        expiry = {"Enabled": True, "AttributeName": EXPIRY}
        client.update_time_to_live(TableName=address.table, TimeToLiveSpecification=expiry)
    except Exception as error:
        if not faults.code(error).startswith("ResourceInUse"):
            raise faults.told(error, action, address.table) from error
        client.get_waiter("table_exists").wait(TableName=address.table, WaiterConfig={"Delay": 1, "MaxAttempts": 120})


def check(client: Any, address: Address) -> None:
    """See that the table is there and has what the ledger needs; make it where the address says so.

    Raises:
        LedgerError: it isn't, it hasn't, or a right is missing.
    """
    try:
        described = client.describe_table(TableName=address.table)["Table"]
    except Exception as error:
        if not (address.create and faults.code(error).startswith("ResourceNotFound")):
            raise faults.told(error, "DescribeTable", address.table) from error
        create(client, address)
        return
    keys = {key["KeyType"]: key["AttributeName"] for key in described["KeySchema"]}
    indexes = {index["IndexName"] for index in described.get("GlobalSecondaryIndexes", [])}
    lacking = sorted(INDEXES.keys() - indexes)
    if keys != {"HASH": "pk", "RANGE": "sk"} or lacking:
        raise LedgerError(
            f"ledger dynamodb://{address.table}: this is another application's table, or an older one (keys "
            f"{keys}, without the indexes {lacking}). Name another table, or add the indexes (docs/ledgers.md)"
        )


def definition(table: str) -> dict[str, Any]:
    """The arguments of CreateTable."""
    return {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind} for name, kind in _KINDS.items()],
        "KeySchema": _keys("pk", "sk"),
        "GlobalSecondaryIndexes": [
            {"IndexName": name, "KeySchema": _keys(*keys), "Projection": {"ProjectionType": "KEYS_ONLY"}}
            for name, keys in INDEXES.items()
        ],
    }


def _keys(hashed: str, ordered: str) -> list[dict[str, str]]:
    return [{"AttributeName": hashed, "KeyType": "HASH"}, {"AttributeName": ordered, "KeyType": "RANGE"}]
