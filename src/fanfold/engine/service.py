"""The embedded SQS: every action of the API, in process."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from fanfold import ids, limits
from fanfold.clock import Clock, SystemClock
from fanfold.database import Database
from fanfold.engine import (
    actions_attributes,
    actions_moves,
    actions_queues,
    actions_receive,
    actions_send,
    actions_settle,
    deferred,
    errors,
    queues,
)
from fanfold.engine.commits import Commits
from fanfold.engine.desk import Answer, CallContext, Desk, Request, queue_name
from fanfold.engine.doorbell import Doorbell
from fanfold.engine.errors import SqsError
from fanfold.engine.mover import Mover
from fanfold.engine.polling import LongPolls
from fanfold.errors import StorageError

__all__ = ["CallContext", "SqsEngine", "SqsError"]

_ACTIONS: Final[Mapping[str, Callable[[Desk, Request, CallContext], Awaitable[Answer]]]] = {
    "AddPermission": actions_attributes.add_permission,
    "CancelMessageMoveTask": actions_moves.cancel_message_move_task,
    "ChangeMessageVisibility": actions_settle.change_message_visibility,
    "ChangeMessageVisibilityBatch": actions_settle.change_message_visibility_batch,
    "CreateQueue": actions_queues.create_queue,
    "DeleteMessage": actions_settle.delete_message,
    "DeleteMessageBatch": actions_settle.delete_message_batch,
    "DeleteQueue": actions_queues.delete_queue,
    "GetQueueAttributes": actions_attributes.get_queue_attributes,
    "GetQueueUrl": actions_queues.get_queue_url,
    "ListDeadLetterSourceQueues": actions_queues.list_dead_letter_source_queues,
    "ListMessageMoveTasks": actions_moves.list_message_move_tasks,
    "ListQueueTags": actions_attributes.list_queue_tags,
    "ListQueues": actions_queues.list_queues,
    "PurgeQueue": actions_queues.purge_queue,
    "ReceiveMessage": actions_receive.receive_message,
    "RemovePermission": actions_attributes.remove_permission,
    "SendMessage": actions_send.send_message,
    "SendMessageBatch": actions_send.send_message_batch,
    "SetQueueAttributes": actions_attributes.set_queue_attributes,
    "StartMessageMoveTask": actions_moves.start_message_move_task,
    "TagQueue": actions_attributes.tag_queue,
    "UntagQueue": actions_attributes.untag_queue,
}


class SqsEngine:
    """Queues in a SQLite file, with the whole API of SQS.

    A call is one action as the JSON protocol carries it: names as in the service model, binaries as bytes. Its answer
    is told after its commit: what it says is done survives a crash. Many processes may share the file, and any event
    loop may call. Message move tasks run while an engine is open, whoever started them.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock | None = None,
        new_id: Callable[[], str] | None = None,
        new_receipt: Callable[[], str] = lambda: secrets.token_hex(8),
        account: str = limits.ACCOUNT,
        region: str = "us-east-1",
        recreate_delay: bool = True,
    ) -> None:
        """Nothing is opened before `open`.

        Args:
            database: the file; it may be shared with others.
            clock: where times come from.
            new_id: where MessageIds come from, and those of move tasks; they may be guessed from one another.
            new_receipt: where the unguessable part of receipt handles comes from.
            account: the account in ARNs and URLs.
            region: the region in ARNs.
            recreate_delay: whether a deleted queue's name can't be taken again for 60 seconds.
        """
        self._database = database
        doorbell, timer, new_id = Doorbell(database), clock or SystemClock(), new_id or ids.numbered_uuids()
        self._mover = Mover(database, timer, doorbell, new_id)
        self._desk = Desk(
            database=database,
            commits=Commits(database, deferred.carry_out),
            clock=timer,
            doorbell=doorbell,
            polls=LongPolls(doorbell, timer),
            new_id=new_id,
            new_receipt=new_receipt,
            account=account,
            region=region,
            recreate_delay=recreate_delay,
            wake_mover=self._mover.wake,
        )
        self._open = False

    async def open(self) -> None:
        """Open the file and bring its tables up to date. Idempotent.

        Raises:
            StorageError: the file can't be opened; a subclass says why.
        """
        if not self._open:
            await asyncio.to_thread(self._prepare)
            self._mover.start()
            self._open = True

    async def close(self) -> None:
        """Answer waiting receives with nothing, and let go of the file. Idempotent."""
        if self._open:
            self._open = False
            self.end_polls()
            await self._mover.stop()
            with suppress(StorageError):  # a full disk, say: whoever opens the file next does it
                await asyncio.wrap_future(self._database.write(deferred.carry_out))
            await asyncio.to_thread(self._desk.doorbell.close)
            await asyncio.to_thread(self._database.close)

    def end_polls(self) -> None:
        """Answer waiting receives now, with nothing."""
        self._desk.polls.end()

    async def call(self, action: str, request: Mapping[str, Any], context: CallContext) -> dict[str, Any]:
        """One action of the API.

        Types in `request` must be those of the service model; everything else is checked here.

        Raises:
            SqsError: the action is refused.
            StorageError: the file failed.
        """
        act = _ACTIONS.get(action)
        if act is None:
            raise errors.invalid_action(action)
        return await act(self._desk, request, context)

    def give_back(self, queue_url: str, handles: Sequence[str]) -> None:
        """Undo the receive of messages that nobody has seen: they are available again, and were received once less."""
        actions_receive.give_back(self._desk, queue_name({"QueueUrl": queue_url}), handles)

    def _prepare(self) -> None:
        with self._database.opening():
            self._database.migrate("engine", queues.SCHEMA)
