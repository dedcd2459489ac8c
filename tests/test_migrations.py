"""Files and schemas of every older version, with rows in them, are brought up to date when opened, and go on."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from contextlib import closing

import psycopg
import pytest

from fanfold import sql
from fanfold.brokers.sqlite import SqliteBroker
from fanfold.errors import LedgerError, StorageCorruptError
from fanfold.ledgers.postgres import PostgresLedger
from fanfold.ledgers.protocol import Finish
from fanfold.ledgers.sqlite import SqliteLedger
from fanfold.model import FOLD_NAME, Ended, Message, QueueStatus, TaskState
from ledgering import claim, finish, ids, plan, record, run

ENGINE = list(sql.load("fanfold.engine", "schema.sql").values())
LEDGER = list(sql.load("fanfold.ledgers", "schema.sql").values())
POSTGRES = list(sql.load("fanfold.ledgers", "postgres_schema.sql").values())
HELD_FOR = 60
KEPT = 1_209_600.0


def made(path, part, scripts, rows):
    """A file as the version of the last script left it, with rows in it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE IF NOT EXISTS fanfold_schema (part TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;"
        )
        connection.executescript("\n".join(scripts))
        connection.execute("INSERT INTO fanfold_schema VALUES (?, ?)", (part, len(scripts)))
        for statement, values in rows:
            connection.execute(statement, values)
        connection.commit()


# The engine


def engine_rows(version, now):
    """A queue with a message that waits, one that is held for a minute, and what is remembered of a third."""
    yield from queue_rows(version, now)
    for seq, body in enumerate(("waits", "held"), 1):
        held = body == "held"
        row = {
            "seq": seq, "queue": 1, "message_id": body, "group_id": body, "deduplication_id": body, "body": body,
            "attributes": "{}", "sent_at": now, "visible_at": now + held * HELD_FOR * 1000, "head": 1,
            "receive_count": int(held), "receipt": "x" if held else None, "received_at": now if held else None,
        }  # fmt: skip
        if version >= 2:
            row["state"] = int(held)
        if version >= 3:
            row["stock"] = row.pop("queue")
        yield inserted("messages", row)
    seen = {"seq": 3, "deduplication_id": "gone", "message_id": "gone", "expires_at": now + 300_000}
    yield inserted("deduplications", seen | {"stock" if version >= 3 else "queue": 1})
    yield "UPDATE sqlite_sequence SET seq = 3 WHERE name = 'messages'", ()
    if version >= 3:
        yield "UPDATE stocks SET message_count = 2, held_count = 1", ()


def queue_rows(version, now):
    queue = {"id": 1, "name": "tasks.fifo", "created_at": now}
    if version >= 3:
        yield inserted("stocks", {"id": 1})
        queue |= {
            "stock_id" if version >= 5 else "stock": 1,
            "attributes": '{"MessageRetentionPeriod":"0"}',
            "modified_at": now,
        }
    yield inserted("queues", queue)


def inserted(table, row):
    names = ", ".join(row)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in row)})", row  # noqa: S608


def message(body):
    return Message(body=body, group_id=body, deduplication_id=body, attributes={})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tasks.db"


@pytest.mark.parametrize("version", range(1, len(ENGINE) + 1))
async def test_a_queue_of_any_version_goes_on(path, clock, version):
    made(path, "engine", ENGINE[:version], engine_rows(version, int(clock.now() * 1000)))
    broker = SqliteBroker(f"sqlite:///{path}", clock=clock)
    await broker.open()
    assert await broker.status() == QueueStatus(messages_available=1, messages_in_flight=1, messages_delayed=0)
    [waiting] = await broker.receive(10, wait=0, lease=30)
    assert (waiting.body, waiting.receive_count) == ("waits", 1)
    assert await broker.delete([waiting]) == [None]
    results = await broker.send([message("gone"), message("new")])
    assert [result.duplicate for result in results] == [True, False]
    clock.advance(HELD_FOR)
    received = await broker.receive(10, wait=0, lease=30)
    assert {each.body: each.receive_count for each in received} == {"held": 2, "new": 1}
    assert await broker.delete(received) == [None, None]
    assert await broker.status() == QueueStatus(messages_available=0, messages_in_flight=0, messages_delayed=0)
    await broker.close()


@pytest.mark.parametrize("version", range(1, len(ENGINE)))
async def test_several_that_open_an_older_queue_at_once_bring_it_up_to_date_once(path, clock, version):
    made(path, "engine", ENGINE[:version], engine_rows(version, int(clock.now() * 1000)))
    brokers = [SqliteBroker(f"sqlite:///{path}", clock=clock) for _ in range(4)]
    await asyncio.gather(*(broker.open() for broker in brokers))
    received = [await broker.receive(1, wait=0, lease=30) for broker in brokers]
    assert [delivery.body for delivery in itertools.chain(*received)] == ["waits"]
    await asyncio.gather(*(broker.close() for broker in brokers))


