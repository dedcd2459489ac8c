"""What can be wrong with an embedded queue. Its file is read: opening it would make it, or bring it up to date."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from fanfold.deploy import file
from fanfold.deploy.doctor import attempts_against
from fanfold.deploy.file import Contents
from fanfold.deploy.findings import Application, Finding, fine, warning
from fanfold.urls import parse_sqlite

_MADE: Final = "the first enqueue or worker makes it; in another folder it would be another queue"
_UPDATED: Final = "whoever opens the file brings that up to date, and older versions of Fanfold can't use it afterwards"


def provision(url: str, *options: str) -> str:
    """The command that sets an embedded queue up."""
    return " ".join(["fanfold provision --queue-url", shlex.quote(url), *options, "--yes"])


def examine(url: str, parts: Sequence[str], application: Application) -> list[Finding]:
    """What is wrong with an embedded queue in a file that is to have these parts (`file.PARTS`).

    Raises:
        StorageError: the file can't be read, or is a newer Fanfold's.
    """
    address = parse_sqlite(url)
    contents = file.look(address.path)
    if contents is None:
        return [warning("file", f"{url}: there is no such file here", why=_MADE, cure=provision(url))]
    if outdated := contents.outdated(parts):
        cure = f"stop older workers, then {provision(url)}"
        return [
            warning("file", f"{address.path} is not up to date: {change}", why=_UPDATED, cure=cure)
            for change in outdated
        ]
    return _queue(url, address.queue, contents, application)


def _queue(url: str, name: str, contents: Contents, application: Application) -> list[Finding]:
    if name not in contents.queues:
        what = f"{contents.path} has no queue {name}; it has {', '.join(contents.queues) or 'none'}"
        cure = f"{provision(url)}; or ?queue=NAME"
        return [warning("queue", what, why="the first enqueue makes an empty one", cure=cure)]
    receives = attempts_against(name, contents.queues[name], application, lambda *options: provision(url, *options))
    return [fine("queue", f"{contents.path} has {name}, and its tables are up to date"), receives]
