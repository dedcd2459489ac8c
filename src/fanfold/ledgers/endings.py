"""Why a task is cancelled, by what ended its fan-out: the failure that every ledger writes, as JSON text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from fanfold.model import Ended, Failure

_WHY: Final = {
    Ended.COMPLETE: "it was cancelled",
    Ended.ENOUGH: "enough of the fan-out's tasks had succeeded",
    Ended.FAILED: "more of the fan-out's tasks had failed than are tolerated",
    Ended.DEADLINE: "the fan-out's deadline came",
    Ended.CANCELLED: "it was cancelled",
}

CANCELLED_BY: Final[Mapping[Ended, str]] = {
    ended: msgspec.json.encode(Failure(type="Cancelled", message=why)).decode() for ended, why in _WHY.items()
}