async def test_whoever_opened_a_queue_file_before_its_fifth_version_finds_no_queue_in_it_any_more(path, clock):
    made(path, "engine", ENGINE[:4], engine_rows(4, int(clock.now() * 1000)))
    load = "SELECT q.stock FROM queues AS q WHERE q.name = 'tasks.fifo'"
    with closing(sqlite3.connect(path, isolation_level=None)) as older:
        assert older.execute(load).fetchall() == [(1,)]
        broker = SqliteBroker(f"sqlite:///{path}", clock=clock)
        await broker.open()
        with pytest.raises(sqlite3.OperationalError, match=r"no such column: q\.stock"):
            older.execute(load)
        await broker.close()


# The ledgers


def ledger_rows(version, now):
    """Fan-outs: one with a task that runs and one that waits; a complete one whose fold runs; one kept too long."""
    common = {"entity_id": "doc-1", "event_id": "e1", "metadata": "{}", "total_tasks": 1, "created_at": now}
    ended = {"ended": "complete", "purge_at": now + KEPT} if version >= 2 else {}
    over = {"ended": "complete", "purge_at": now} if version >= 2 else {}
    fan_outs = [
        {"fan_out_id": "open", "total_tasks": 2, "touched_at": now},
        {"fan_out_id": "folding", "touched_at": now, "completed_at": now, "fold_begun": True, **ended},
        {"fan_out_id": "old", "touched_at": now - KEPT, "completed_at": now - KEPT, "fold_begun": True, **over},
    ]
    for number, row in enumerate(fan_outs, 1):
        yield inserted("fan_outs", common | {"number": number} | row)
    done = {"state": "succeeded", "attempts": 1, "result": "1"}
    tasks = [
        {"fan_out": 1, "task_name": "words", "position": 0, "state": "running", "attempts": 2, "worker": "w1"},
        {"fan_out": 1, "task_name": "roof", "position": 1, "task_config": '{"a":1}'},
        {"fan_out": 2, "task_name": "words", "position": 0, **done},
        {"fan_out": 2, "task_name": FOLD_NAME, "position": -1, "state": "running", "attempts": 1},
        {"fan_out": 3, "task_name": "words", "position": 0, **done},
        {"fan_out": 3, "task_name": FOLD_NAME, "position": -1, **done},
    ]
    for row in tasks:
        yield inserted("tasks", {"task_config": "{}", "updated_at": now} | (staged(row) if version >= 4 else row))


def staged(row):
    """A task's row as of version 4: a state that is final has a column of its own."""
    state = row.pop("state", "pending")
    return row | ({"stage": "running", "terminal": state} if TaskState(state).terminal else {"stage": state})


async def goes_on(ledger, clock):
    """What was open ends, what folds folds, what is kept too long goes, and what is new is as ever."""
    end = Finish(fan_out_id="open", task_name="words", attempt=2, result='"x"')
    assert [(answer.applied, answer.fold_due) for answer in await ledger.finish([end])] == [(True, False)]
    claimed = await claim(ledger, "roof", fan_out_id="open")
    assert (claimed.state, claimed.attempt) == (TaskState.RUNNING, 1)
    assert (await finish(ledger, "roof", fan_out_id="open")).fold_due
    found = await ledger.get("open")
    assert (found.ended, found.results) == (Ended.COMPLETE, {"words": "x", "roof": 1})
    assert (await record(ledger, "roof", "open")).task_config == {"a": 1}
    clock.advance(60)
    assert ids(await ledger.unended_folds(untouched_for=59)) == ["folding"]
    assert await ledger.purge() == 1
    assert ids(await ledger.list()) == ["folding", "open"]
    assert (await claim(ledger, FOLD_NAME, fan_out_id="folding")).attempt == 2
    assert (await finish(ledger, FOLD_NAME, 2, fan_out_id="folding")).applied
    unsent = await ledger.rerun("folding", failed_only=False, configs={"words": {"b": 2}})
    assert [task.task_config for task in unsent.tasks] == [{"b": 2}]
    await ledger.open(plan("words", deadline=5))
    assert (await run(ledger)).fold_due


@pytest.mark.parametrize("version", range(1, len(LEDGER) + 1))
async def test_a_ledger_file_of_any_version_goes_on(path, clock, version):
    made(path, "ledger", LEDGER[:version], ledger_rows(version, clock.now()))
    ledger = SqliteLedger(f"sqlite:///{path}", clock=clock)
    await ledger.start()
    await goes_on(ledger, clock)
    await ledger.close()


