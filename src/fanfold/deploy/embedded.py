"""The embedded engine as something that provisioning can ask: SQS's API in process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from fanfold.database import Database
from fanfold.engine.errors import SqsError
from fanfold.engine.service import CallContext, SqsEngine
from fanfold.errors import BrokerError, QueueNotFoundError
from fanfold.urls import SqliteUrl

_CONTEXT: Final = CallContext(base_url="http://localhost")
"""Queue URLs are the engine's own business here: nobody outside sees them."""


class EngineCall:
    """`call(action, payload) -> answer` on an engine, with its refusals as errors of our tree."""

    def __init__(self, engine: SqsEngine) -> None:
        self._engine = engine

    async def call(self, action: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Make one request. Raises BrokerError."""
        try:
            return await self._engine.call(action, payload, _CONTEXT)
        except SqsError as error:
            kind = QueueNotFoundError if error.shape == "QueueDoesNotExist" else BrokerError
            raise kind(f"{action}: {error}") from error


@asynccontextmanager
async def opened(address: SqliteUrl) -> AsyncIterator[EngineCall]:
    """The engine on a file, which is made where it is missing.

    Raises:
        StorageError: the file can't be opened.
    """
    engine = SqsEngine(Database(address.path, synchronous=address.synchronous))
    await engine.open()
    try:
        yield EngineCall(engine)
    finally:
        await engine.close()
