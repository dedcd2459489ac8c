from __future__ import annotations

import asyncio
import signal
import sys

import psycopg
import pytest

from fanfold import Fanfold
from fanfold.errors import (
    ConfigurationError,
    InvalidInputError,
    LedgerError,
    LedgerUnavailableError,
    MissingExtraError,
)
from fanfold.ledgers import postgres_rows as rows
from fanfold.ledgers.postgres import PostgresLedger
from fanfold.ledgers.postgres_address import parse_postgres
from fanfold.ledgers.protocol import Claim, Finish
from fanfold.model import FOLD_NAME, Failure, Progress, TaskState
from ledgering import claim, everything, finish, large, plan, run

DEAD = {"failure": Failure(type="LookupError", message="no roof"), "dead": True}


@pytest.fixture
async def ledger(postgres_url, clock):
    made = PostgresLedger(postgres_url, clock=clock)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def fragile(stoppable_postgres, clock):
    made = PostgresLedger(stoppable_postgres.url, clock=clock)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def role(postgres, schema):
    """A role that owns nothing, and the URL by which it connects."""
    postgres.execute(f"CREATE ROLE {schema} LOGIN")
    yield f"{postgres.url.replace('fanfold@', f'{schema}@')}?schema={schema}"
    postgres.execute(f"DROP OWNED BY {schema}", f"DROP ROLE {schema}")


async def start(url):
    """Whether a ledger there can be started; it is closed again."""
    made = PostgresLedger(url)
    await made.start()
    await made.close()


# Addresses


def test_a_url_says_where_and_in_which_schema_and_how_many_connections_to_make():
    address = parse_postgres("postgresql://fold@db.example:6432/tasks?schema=folds&connections=9&sslmode=require")
    assert (address.schema, address.connections) == ("folds", 9)
    said = psycopg.conninfo.conninfo_to_dict(address.conninfo)
    assert (said["user"], said["host"], said["port"], said["dbname"]) == ("fold", "db.example", "6432", "tasks")
    assert (said["sslmode"], said["connect_timeout"]) == ("require", "5")


def test_what_the_url_says_of_patience_counts():
    said = psycopg.conninfo.conninfo_to_dict(parse_postgres("postgresql://db/tasks?connect_timeout=60").conninfo)
    assert said["connect_timeout"] == "60"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("schema=", "schema=''; a name has"),
        ("schema=Folds", "schema='Folds'; a name has"),
        ("schema=pg_folds", "not with pg_"),
        (f"schema={'f' * 64}", "a name has 1-63"),
        ("connections=0", "connections='0'; write a number from 1 to 100"),
        ("connections=many", "connections='many'; write a number"),
        ("colour=red", 'invalid URI query parameter: "colour"; write postgresql://user@host'),
    ],
)
def test_a_url_that_cant_work_is_refused_with_the_rule(query, text):
    with pytest.raises(ConfigurationError, match=text):
        PostgresLedger(f"postgresql://fold:secret@db/tasks?{query}")


@pytest.mark.parametrize("secret", ["hush", "hu:sh", "h%40sh"])
def test_the_password_is_shown_nowhere(secret):
    url = f"postgresql://fold:{secret}@db/tasks"
    assert PostgresLedger(url).url == "postgresql://fold:***@db/tasks"
    assert secret not in repr(parse_postgres(url))
    with pytest.raises(ConfigurationError) as caught:
        PostgresLedger(f"{url}?colour=red")
    assert secret not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
async def test_an_application_finds_its_ledger_by_the_url(tmp_path, postgres_url, scheme):
    there = scheme + postgres_url.removeprefix("postgresql")
    async with Fanfold(f"sqlite:///{tmp_path}/tasks.db", ledger=there) as app:
        app.task("words")(lambda: 1)
        await app.enqueue_async("doc-1", ["words"])
        [found] = await app.fan_outs_async()
    assert found.progress == Progress(pending=1)