async def test_whoever_opened_a_ledger_file_before_its_fourth_version_starts_and_ends_nothing_in_it_any_more(
    path, clock
):
    made(path, "ledger", LEDGER[:3], ledger_rows(3, clock.now()))
    with closing(sqlite3.connect(path, isolation_level=None)) as older:
        older.execute("UPDATE tasks SET state = 'running' WHERE task_name = 'roof'")
        ledger = SqliteLedger(f"sqlite:///{path}", clock=clock)
        await ledger.start()
        with pytest.raises(sqlite3.OperationalError, match="no such column: state"):
            older.execute("UPDATE tasks SET state = 'succeeded' WHERE task_name = 'roof'")
        assert (await finish(ledger, "roof", 0, fan_out_id="open")).applied
        await ledger.close()


@pytest.mark.parametrize("version", range(1, len(LEDGER)))
async def test_several_that_open_an_older_ledger_file_at_once_bring_it_up_to_date_once(path, clock, version):
    made(path, "ledger", LEDGER[:version], ledger_rows(version, clock.now()))
    await started_together([SqliteLedger(f"sqlite:///{path}", clock=clock) for _ in range(4)], clock)


async def started_together(ledgers, clock):
    await asyncio.gather(*(ledger.start() for ledger in ledgers))
    await goes_on(ledgers[0], clock)
    assert {len(await ledger.list()) for ledger in ledgers} == {3}
    await asyncio.gather(*(ledger.close() for ledger in ledgers))


@pytest.mark.parametrize(("part", "scripts"), [("engine", ENGINE), ("ledger", LEDGER)])
async def test_a_file_of_a_newer_version_is_refused_by_its_number(path, part, scripts):
    made(path, part, scripts, [("UPDATE fanfold_schema SET version = 99", ())])
    opens = SqliteBroker(f"sqlite:///{path}").open if part == "engine" else SqliteLedger(f"sqlite:///{path}").start
    with pytest.raises(
        StorageCorruptError, match=f"its {part} tables have version 99, this Fanfold knows {len(scripts)}; upgrade"
    ):
        await opens()


def made_in_postgres(postgres, schema, version, now):
    """A schema as a version left it, with the same rows as the files."""
    with psycopg.connect(postgres.url) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(f"SET LOCAL search_path = {schema}")
        for script in POSTGRES[:version]:
            connection.execute(script)
        connection.execute("UPDATE ledger_version SET version = %s", (version,))
        for statement, row in ledger_rows(2, now):
            sealed = {"early": False, "cancel_rest": True, "keep": KEPT, "sealed": True, "sent": True}
            in_all = row | sealed if "fan_out_id" in row else row
            into = statement.split()[2]
            names, values = ", ".join(in_all), ", ".join(f"%({name})s" for name in in_all)
            connection.execute(f"INSERT INTO {into} ({names}) OVERRIDING SYSTEM VALUE VALUES ({values})", in_all)  # noqa: S608
        connection.execute("SELECT setval(pg_get_serial_sequence('fan_outs', 'number'), 3)")


@pytest.mark.parametrize("version", range(1, len(POSTGRES)))
async def test_a_schema_of_any_version_goes_on(postgres, postgres_url, schema, clock, version):
    made_in_postgres(postgres, schema, version, clock.now())
    ledger = PostgresLedger(postgres_url, clock=clock)
    await ledger.start()
    await goes_on(ledger, clock)
    await ledger.close()


@pytest.mark.parametrize("version", range(1, len(POSTGRES)))
async def test_several_that_open_an_older_schema_at_once_bring_it_up_to_date_once(
    postgres, postgres_url, schema, clock, version
):
    made_in_postgres(postgres, schema, version, clock.now())
    await started_together([PostgresLedger(postgres_url, clock=clock) for _ in range(4)], clock)
    assert postgres.execute(f"SELECT version FROM {schema}.ledger_version") == [(len(POSTGRES),)]  # noqa: S608


async def test_a_worker_that_started_before_a_schema_was_brought_up_to_date_is_told_when_it_starts_again(
    postgres, postgres_url, schema, clock
):
    made_in_postgres(postgres, schema, 1, clock.now())
    postgres.execute(f"UPDATE {schema}.ledger_version SET version = {len(POSTGRES) + 1}")  # noqa: S608
    ledger = PostgresLedger(postgres_url, clock=clock)
    with pytest.raises(LedgerError, match=rf"of version {len(POSTGRES) + 1}, this Fanfold knows {len(POSTGRES)}"):
        await ledger.start()
