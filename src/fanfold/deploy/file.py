"""What an SQLite file holds: which queues, and tables of which version. It is read, and neither made nor changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fanfold import sql
from fanfold.database import as_it_is
from fanfold.deploy.provision import Change
from fanfold.errors import ConfigurationError, StorageCorruptError
from fanfold.urls import SqliteUrl

ENGINE: Final = "engine"
LEDGER: Final = "ledger"
PARTS: Final[Mapping[str, str]] = {ENGINE: "the queue's tables", LEDGER: "the ledger's tables"}
"""The parts that a file may have, by the names that they have in it."""

_SQL: Final = sql.load("fanfold.deploy", "file.sql")
_WANTED: Final = {
    ENGINE: len(sql.load("fanfold.engine", "schema.sql")),
    LEDGER: len(sql.load("fanfold.ledgers", "schema.sql")),
}


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a file: versions by part, and queues with their maxReceiveCount (None: no redrive policy)."""

    path: Path
    versions: Mapping[str, int] = field(default_factory=dict)
    queues: Mapping[str, int | None] = field(default_factory=dict)

    def outdated(self, parts: Sequence[str]) -> list[Change]:
        """What opening it would do to these parts: make their tables, or bring them up to date.

        Raises:
            StorageCorruptError: they are a newer Fanfold's.
        """
        found = []
        for part in parts:
            there, wanted, target = self.versions.get(part, 0), _WANTED[part], f"{PARTS[part]} in {self.path}"
            if there > wanted:
                raise StorageCorruptError(
                    f"{self.path}: {PARTS[part]} have version {there}, this Fanfold knows {wanted}; upgrade Fanfold"
                )
            if there == 0:
                found.append(Change(target=target))
            elif there < wanted:
                found.append(Change(target=target, attribute="version", before=str(there), after=str(wanted)))
        return found


def look(path: Path) -> Contents | None:
    """What a file holds; None where there is none.

    Raises:
        StorageError: it can't be read, or isn't an SQLite file.
    """
    if not path.exists():
        return None
    return as_it_is(path, lambda connection: _read(path, connection))


def _read(path: Path, connection: Any) -> Contents:
    tables = {name for (name,) in connection.execute(_SQL["tables"])}
    versions = dict(connection.execute(_SQL["versions"])) if "fanfold_schema" in tables else {}
    queues = dict(connection.execute(_SQL["queues"])) if ENGINE in versions else {}
    return Contents(path, versions, queues)


def require_queue(url: str, address: SqliteUrl) -> None:
    """Refuse an embedded queue that nobody has made: opening it would make it, and show an empty one.

    Raises:
        ConfigurationError: there is no such file, or no such queue in it.
        StorageError: the file can't be read.
    """
    contents = look(address.path)
    if contents is None:
        raise ConfigurationError(
            f"{url}: there is no such file here; the first enqueue or worker makes it. Is this the right folder, or "
            "is --app, --queue-url or FANFOLD_QUEUE_URL missing?"
        )
    if address.queue not in contents.queues:
        others = [name for name in contents.queues if not name.endswith("-dlq.fifo")]
        raise ConfigurationError(
            f"{url}: there is no queue {address.queue} in this file; "
            + (f"there is {', '.join(others)}: add ?queue={others[0]}" if others else "the first enqueue makes it")
        )
