"""Looks at SQLite files of any version, which leave them as they are."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from fanfold import sql
from fanfold.cli import main
from fanfold.database import Database
from fanfold.deploy import file
from fanfold.errors import StorageCorruptError, StorageError

ENGINE = list(sql.load("fanfold.engine", "schema.sql").values())
LEDGER = list(sql.load("fanfold.ledgers", "schema.sql").values())


def made(path, *, engine=ENGINE, ledger=LEDGER):
    """A file as some version of Fanfold left it."""
    database = Database(path)
    with database.opening():
        for part, scripts in (("engine", engine), ("ledger", ledger)):
            if scripts:
                database.migrate(part, scripts)
    database.close()
    return path


def versions(path):
    return dict(file.look(path).versions)


def fanfold(*arguments):
    return CliRunner().invoke(main, arguments)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tasks.db"


def test_a_file_of_this_version_has_nothing_to_bring_up_to_date(path):
    contents = file.look(made(path))
    assert contents.outdated([file.ENGINE, file.LEDGER]) == []
    assert contents.versions == {"engine": len(ENGINE), "ledger": len(LEDGER)}


def test_what_an_older_version_left_is_told_part_by_part_and_left(path):
    made(path, engine=ENGINE[:-1], ledger=LEDGER[:1])
    told = [str(change) for change in file.look(path).outdated([file.ENGINE, file.LEDGER])]
    assert told == [
        f"set version of the queue's tables in {path}: {len(ENGINE) - 1} -> {len(ENGINE)}",
        f"set version of the ledger's tables in {path}: 1 -> {len(LEDGER)}",
    ]
    assert versions(path) == {"engine": len(ENGINE) - 1, "ledger": 1}


def test_tables_that_are_not_there_yet_are_to_be_made(path):
    contents = file.look(made(path, ledger=[]))
    assert [str(change) for change in contents.outdated([file.LEDGER])] == [f"create the ledger's tables in {path}"]


def test_what_a_newer_version_left_is_refused(path):
    contents = file.look(made(path, ledger=[*LEDGER, "SELECT 1"]))
    with pytest.raises(StorageCorruptError, match="upgrade Fanfold"):
        contents.outdated([file.LEDGER])


def test_there_is_nothing_to_say_of_no_file_and_something_else_is_refused(path):
    assert file.look(path) is None
    path.write_text("a letter to a friend, of a length that no header of a database has, and then some more")
    with pytest.raises(StorageError, match="SQLite"):
        file.look(path)


@pytest.mark.parametrize("parts", [{"ledger": LEDGER[:-1]}, {"engine": ENGINE[:-1]}])
def test_the_doctor_looks_at_an_older_file_and_does_not_bring_it_up_to_date(path, parts):
    before = versions(made(path, **parts))
    ran = fanfold("doctor", "--queue-url", f"sqlite:///{path}")
    assert (ran.exit_code, "is not up to date: set version of the" in ran.stdout) == (3, True)
    assert f"then fanfold provision --queue-url sqlite:///{path} --yes" in ran.stdout
    assert versions(path) == before


def test_the_doctor_leaves_an_older_ledger_in_a_file_of_its_own_as_it_is(tmp_path, path):
    ledger = made(tmp_path / "ledger.db", engine=[], ledger=LEDGER[:-1])
    assert fanfold("provision", "--queue-url", f"sqlite:///{path}", "--yes").exit_code == 0
    ran = fanfold("doctor", "--queue-url", f"sqlite:///{path}", "--ledger", f"sqlite:///{ledger}")
    assert (ran.exit_code, "set version of the ledger's tables" in ran.stdout) == (3, True)
    assert versions(ledger) == {"ledger": len(LEDGER) - 1}


@pytest.mark.parametrize(("parts", "target"), [({"ledger": LEDGER[:-1]}, "ledger"), ({"engine": ENGINE[:-1]}, "queue")])
def test_an_older_file_is_shown_first_and_brought_up_to_date_with_yes_only(path, parts, target):
    before = versions(made(path, **parts))
    shown = fanfold("provision", "--queue-url", f"sqlite:///{path}")
    assert (shown.exit_code, f"set version of the {target}'s tables in {path}" in shown.stdout) == (3, True)
    assert "create tasks.fifo" in shown.stdout
    assert versions(path) == before
    assert fanfold("provision", "--queue-url", f"sqlite:///{path}", "--yes").exit_code == 0
    assert versions(path) == {"engine": len(ENGINE), "ledger": len(LEDGER)}
    assert fanfold("provision", "--queue-url", f"sqlite:///{path}").stdout == "Nothing to change.\n"


@pytest.mark.parametrize("command", [["dlq", "list"], ["dlq", "redrive", "--all", "--yes"], ["status"]])
def test_a_queue_that_is_not_in_the_file_is_not_made_by_looking_for_it(path, command):
    fanfold("provision", "--queue-url", f"sqlite:///{path}?queue=orders.fifo", "--yes")
    refused = fanfold(*command, "--queue-url", f"sqlite:///{path}")
    assert (refused.exit_code, "there is orders.fifo: add ?queue=orders.fifo" in refused.stderr) == (1, True)
    assert set(file.look(path).queues) == {"orders.fifo", "orders-dlq.fifo"}
    found = fanfold("dlq", "list", "--queue-url", f"sqlite:///{path}?queue=orders.fifo", "--json")
    assert json.loads(found.stdout) == []
