"""Cost doesn't grow with the ledger: PostgreSQL serves every statement by an index, those in functions too."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest

from fanfold.ledgers.postgres import PostgresLedger
from fanfold.ledgers.protocol import Claim, Finish
from fanfold.model import FOLD_NAME
from ledgering import everything, large, run

TABLES = {"fan_outs", "tasks", "leaders"}
# The server tells of each plan, and reads from end to end only where there is no other way.
OPTIONS = (
    "-c session_preload_libraries=auto_explain -c auto_explain.log_min_duration=0 -c auto_explain.log_format=json "
    "-c auto_explain.log_nested_statements=on -c client_min_messages=log -c enable_seqscan=off"
)
# Listings that begin at one end of an index, filter nothing but what the index leaves out, and stop at their limit; and
# the folds that aren't over, which are few.
BOUNDED = {"fan_outs_pkey", "fan_outs_open", "tasks_folding"}
# Sorted is what belongs to one fan-out, or the fan-outs of one call.
SORTED = ("lock_fan_outs", "fan_out_id = ANY", "position", "ORDER BY c.n")


OPEN, OVER = "most of it is open", "most of it is over"


@pytest.fixture(params=[OPEN, OVER])
async def explained(postgres, postgres_url, schema, clock, monkeypatch, request):  # noqa: PLR0917 - fixtures
    """A ledger with some fan-outs, and the plans (query and its nodes) of what it is asked from then on."""
    plans = []
    ledger = PostgresLedger(f"{postgres_url}&options={quote(OPTIONS)}", clock=clock)
    await ledger.start()
    for number in range(50):
        await ledger.open(large(42, fan_out_id=f"old{number}", entity_id=f"doc-{number}"))
        await run(ledger, "t0", fan_out_id=f"old{number}")
        if request.param == OVER:
            await ledger.cancel(f"old{number}")
            await run(ledger, FOLD_NAME, fan_out_id=f"old{number}")
    await ledger.close()
    postgres.execute(f"ANALYZE {schema}.fan_outs", f"ANALYZE {schema}.tasks")

    connect = ledger._connections.connect

    def listening():
        connection = connect()
        connection.add_notice_handler(lambda said: plans.extend(read(said.message_primary)))
        return connection

    monkeypatch.setattr(ledger._connections, "connect", listening)
    await ledger.start()
    yield ledger, plans
    await ledger.close()


def read(message):
    found = re.search(r"plan:\s*(\{.*)", message, re.DOTALL)
    if found:
        said = json.loads(found[1])
        yield said["Query Text"], list(nodes(said["Plan"]))


def nodes(node):
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


def whole(plan):
    """What a plan reads of a table from end to end."""
    for node in plan:
        reads = node.get("Relation Name") in TABLES and "Scan" in node["Node Type"]
        through_bitmap = node["Node Type"] == "Bitmap Heap Scan"
        if reads and not through_bitmap and not {"Index Cond", "TID Cond"} & node.keys():
            yield node.get("Index Name", node["Node Type"])
        if node["Node Type"] == "Bitmap Index Scan" and "Index Cond" not in node:
            yield node["Index Name"]


async def test_no_statement_reads_a_table_from_end_to_end(explained, clock):
    ledger, plans = explained
    await everything(ledger, clock)
    assert len({query for query, _ in plans}) > 40
    found = {query: reads for query, plan in plans if (reads := list(whole(plan)))}
    assert {query: reads for query, reads in found.items() if not ("LIMIT" in query and set(reads) <= BOUNDED)} == {}


async def test_what_workers_ask_most_is_looked_up_by_keys_alone_whatever_was_open_when_it_was_planned(explained):
    ledger, plans = explained
    for number in range(16):
        await ledger.open(large(42, fan_out_id=f"f{number}"))
    for name in (f"t{number}" for number in range(42)):
        keys = [(f"f{number}", name) for number in range(16)]
        await ledger.claim([Claim(fan_out_id=key, task_name=name, generation=0, worker="w") for key, name in keys])
        await ledger.finish([Finish(fan_out_id=key, task_name=name, attempt=1, result="1") for key, name in keys])
    found = {(query, reads) for query, plan in plans for reads in whole(plan)}
    assert found == set()
    indexes = {node["Index Name"] for _, plan in plans for node in plan if "Index Name" in node}
    used = {index for index in indexes if not index.startswith("pg_")}
    assert used <= {"fan_outs_fan_out_id_key", "fan_outs_pkey", "tasks_pkey", "tasks_waiting"}
    lookups = [node for _, plan in plans for node in plan if node.get("Index Name") == "tasks_waiting"]
    assert {node.get("Filter") for node in lookups} == {None}


@pytest.mark.parametrize("explained", [OPEN], indirect=True)
async def test_nothing_is_sorted_but_what_belongs_to_one_call(explained, clock):
    ledger, plans = explained
    await everything(ledger, clock)
    sorting = {query for query, plan in plans if any(node["Node Type"] == "Sort" for node in plan)}
    assert sorting
    assert {query for query in sorting if not any(known in query for known in SORTED)} == set()


async def test_reading_from_end_to_end_would_be_noticed(explained):
    ledger, plans = explained
    connection = ledger._connections.connect()
    connection.execute(f"SELECT * FROM {ledger._address.schema}.tasks WHERE worker = 'w'")  # noqa: S608
    connection.close()
    assert list(whole(plans[-1][1])) == ["Seq Scan"]