async def test_without_psycopg_the_error_is_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for name in [name for name in sys.modules if name.startswith("fanfold.ledgers.postgres")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtraError, match=r"pip install 'fanfold\[postgres\]'"):
        await Fanfold(f"sqlite:///{tmp_path}/tasks.db", ledger="postgresql://db/tasks").status_async()


# Starting


async def test_a_database_that_isnt_there_is_named_with_the_cure(postgres):
    with pytest.raises(LedgerError, match=r'database "nowhere" does not exist\. To cure it: create it') as caught:
        await start(postgres.url.replace("/postgres", "/nowhere"))
    assert not caught.value.transient


async def test_a_role_that_isnt_there_is_named(postgres):
    with pytest.raises(LedgerError, match='role "nobody" does not exist') as caught:
        await start(postgres.url.replace("fanfold@", "nobody@"))
    assert not caught.value.transient


async def test_a_server_that_isnt_there_may_come(stoppable_postgres):
    stoppable_postgres.stop()
    with pytest.raises(LedgerUnavailableError, match="Connection refused") as caught:
        await start(stoppable_postgres.url)
    assert caught.value.transient


async def test_after_a_start_that_failed_it_can_be_started(stoppable_postgres, clock):
    stoppable_postgres.stop()
    made = PostgresLedger(stoppable_postgres.url, clock=clock)
    with pytest.raises(LedgerUnavailableError):
        await made.start()
    stoppable_postgres.start()
    await made.start()
    assert await made.list() == []
    await made.close()


async def test_a_role_that_may_not_make_the_schema_is_told_which_right_it_needs(role):
    with pytest.raises(LedgerError, match=r"permission denied for database postgres.*GRANT CREATE ON that DATABASE"):
        await start(role)


async def test_a_role_that_may_not_make_tables_in_the_schema_is_told_which_right_it_needs(postgres, role, schema):
    postgres.execute(f"CREATE SCHEMA {schema}", f"GRANT USAGE ON SCHEMA {schema} TO {schema}")
    with pytest.raises(
        LedgerError, match=rf"permission denied for schema {schema}.*and CREATE to whoever first starts"
    ):
        await start(role)


async def test_in_a_schema_of_its_own_a_role_needs_no_right_on_the_database(postgres, role, schema):
    postgres.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {schema}")
    await start(role)


@pytest.mark.usefixtures("ledger")
async def test_a_role_that_may_not_use_the_tables_is_told_which_rights_it_needs(postgres, role, schema):
    postgres.execute(f"GRANT USAGE ON SCHEMA {schema} TO {schema}")
    with pytest.raises(
        LedgerError, match=r"permission denied for table ledger_version.*GRANT SELECT, INSERT, UPDATE, DELETE"
    ):
        await start(role)


@pytest.mark.usefixtures("ledger")
async def test_the_rights_that_the_errors_name_are_enough_where_another_role_has_made_the_tables(
    postgres, role, schema, clock
):
    postgres.execute(
        f"GRANT USAGE ON SCHEMA {schema} TO {schema}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {schema}",
    )
    made = PostgresLedger(role, clock=clock)
    await made.start()
    await everything(made, clock)
    await made.close()


async def test_many_that_start_at_once_make_the_tables_once(postgres_url):
    await asyncio.gather(*(start(postgres_url) for _ in range(8)))


@pytest.mark.usefixtures("ledger")
async def test_tables_of_a_newer_version_are_refused_by_its_number(postgres, postgres_url, schema):
    postgres.execute(f"UPDATE {schema}.ledger_version SET version = 99")  # noqa: S608
    with pytest.raises(
        LedgerError, match=rf"schema {schema} are of version 99, this Fanfold knows 4\. Install the newer"
    ):
        await start(postgres_url)


async def test_tables_that_were_dropped_are_missed_by_name(postgres, schema, ledger):
    postgres.execute(f"DROP SCHEMA {schema} CASCADE")
    with pytest.raises(LedgerError, match=rf'"{schema}.summaries" does not exist.*The tables were dropped'):
        await ledger.list()


