"""What is enqueued one after the other."""

from __future__ import annotations

from enum import StrEnum


class Order(StrEnum):
    """`NONE`: all at once. `KEY`: the records of one key in their order. `PARTITION`: those of one partition."""

    NONE = "none"
    KEY = "key"
    PARTITION = "partition"
