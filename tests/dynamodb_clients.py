"""Clients of DynamoDB that watch, count, or break what goes through them; the real one is behind each."""

from __future__ import annotations

import math

from botocore.exceptions import ClientError, ConnectTimeoutError

from fanfold.ledgers.dynamodb.table import INDEXES

DATA = {"update_item", "get_item", "query", "batch_get_item", "batch_write_item", "transact_write_items", "scan"}


def refusal(code, action="UpdateItem", status=400, **more):
    """An error answer of DynamoDB's."""
    meta = {"HTTPStatusCode": status}
    return ClientError({"Error": {"Code": code, "Message": f"{code}: no"}, "ResponseMetadata": meta} | more, action)


class Wrapped:
    """A client whose data requests go through `around(name, payload, call)`."""

    def __init__(self, client):
        self.real = client

    def __getattr__(self, name):
        method = getattr(self.real, name)
        if name not in DATA:
            return method
        return lambda **payload: self.around(name, payload, lambda: method(**payload))

    def around(self, _name, _payload, call):
        return call()


class Failing(Wrapped):
    """Fails its requests number `first`, `first` + `EVERY` and so on, before they have an effect or after it."""

    EVERY = 19

    def __init__(self, client, first, *, after):
        super().__init__(client)
        self.first, self.after, self.made, self.failed = first, after, 0, 0

    def around(self, _name, _payload, call):
        fails, self.made = self.made % self.EVERY == self.first, self.made + 1
        if not fails:
            return call()
        self.failed += 1
        if self.after:
            call()
        raise ConnectTimeoutError(endpoint_url="http://ledger")


class Away(Wrapped):
    """Answers with an error while there is one."""

    error = None

    def around(self, name, payload, call):
        if self.error is not None:
            raise self.error
        return super().around(name, payload, call)


class Recording(Wrapped):
    """Remembers the names of its requests."""

    def __init__(self, client):
        super().__init__(client)
        self.names = []

    def around(self, name, payload, call):
        self.names.append(name)
        return super().around(name, payload, call)


class Metered(Wrapped):
    """Counts write units as Amazon does: a unit for each KB of an item, the larger of before and after, doubled in a
    transaction, and for each index what a change of its keys costs there. (Moto's own ConsumedCapacity is always 1.)"""

    def __init__(self, client, table):
        super().__init__(client)
        self.table, self.units, self.by_kind = table, 0, {}

    def around(self, name, payload, call):
        keys, doubled = self.written(name, payload)
        before = [self.stored(key) for key in keys]
        try:
            answer = super().around(name, payload, call)
        finally:
            for key, old in zip(keys, before, strict=True):
                self.add(key, old, self.stored(key), 2 if doubled else 1)
        return answer

    def written(self, name, payload):
        if name == "update_item":
            return [payload["Key"]], False
        if name == "batch_write_item":
            requests = payload["RequestItems"][self.table]
            return [
                key_of(r["PutRequest"]["Item"]) if "PutRequest" in r else r["DeleteRequest"]["Key"] for r in requests
            ], False
        if name == "transact_write_items":
            entries = payload["TransactItems"]
            return [key_of(e["Put"]["Item"]) if "Put" in e else e["Delete"]["Key"] for e in entries], True
        return [], False

    def stored(self, key):
        return self.real.get_item(TableName=self.table, Key=key, ConsistentRead=True).get("Item", {})

    def add(self, key, old, new, factor):
        units = factor * max(1, math.ceil(max(size(old), size(new)) / 1024))
        for keys in INDEXES.values():
            was, now = ([item[k] for k in keys] if keys[0] in item and keys[1] in item else None for item in (old, new))
            # An entry that moves is deleted and written again.
            units += 0 if was == now else (was is not None) + (now is not None)
        kind = key["sk"]["S"].partition("/")[0]
        self.units += units
        self.by_kind[kind] = self.by_kind.get(kind, 0) + units


def key_of(item):
    return {"pk": item["pk"], "sk": item["sk"]}


def size(item):
    """Bytes of an item as Amazon counts them, about."""
    return sum(len(name) + weight(*value.popitem()) for name, value in ((n, dict(v)) for n, v in item.items()))


def weight(kind, value):
    if kind == "S":
        return len(value.encode())
    if kind == "N":
        return len(value) // 2 + 2
    return sum(len(each.encode()) + 1 for each in value) + 3 if kind == "SS" else 1