async def test_two_ledgers_in_two_schemas_know_nothing_of_each_other(postgres, schema, ledger, clock):
    other = PostgresLedger(f"{postgres.url}?schema={schema}_2", clock=clock)
    await other.start()
    await ledger.open(plan())
    assert await other.list() == []
    await other.close()


async def test_after_a_fork_it_is_refused(postgres_url, monkeypatch):
    made = PostgresLedger(postgres_url)
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(ConfigurationError, match="made before a fork"):
        await made.start()


async def test_a_closed_ledger_says_so(ledger):
    await ledger.close()
    for call in (ledger.list(), ledger.claim([Claim(fan_out_id="f1", task_name="a", generation=0, worker="w")])):
        with pytest.raises(LedgerError, match="it is closed; open the app before using it"):
            await call


# Values


@pytest.mark.parametrize("text", ["naïve", "\\u0000", "'; DROP TABLE tasks; --", "{schema}", "%s", "\n\t\x1f", "🪭"])
async def test_any_text_comes_back_as_it_went_in(ledger, text):
    await ledger.open(plan(text, entity_id=text, event_id=text, metadata={text: text}))
    [answer] = await ledger.claim([Claim(fan_out_id="f1", task_name=text, generation=0, worker=text)])
    failure = Failure(type=text, message=text, traceback=text)
    await ledger.finish([Finish(fan_out_id="f1", task_name=text, attempt=answer.attempt, failure=failure)])
    found = await ledger.get("f1")
    assert (found.entity_id, found.event_id, found.metadata) == (text, text, {text: text})
    assert [(task.task_name, task.failure, task.worker) for task in found.tasks] == [(text, failure, text)]


async def test_a_failure_that_tells_of_a_nul_character_is_kept(ledger):
    await ledger.open(plan("words"))
    failure = Failure(type="ValueError", message="what is \0?")
    await run(ledger, failure=failure)
    assert (await ledger.tasks("f1"))[0].failure == failure


