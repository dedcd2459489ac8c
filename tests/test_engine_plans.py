"""Cost doesn't grow with the backlog: every statement of the engine is served by an index."""

from __future__ import annotations

import re
from collections import defaultdict
from importlib.resources import files

import pytest

from engine_model import Fifo
from fanfold import sql

FOLDER = files("fanfold.engine") / "sql"
STATEMENTS = [
    pytest.param(statement, id=f"{file.name}:{name}")
    for file in sorted(FOLDER.iterdir(), key=lambda file: file.name)
    if file.name.endswith(".sql") and file.name != "schema.sql"
    for name, statement in sql.load("fanfold.engine", file.name).items()
]
# A row without a table, a JSON list that the caller gives, a subquery whose own line is judged, and SQLite's table with
# a row for each of our few tables.
BOUNDED = re.compile(r"SCAN (CONSTANT ROW|sqlite_sequence|ready|\(subquery-\d+\)|json_each|\w+ VIRTUAL TABLE)")


@pytest.fixture(scope="module")
def connection():
    fifo = Fifo()
    yield fifo.connection
    fifo.close()


def plan(connection, statement):
    numbers = [int(number) for number in re.findall(r"\?(\d+)", statement)]
    values = defaultdict(int) if re.search(r":\w", statement) else [0] * max(numbers, default=statement.count("?"))
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_it_reads_no_table_from_end_to_end_and_sorts_nothing(connection, statement):
    steps = plan(connection, statement)
    assert [step for step in steps if step.startswith("SCAN") and not BOUNDED.match(step)] == []
    assert [step for step in steps if "TEMP B-TREE" in step] == []


@pytest.mark.parametrize("statement", STATEMENTS)
def test_it_goes_through_a_whole_queue_only_up_to_a_limit(connection, statement):
    whole = [step for step in plan(connection, statement) if re.search(r"\((stock=\?|stock=\? AND head=\?)\)$", step)]
    assert whole == [] or "LIMIT" in statement


@pytest.mark.parametrize("statement", STATEMENTS)
def test_it_says_what_it_does(statement):
    assert statement.startswith("-- ")


def test_there_are_statements_to_look_at():
    assert len(STATEMENTS) > 15


def test_a_scan_would_be_noticed(connection):
    assert plan(connection, "SELECT body FROM messages WHERE body = ? ORDER BY body") == [
        "SCAN messages",
    ]
