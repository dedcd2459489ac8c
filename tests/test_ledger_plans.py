"""Cost doesn't grow with the ledger: every statement is served by an index."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from contextlib import closing

import pytest

from fanfold import sql

STATEMENTS = sql.load("fanfold.ledgers", "ledger.sql")
# Listings that begin at one end of an index, filter nothing, and stop at their limit.
BOUNDED = {"newest": ["SCAN fan_outs"], "open_newest": ["SCAN fan_outs USING INDEX fan_outs_open"]}


@pytest.fixture(scope="module")
def connection():
    with closing(sqlite3.connect(":memory:")) as made:
        for script in sql.load("fanfold.ledgers", "schema.sql").values():
            made.executescript(script)
        yield made


def plan(connection, statement):
    values = defaultdict(int) if re.search(r":\w", statement) else [0] * parameters(statement)
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


def parameters(statement):
    numbers = {int(number) for number in re.findall(r"\?(\d+)", statement)}
    return max(numbers) if numbers else statement.count("?")


def scans(steps):
    asked = ("SCAN CONSTANT ROW", "SCAN json_each VIRTUAL TABLE INDEX 1:")  # what the statement itself brings along
    return [step for step in steps if step.startswith("SCAN") and step not in asked]


@pytest.mark.parametrize("name", STATEMENTS)
def test_it_reads_no_table_from_end_to_end_and_sorts_nothing(connection, name):
    steps = plan(connection, STATEMENTS[name])
    assert scans(steps) == BOUNDED.get(name, [])
    assert [step for step in steps if "TEMP B-TREE" in step] == []


@pytest.mark.parametrize(
    "name", ["claim", "finish", "finish_alike", "finished_so", "cancel_task", "rerun_task", "stopped"]
)
def test_what_is_about_named_tasks_reads_none_of_the_fan_outs_others(connection, name):
    [step, *_] = [step for step in plan(connection, STATEMENTS[name]) if " tasks " in step]
    assert step.endswith("(fan_out=? AND task_name=?)")


@pytest.mark.parametrize("name", BOUNDED)
def test_a_listing_stops_at_its_limit(name):
    assert STATEMENTS[name].endswith("LIMIT ?;")


def test_there_are_statements_to_look_at():
    assert len(STATEMENTS) > 20


def test_a_scan_and_a_sort_would_be_noticed(connection):
    steps = plan(connection, "SELECT * FROM tasks WHERE worker = ? ORDER BY worker")
    assert scans(steps) == ["SCAN tasks"]
    assert "USE TEMP B-TREE FOR ORDER BY" in plan(connection, "SELECT * FROM fan_outs ORDER BY metadata LIMIT ?")