async def test_a_nul_character_where_postgresql_has_none_is_refused_and_fails_nobody_else(ledger):
    await ledger.open(plan("words", "roof"))
    bad = Finish(fan_out_id="f1\0", task_name="words", attempt=1, result="1")
    await claim(ledger, "words")
    answers = await asyncio.gather(
        *(ledger.finish([entry]) for entry in (bad, Finish(fan_out_id="f1", task_name="words", attempt=1, result="1"))),
        ledger.open(plan("a", entity_id="doc\0", fan_out_id="f2")),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [InvalidInputError, list, InvalidInputError]
    assert answers[1][0].applied


async def test_a_result_of_a_megabyte_is_kept(ledger):
    await ledger.open(plan("words"))
    text = "x" * 1_000_000
    await run(ledger, result=f'"{text}"')
    assert (await ledger.get("f1")).results == {"words": text}


# Round trips


@pytest.fixture
def statements(monkeypatch, ledger):
    """The names of the statements that are run."""
    ran = []
    original = ledger._connections.run

    def run(name, values):
        ran.append(name)
        return original(name, values)

    monkeypatch.setattr(ledger._connections, "run", run)
    return ran


async def test_calls_are_one_round_trip_each(ledger, statements):
    names = [f"t{number}" for number in range(42)]
    await ledger.open(plan(*names))
    await ledger.claim([Claim(fan_out_id="f1", task_name=name, generation=0, worker="w") for name in names])
    await ledger.finish([Finish(fan_out_id="f1", task_name=name, attempt=1, result="1") for name in names])
    await ledger.get("f1")
    assert statements == ["open_fan_out", "advance", "advance", "whole"]


async def test_claims_and_ends_that_come_while_others_are_under_way_are_one_round_trip(ledger, statements):
    names = [f"t{number}" for number in range(50)]
    await ledger.open(plan(*names))
    await ledger.open(plan(*names, fan_out_id="f2"))
    await ledger.claim([Claim(fan_out_id="f1", task_name=name, generation=0, worker="w") for name in names])
    statements.clear()
    ends, begins = (finish(ledger, name) for name in names), (claim(ledger, name, fan_out_id="f2") for name in names)
    *recorded, claimed = await asyncio.gather(*ends, asyncio.gather(*begins))
    assert recorded[-1].fold_due
    assert [answer.attempt for answer in claimed] == [1] * 50
    assert statements == ["advance"] * len(statements)
    assert len(statements) < 100 / 4


async def test_a_saturated_worker_makes_at_most_a_quarter_of_a_round_trip_for_a_task(tmp_path, postgres_url):
    async with Fanfold(f"sqlite:///{tmp_path}/tasks.db", ledger=postgres_url, concurrency=100) as app:
        names = [f"t{number}" for number in range(42)]
        for name in names:
            app.task(name)(lambda: 1)
        for number in range(24):
            await app.enqueue_async(f"doc-{number}", names)
        count, over = count_round_trips((await app._open()).ledger), asyncio.Event()
        left = 24 * 42

        def heard(event):
            nonlocal left
            left -= event.name == "task.completed"
            if not left:
                over.set()

        app.subscribe(heard)
        worker = await app.worker()
        await worker.start()
        await over.wait()
        await worker.stop()
        assert {fan_out.progress.succeeded for fan_out in await app.fan_outs_async()} == {42}
    assert 0 < sum(count.values()) <= 24 * 42 * 0.25


def count_round_trips(ledger):
    """The calls that a ledger makes for runs, by name, as they come."""
    count, original = {"advance": 0}, ledger._connections.run

    def run(name, values):
        if name in count:
            count[name] += 1
        return original(name, values)

    ledger._connections.run = run
    return count


async def test_a_tasks_start_writes_no_index(postgres, ledger, schema):
    names = [f"t{number}" for number in range(42)]
    await ledger.open(plan(*names))
    await ledger.claim([Claim(fan_out_id="f1", task_name=name, generation=0, worker="w") for name in names])
    await ledger.close()  # a connection tells its numbers when it ends
    said = (
        f"SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = '{schema}' AND relname = 'tasks'"  # noqa: S608
    )
    while (counts := await asyncio.to_thread(postgres.execute, said)) == [(0, 0)]:
        pass
    assert counts == [(42, 42)]


# Who comes at the same moment


@pytest.fixture
def holder(postgres):
    """Another worker's connection, in the middle of a transaction."""
    with psycopg.connect(postgres.url) as connection:
        yield connection


async def waiting_for_a_lock(postgres, statement):
    """Return when a call of a statement waits for somebody's transaction."""
    look = f"SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%.{statement}(%'"  # noqa: S608
    while not await asyncio.to_thread(postgres.execute, look):
        pass


def advanced(holder, schema, asked):
    """What the transaction of a worker that hasn't committed yet is answered to claims and ends."""
    call = f"SELECT * FROM {schema}.advance(%(ids)s, %(of_ends)s, %(finishes)s, %(claims)s, '{{}}', 1)"  # noqa: S608
    return holder.execute(call, asked).fetchone()


async def test_two_workers_that_end_the_last_two_tasks_at_once_cant_both_miss_the_end(postgres, ledger, schema, holder):
    await ledger.open(plan("a", "b"))
    for name in "ab":
        await claim(ledger, name)
    end = rows.advance([], [Finish(fan_out_id="f1", task_name="a", attempt=1, result="1")])
    assert advanced(holder, schema, end) == ("[]", None, None, None)
    other = asyncio.create_task(finish(ledger, "b"))
    await waiting_for_a_lock(postgres, "advance")
    holder.commit()
    assert (await other).fold_due


async def test_who_wants_several_fan_outs_takes_them_in_one_order_and_waits_with_none_that_others_wait_for(
    postgres, ledger, schema, holder
):
    for fan_out_id in ("f1", "f2"):
        await ledger.open(plan("a", fan_out_id=fan_out_id))
    holder.execute(f"SELECT FROM {schema}.fan_outs WHERE fan_out_id = 'f1' FOR UPDATE")
    claims = [Claim(fan_out_id=fan_out_id, task_name="a", generation=0, worker="w") for fan_out_id in ("f2", "f1")]
    both = asyncio.create_task(ledger.claim(claims))
    await waiting_for_a_lock(postgres, "advance")
    holder.execute(f"SELECT FROM {schema}.fan_outs WHERE fan_out_id = 'f2' FOR UPDATE NOWAIT")
    holder.commit()
    assert [answer.attempt for answer in await both] == [1, 1]


async def test_a_rerun_waits_for_a_fold_that_is_being_claimed(postgres, ledger, schema, holder):
    await ledger.open(plan("a"))
    await run(ledger, "a", **DEAD)
    advanced(holder, schema, rows.advance([Claim(fan_out_id="f1", task_name=FOLD_NAME, generation=0, worker="w")], []))
    rerun = asyncio.create_task(ledger.rerun("f1"))
    await waiting_for_a_lock(postgres, "run_again")
    holder.commit()
    assert (await rerun).fan_out.fold_state is None
    [answer] = await ledger.claim([Claim(fan_out_id="f1", task_name="a", generation=1, worker="w")])
    await ledger.finish([Finish(fan_out_id="f1", task_name="a", attempt=answer.attempt, generation=1, result="1")])
    assert (await claim(ledger, FOLD_NAME, generation=1)).attempt == 1


async def test_what_somebody_holds_is_purged_another_time(ledger, schema, holder, clock):
    for fan_out_id in ("f1", "f2"):
        await ledger.open(plan("a", fan_out_id=fan_out_id, keep=1))
        await ledger.cancel(fan_out_id)
    clock.advance(2)
    holder.execute(f"SELECT FROM {schema}.fan_outs WHERE fan_out_id = 'f1' FOR UPDATE")
    assert await ledger.purge() == 1
    holder.commit()
    assert await ledger.purge() == 1


# The server's comings and goings


async def test_while_the_server_is_away_calls_fail_and_may_be_tried_again(stoppable_postgres, fragile):
    await fragile.open(plan("words"))
    stoppable_postgres.stop()
    for call in (claim(fragile), fragile.get("f1"), fragile.open(plan("words")), fragile.lead("r", "w", 1)):
        with pytest.raises(LedgerUnavailableError) as caught:
            await call
        assert caught.value.transient


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["orderly", "at once"])
async def test_after_a_restart_of_the_server_the_next_call_succeeds_and_nothing_is_lost(
    stoppable_postgres, fragile, how
):
    await fragile.open(plan("words", "roof"))
    await run(fragile, "words")
    await asyncio.gather(*(fragile.get("f1") for _ in range(8)))  # several connections
    stoppable_postgres.restart(how)
    assert [found.progress for found in await asyncio.gather(*(fragile.get("f1") for _ in range(8)))] == [
        Progress(succeeded=1, pending=1)
    ] * 8
    assert (await run(fragile, "roof")).fold_due


