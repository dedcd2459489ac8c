"""Requests to the table: each blocks a thread of its own, and fails with an error of ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fanfold.brokers.threads import Threads
from fanfold.errors import LedgerUnavailableError
from fanfold.ledgers.dynamodb import faults
from fanfold.ledgers.dynamodb.client import CONNECTIONS
from fanfold.ledgers.dynamodb.wire import Item, from_wire, to_wire

T = TypeVar("T")
Key = tuple[str, str]
"""Partition key and sort key of an item."""

_PUTS: Final = 25
_GETS: Final = 100
_ROUNDS: Final = 8
"""Rounds for what DynamoDB leaves unprocessed, each twice as long after the one before: a throttled minute."""
_FIRST_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Written:
    """Whether a conditional write was applied, and the item as it stands then; None: there is none."""

    applied: bool
    item: Item | None


class Store:
    """One table behind a client. Reads are strongly consistent, but for those of the indexes, which can't be."""

    def __init__(self, client: Any, table: str, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """The client stays its owner's: `close` doesn't close it."""
        self.table = table
        self._client = client
        self._threads = Threads("dynamodb", CONNECTIONS)
        self._pause = pause

    def close(self) -> None:
        """Return when the requests under way have ended. Idempotent."""
        self._threads.close(wait=True)

    async def get(self, key: Key) -> Item | None:
        """One item."""
        answer = await self._call("GetItem", TableName=self.table, Key=_wire_key(key), ConsistentRead=True)
        return from_wire(answer["Item"]) if "Item" in answer else None

    async def get_many(self, keys: Sequence[Key]) -> list[Item]:
        """Items, in any order, without those that aren't there. No key may come twice."""
        pieces = [keys[at : at + _GETS] for at in range(0, len(keys), _GETS)]
        return [item for found in await together(map(self._get_piece, pieces)) for item in found]

    async def update(self, key: Key, change: str, values: Item, *, when: str) -> Written:
        """Change one item if it is as `when` says."""
        try:
            answer = await self._call(
                "UpdateItem",
                TableName=self.table,
                Key=_wire_key(key),
                UpdateExpression=change,
                ConditionExpression=when,
                ExpressionAttributeValues={f":{name}": value for name, value in to_wire(values).items()},
                ReturnValues="ALL_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except _RefusedError as refused:
            return Written(applied=False, item=from_wire(refused.item) or None)
        return Written(applied=True, item=from_wire(answer["Attributes"]))

    async def write_many(self, *, puts: Sequence[Item] = (), deletes: Sequence[Key] = ()) -> None:
        """Put and delete items whatever is there, each apart from the others."""
        requests = [{"PutRequest": {"Item": to_wire(item)}} for item in puts]
        requests += [{"DeleteRequest": {"Key": _wire_key(key)}} for key in deletes]
        await together(self._write_piece(requests[at : at + _PUTS]) for at in range(0, len(requests), _PUTS))

    async def swap(self, *, put: Item, when_put: str, delete: Key, when_deleted: str, values: Item) -> list[bool]:
        """Put an item and delete another, both or none; answers for each whether its condition held.

        boto3 gives each call a token of its own, so that a request whose answer was lost isn't done twice.
        """
        put_item = {"TableName": self.table, "Item": to_wire(put), "ConditionExpression": when_put}
        named = {f":{name}": value for name, value in to_wire(values).items()}
        delete_item = {"TableName": self.table, "Key": _wire_key(delete), "ConditionExpression": when_deleted}
        if named:
            delete_item["ExpressionAttributeValues"] = named
        try:
            await self._call("TransactWriteItems", TransactItems=[{"Put": put_item}, {"Delete": delete_item}])
        except _CancelledError as cancelled:
            return [why != faults.CONDITION for why in cancelled.reasons]
        return [True, True]

    async def query(self, condition: str, values: Item, **options: Any) -> list[Item]:
        """The items of one partition, of the table or of an index, page after page; `Limit` is for all of them."""
        found: list[Item] = []
        limit = options.pop("Limit", None)
        page: dict[str, Any] = {}
        while True:
            size = {"Limit": limit - len(found)} if limit is not None else {}
            answer = await self._call(
                "Query",
                TableName=self.table,
                KeyConditionExpression=condition,
                ExpressionAttributeValues={f":{name}": value for name, value in to_wire(values).items()},
                **options, **size, **page,
            )  # fmt: skip
            found += map(from_wire, answer["Items"])
            if "LastEvaluatedKey" not in answer or (limit is not None and len(found) >= limit):
                return found
            page = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    async def _get_piece(self, keys: Sequence[Key]) -> list[Item]:
        wanted: Mapping[str, Any] = {self.table: {"Keys": [*map(_wire_key, keys)], "ConsistentRead": True}}
        found: list[Item] = []
        for pause in _pauses():
            answer = await self._call("BatchGetItem", RequestItems=wanted)
            found += map(from_wire, answer["Responses"].get(self.table, []))
            wanted = answer.get("UnprocessedKeys") or {}
            if not wanted:
                return found
            await self._pause(pause)
        raise self._throttled("BatchGetItem")

    async def _write_piece(self, requests: Sequence[Mapping[str, Any]]) -> None:
        wanted: Mapping[str, Any] = {self.table: requests}
        for pause in _pauses():
            answer = await self._call("BatchWriteItem", RequestItems=wanted)
            wanted = answer.get("UnprocessedItems") or {}
            if not wanted:
                return
            await self._pause(pause)
        raise self._throttled("BatchWriteItem")

    def _throttled(self, action: str) -> LedgerUnavailableError:
        return LedgerUnavailableError(
            f"ledger dynamodb://{self.table}: {action}: DynamoDB throttles, and left items undone. It is tried again"
        )

    async def _call(self, action: str, **payload: Any) -> dict[str, Any]:
        method = getattr(self._client, re.sub(r"(?<!^)(?=[A-Z])", "_", action).lower())
        try:
            answer: dict[str, Any] = await asyncio.wrap_future(self._threads.submit(lambda: method(**payload)))
        except Exception as error:
            raise self._error(error, action) from error
        return answer

    def _error(self, error: Exception, action: str) -> Exception:
        if faults.code(error).startswith(faults.CONDITION):
            return _RefusedError(getattr(error, "response", {}).get("Item", {}))
        told = faults.told(error, action, self.table)
        if not told.transient and faults.CONDITION in faults.reasons(error):
            return _CancelledError(faults.reasons(error))
        return told


class _RefusedError(Exception):
    def __init__(self, item: Mapping[str, Mapping[str, Any]]) -> None:
        self.item = item


class _CancelledError(Exception):
    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = reasons


async def together(calls: Any) -> list[Any]:
    """What several awaitables answer, in their order. All have ended when it returns, or raises what the first did.

    A write that goes on after its caller was told of another's failure would meet the caller's next try.
    """
    answers = await asyncio.gather(*calls, return_exceptions=True)
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    if failed:
        raise failed[0]
    return answers


def _pauses() -> list[float]:
    return [_FIRST_PAUSE * 2**number for number in range(_ROUNDS)]


def _wire_key(key: Key) -> dict[str, dict[str, str]]:
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}
