"""Every error that Fanfold raises, in one tree.

A text names the value, the rule it broke and the cure. `transient` tells callers that retry whether the same
call may succeed later without anybody changing anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class FanfoldError(Exception):
    """Root of the tree: `except FanfoldError` catches whatever this package raises on purpose."""

    transient: ClassVar[bool] = False


class ConfigurationError(FanfoldError, ValueError):
    """A URL, an option or an environment variable that can't work."""


class DeclarationError(FanfoldError, TypeError):
    """A task was declared in a way that could only fail later: unknown parameter, option or name."""


class MissingExtraError(FanfoldError, ImportError):
    """A feature's optional dependency isn't installed; the text is the command that installs it."""


class InvalidInputError(FanfoldError, ValueError):
    """A value handed to `enqueue` breaks a rule of SQS or of Fanfold."""


class UnknownTaskError(InvalidInputError):
    """A task name that this application doesn't declare."""


class MalformedMessageError(FanfoldError):
    """A message body that isn't a task: not JSON, or a required key is missing or of the wrong type."""


class FanOutIncompleteError(FanfoldError):
    """Some tasks of a fan-out were not accepted by the queue, after retries.

    Running the same event again sends what is missing: deterministic ids make that safe.
    """

    def __init__(self, fan_out_id: str, unsent: Sequence[str], reason: str) -> None:
        self.fan_out_id = fan_out_id
        self.unsent = tuple(unsent)
        self.reason = reason
        shown = ", ".join(self.unsent[:10]) + (", …" if len(self.unsent) > 10 else "")  # noqa: PLR2004
        super().__init__(
            f"{len(self.unsent)} task(s) of fan-out {fan_out_id} were not accepted by the queue ({reason}): {shown}. "
            "Enqueue the same event again: what was accepted is not sent twice."
        )

    def __reduce__(self) -> tuple[type[FanOutIncompleteError], tuple[str, tuple[str, ...], str]]:
        """Pickle by its three parts: the default would call `__init__` with the text alone."""
        return type(self), (self.fan_out_id, self.unsent, self.reason)


class BrokerError(FanfoldError):
    """The queue refused a request or can't be reached."""


class BrokerUnavailableError(BrokerError):
    """The queue can't be reached, throttles, or answers 5xx; trying again may help."""

    transient = True


class QueueNotFoundError(BrokerError):
    """The queue doesn't exist."""


class NoDeadLetterQueueError(QueueNotFoundError):
    """The queue has no dead letter queue, or nobody here may learn which."""


class NotFifoError(BrokerError, ConfigurationError):
    """The queue is a standard queue; Fanfold's promises need FIFO."""


class CredentialsError(BrokerError):
    """No AWS credentials were found, or they were refused."""


class PermissionMissingError(BrokerError):
    """The credentials lack a permission; `action` names it as IAM does (`sqs:DeleteMessage`)."""

    def __init__(self, action: str, text: str) -> None:
        self.action = action
        super().__init__(text)

    def __reduce__(self) -> tuple[type[PermissionMissingError], tuple[str, str]]:
        """Pickle by both parts, as above."""
        return type(self), (self.action, str(self))


class LedgerError(FanfoldError):
    """The ledger refused a write or can't be reached."""


class LedgerUnavailableError(LedgerError):
    """The ledger can't be reached, is starting, or is overloaded; trying again may help."""

    transient = True


class FanOutSealedError(LedgerError):
    """An event was enqueued again with another set of task names than its fan-out was sealed with."""


class UnknownFanOutError(LedgerError, LookupError):
    """A fan-out that the ledger doesn't know, or knows no longer."""


class NoLedgerError(LedgerError, ConfigurationError):
    """Something that only a ledger can answer was asked without one."""


class KafkaError(FanfoldError):
    """Kafka refused a request, or can't be reached."""


class KafkaUnavailableError(KafkaError):
    """Kafka can't be reached, or didn't acknowledge in time; trying again may help."""

    transient = True


class PoisonEventError(KafkaError):
    """An event that can never be enqueued, where the source was told to stop at one. Its offset isn't committed."""


class StorageError(BrokerError, LedgerError):
    """The SQLite file behind the embedded queue and ledger failed."""


class StorageBusyError(StorageError):
    """Another process held the file's write lock for too long."""

    transient = True


class StorageFullError(StorageError):
    """The disk is full; nothing of the failed transaction was kept."""

    transient = True


class StorageReadOnlyError(StorageError):
    """The file or its folder can't be written."""


class StorageCorruptError(StorageError):
    """The file isn't a SQLite database, is damaged, or was written by a newer Fanfold."""