async def test_connections_that_a_pooler_has_closed_are_replaced(postgres, ledger):
    await asyncio.gather(*(ledger.get("f1") for _ in range(8)))
    postgres.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'fanfold'")
    await ledger.open(plan("words"))
    assert (await run(ledger)).fold_due


async def test_a_call_whose_connection_is_cut_fails_for_now_and_leaves_the_next_ones_alone(postgres, ledger, schema):
    await ledger.open(plan("words"))
    with psycopg.connect(postgres.url) as holder:
        holder.execute(f"SELECT FROM {schema}.fan_outs FOR UPDATE")
        waiting = asyncio.create_task(claim(ledger))
        await waiting_for_a_lock(postgres, "advance")
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with pytest.raises(LedgerUnavailableError):
            await waiting
    assert (await claim(ledger)).attempt == 1


async def test_a_cancelled_caller_leaves_the_others_their_answers(postgres, ledger, schema):
    await ledger.open(plan("a", "b", "c"))
    with psycopg.connect(postgres.url) as holder:
        holder.execute(f"SELECT FROM {schema}.fan_outs FOR UPDATE")
        first, given_up, last = (asyncio.create_task(claim(ledger, name)) for name in "abc")
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
    assert [(await each).state for each in (first, last)] == [TaskState.RUNNING] * 2


