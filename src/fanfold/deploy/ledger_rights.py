"""What a role lacks on the ledger's table on DynamoDB, found by requests that have no effect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fanfold.deploy.findings import Denial
from fanfold.deploy.ledger_table import GRANTS
from fanfold.ledgers.dynamodb import faults
from fanfold.ledgers.dynamodb.address import parse
from fanfold.ledgers.dynamodb.client import make_client
from fanfold.ledgers.dynamodb.table import INDEXES

_NOBODY: Final = {"pk": {"S": "fanfold-doctor"}, "sk": {"S": "fanfold-doctor"}}
"""The key of an item that there is never."""
_NEVER: Final = {"ConditionExpression": "attribute_exists(pk)"}
"""What makes a write of that item fail, after DynamoDB has looked at the right to it."""


def lacking(url: str, role: str, *, client: Any = None) -> list[Denial]:
    """The actions that whoever asks may not do, of those that a role needs. Blocks; the table stays as it is.

    Reads of an item that isn't there, conditional writes of it that fail, and a batch that deletes it.

    Raises:
        ConfigurationError: the URL can't be read, or no client can be made for it.
        LedgerError: the table isn't there, or can't be asked for another reason.
    """
    table = parse(url).table
    made = client or make_client(parse(url))
    try:
        return [
            Denial(action=f"dynamodb:{action}", queue=where)
            for action in GRANTS[role]
            for where, payload in _requests(action, table)
            if _denied(made, action, table, payload)
        ]
    finally:
        if client is None:
            made.close()


def _requests(action: str, table: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What to ask an action with, and what the right is to."""
    named = {"TableName": table}
    if action == "DescribeTable":
        yield table, named
    elif action == "Query":
        yield table, named | _queried("pk", _NOBODY["pk"])
        for index, (hashed, _) in INDEXES.items():
            yield f"{table}/index/{index}", named | {"IndexName": index} | _queried(hashed, _NOBODY["pk"])
    elif action == "BatchGetItem":
        yield table, {"RequestItems": {table: {"Keys": [_NOBODY]}}}
    elif action == "BatchWriteItem":
        yield table, {"RequestItems": {table: [{"DeleteRequest": {"Key": _NOBODY}}]}}
    elif action == "PutItem":
        yield table, named | {"Item": _NOBODY} | _NEVER
    elif action == "GetItem":
        yield table, named | {"Key": _NOBODY}
    else:
        yield table, named | {"Key": _NOBODY} | _NEVER


def _queried(key: str, value: Mapping[str, str]) -> dict[str, Any]:
    condition = {"KeyConditionExpression": "#key = :none", "ExpressionAttributeNames": {"#key": key}}
    return condition | {"ExpressionAttributeValues": {":none": value}, "Limit": 1}


def _denied(client: Any, action: str, table: str, payload: Mapping[str, Any]) -> bool:
    name = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in action).lstrip("_")
    try:
        getattr(client, name)(**payload)
    except Exception as error:
        code = faults.code(error)
        if code.startswith("AccessDenied"):
            return True
        if not code.startswith(faults.CONDITION):
            raise faults.told(error, action, table) from error
    return False
