"""The ledger's table on DynamoDB: set up, as infrastructure code, and what each role may do with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from fanfold.deploy.hcl import Block
from fanfold.deploy.provision import Change
from fanfold.ledgers.dynamodb import faults
from fanfold.ledgers.dynamodb.address import parse
from fanfold.ledgers.dynamodb.client import make_client
from fanfold.ledgers.dynamodb.table import EXPIRY, check, create, definition

_EACH: Final = ("BatchWriteItem", "DeleteItem", "DescribeTable", "GetItem", "PutItem", "Query", "UpdateItem")
"""What opening a fan-out takes: a transaction puts and deletes."""
GRANTS: Final[Mapping[str, tuple[str, ...]]] = {
    "producer": _EACH,
    "worker": ("BatchGetItem", *_EACH),
    "operator": ("BatchGetItem", *_EACH),
}
"""What each role may do with the table, without the prefix. A worker sends again what a dead producer left."""


def look(url: str) -> list[Change]:
    """What is missing of the table that a URL names. Blocks; nothing is changed.

    Raises:
        ConfigurationError: the URL can't be read, or no client can be made for it.
        LedgerError: DynamoDB can't be asked, or the table is another application's.
    """
    address = dataclasses.replace(parse(url), create=False)
    client = make_client(address)
    try:
        if not _is_there(client, address.table):
            return [Change(target=f"table {address.table}")]
        check(client, address)
        if _expires(client, address.table):
            return []
        return [Change(target=f"table {address.table}", attribute="TimeToLive", after=EXPIRY)]
    finally:
        client.close()


def apply(url: str) -> None:
    """Make the table, and turn its TTL on. Blocks until it can be used.

    Interrupted anywhere, it is completed by doing it again: these are two requests.

    Raises:
        ConfigurationError, LedgerError: as `look`.
    """
    address = parse(url)
    client = make_client(address)
    try:
        create(client, address)
        if not _expires(client, address.table):
            expiry = {"Enabled": True, "AttributeName": EXPIRY}
            client.update_time_to_live(TableName=address.table, TimeToLiveSpecification=expiry)
    finally:
        client.close()


def resource(name: str) -> dict[str, Any]:
    """The table as a CloudFormation resource. It stays when the stack goes."""
    return {
        "Type": "AWS::DynamoDB::Table",
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            **definition(name),
            "TimeToLiveSpecification": {"AttributeName": EXPIRY, "Enabled": True},
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
        },
    }


def block(name: str) -> Block:
    """The table as a Terraform resource, which it won't destroy."""
    wanted = definition(name)
    inner = [
        Block("attribute", [], {"name": each["AttributeName"], "type": each["AttributeType"]})
        for each in wanted["AttributeDefinitions"]
    ]
    inner += [_index(each) for each in wanted["GlobalSecondaryIndexes"]]
    inner += [
        Block("ttl", [], {"attribute_name": EXPIRY, "enabled": True}),
        Block("point_in_time_recovery", [], {"enabled": True}),
        Block("lifecycle", [], {"prevent_destroy": True}),
    ]
    body = {"name": name, "billing_mode": wanted["BillingMode"], **_keys(wanted)}
    return Block("resource", ["aws_dynamodb_table", "ledger"], body, inner)


def statement(role: str, table_arn: Any, indexes_arn: Any) -> dict[str, Any]:
    """What a role may do with the table and with its indexes, on exact ARNs or what a template puts in their place."""
    return {
        "Sid": "Ledger",
        "Effect": "Allow",
        "Action": [f"dynamodb:{action}" for action in GRANTS[role]],
        "Resource": [table_arn, indexes_arn],
    }


def _index(index: Mapping[str, Any]) -> Block:
    body = {"name": index["IndexName"], **_keys(index), "projection_type": index["Projection"]["ProjectionType"]}
    return Block("global_secondary_index", [], body)


def _keys(of: Mapping[str, Any]) -> dict[str, str]:
    names = {"HASH": "hash_key", "RANGE": "range_key"}
    return {names[key["KeyType"]]: key["AttributeName"] for key in of["KeySchema"]}


def _is_there(client: Any, table: str) -> bool:
    try:
        client.describe_table(TableName=table)
    except Exception as error:
        if faults.code(error).startswith("ResourceNotFound"):
            return False
        raise faults.told(error, "DescribeTable", table) from error
    return True


def _expires(client: Any, table: str) -> bool:
    told = client.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    return str(told["TimeToLiveStatus"]).startswith("ENABL")