async def test_a_settlement_is_held_while_the_ledger_is_away_and_made_when_it_is_back(
    tmp_path, stoppable_postgres, clock, until
):
    told, begun, go_on = [], asyncio.Event(), asyncio.Event()
    async with Fanfold(f"sqlite:///{tmp_path}/tasks.db", ledger=stoppable_postgres.url, clock=clock) as app:

        @app.task("words")
        async def words():
            begun.set()
            await go_on.wait()
            return 42

        app.subscribe(told.append)
        await app.enqueue_async("doc-1", ["words"])
        worker = await app.worker()
        await worker.start()
        await begun.wait()
        await asyncio.to_thread(stoppable_postgres.stop)
        go_on.set()
        await until(lambda: any(event.name == "settle.failed" for event in told))
        assert (await app.status_async()).messages_in_flight == 1
        await asyncio.to_thread(stoppable_postgres.start)
        await until(lambda: any(event.name == "task.completed" for event in told), moving=True)
        await until(lambda: worker.idle, moving=True)
        await worker.stop()
        [found] = await app.fan_outs_async()
        assert (found.progress, (await app.status_async()).messages_in_flight) == (Progress(succeeded=1), 0)


# Half-written plans


async def half_write(ledger, of, pieces):
    """What a producer leaves that dies after so many pieces."""
    real, left = ledger._run, pieces + 1  # and its beginning

    async def run(statement, /, **values):
        nonlocal left
        if not left:
            raise ConnectionError("died")
        left -= 1
        return await real(statement, **values)

    ledger._run = run
    with pytest.raises(ConnectionError):
        await ledger.open(of)
    ledger._run = real


async def test_what_is_half_written_is_there_for_nobody(ledger):
    await half_write(ledger, large(5_000), 2)
    assert await ledger.get("f1") is None
    assert await ledger.list() == []
    assert await ledger.tasks("f1") == []
    assert await claim(ledger, "t0") is None
    assert not (await finish(ledger, "t0", None, **DEAD)).applied
    assert await ledger.cancel("f1") is None
    assert await ledger.rerun("f1") is None
    assert await ledger.unsent(untouched_for=-1e12) == []


async def test_what_a_dead_producer_left_half_written_is_cleared_away_a_day_after_it_was_written(
    postgres, ledger, schema, clock
):
    await half_write(ledger, large(5_000), 1)
    clock.advance(50_000)
    await half_write(ledger, large(5_000), 1)
    clock.advance(86_399)
    await ledger.purge(unfolded_for=1e9)
    assert postgres.execute(f"SELECT count(*) FROM {schema}.tasks") == [(2_000,)]  # noqa: S608
    clock.advance(1)
    await ledger.purge(unfolded_for=1e9)
    for table in ("tasks", "fan_outs"):
        assert postgres.execute(f"SELECT count(*) FROM {schema}.{table}") == [(0,)]  # noqa: S608


async def test_what_was_left_half_written_and_sealed_later_is_kept(ledger, clock):
    await half_write(ledger, large(5_000), 1)
    await ledger.open(large(5_000))
    clock.advance(90_000)
    assert await ledger.purge() == 0


async def test_what_a_dead_producer_left_half_written_is_completed_by_the_next(ledger):
    await half_write(ledger, large(5_000), 2)
    await ledger.open(large(5_000))
    assert (await ledger.get("f1")).progress == Progress(pending=5_000)


@pytest.mark.parametrize("count", [4_000, 3, 5_001], ids=["fewer", "few", "more"])
async def test_what_was_left_half_written_of_another_plan_gives_way(ledger, count):
    await half_write(ledger, large(5_000), 3)
    await ledger.open(large(count))
    assert (await ledger.get("f1")).progress == Progress(pending=count)
