"""Who may know whom. `docs/internals.md` says why."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fanfold

ROOT = Path(fanfold.__file__).parent
SOURCES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): ast.parse(path.read_text())
    for path in sorted(ROOT.rglob("*.py"))
}

LAYERS = {
    "values": "clock context errors ids limits model outcome retry",
    "mechanisms": "batcher calling child codec connection_thread database fold loops portal processes registry service "
    "settings slots sql telemetry tolerance turns urls watch",
    "protocols": "brokers.protocol ledgers.protocol",
    "implementations": r"brokers(\.\w+)? ledgers(\.\w+)* engine(\.\w+)?",
    "parts": "cancellations claims executor intake lane lanes leases producer reconciler runs settler worker",
    "sources": r"sources(\.(?!kafka|runner)\w+)?",
    "application": r"app dead_letters(\.\w+)? declarations fan_outs wiring",
    "edges": r"fanfold __main__ cli(\.\w+)? demo(\.\w+)? deploy(\.\w+)? endpoint(\.\w+)? handler runner "
    r"sources\.(kafka|runner) testing",
}
BELOW = ["values", "mechanisms", "protocols"]
MAY_IMPORT = {
    "values": ["values"],
    "mechanisms": ["values", "mechanisms"],
    "protocols": BELOW,
    "implementations": [*BELOW, "implementations"],
    "parts": [*BELOW, "parts"],
    "sources": [*BELOW, "sources"],
    "application": [*BELOW, "implementations", "parts", "sources", "application"],
    "edges": list(LAYERS),
}

ENGINE_WITH_SQL = """actions_attributes actions_moves actions_queues actions_receive actions_send actions_settle
attempts counting deferred desk doorbell leases mover moves moving queues receiving sending stocks upkeep"""
SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|CREATE|ALTER|DROP|WITH)\s")
HEAVY = ["boto3", "botocore", "click", "confluent_kafka", "httptools", "psycopg", "rich", "uvloop"]


def layer_of(module):
    """The first layer that lists the module."""
    name = module.removeprefix("fanfold.")
    return next(layer for layer, names in LAYERS.items() if any(re.fullmatch(known, name) for known in names.split()))


def imports(tree):
    """The modules that a source imports anywhere, ours by their full names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            whole = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in SOURCES else node.module for name in whole)


def offences(module, tree):
    ours = {name for name in imports(tree) if name.split(".")[0] == "fanfold"}
    return sorted(name for name in ours if layer_of(name) not in MAY_IMPORT[layer_of(module)])


def statements(tree):
    """The SQL that stands in a source."""
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [text for text in texts if SQL.match(text)]


def put_together(tree):
    """The statements that are made of strings where they are executed."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    executed = (ast.unparse(call.args[0]) for call in calls if call.func.attr.startswith("execute") and call.args
                and isinstance(call.args[0], ast.JoinedStr | ast.BinOp | ast.Call))  # fmt: skip
    return [text for text in executed if "PRAGMA" not in text]


def test_every_module_imports_only_what_its_layer_may_know():
    assert {module: found for module, tree in SOURCES.items() if (found := offences(module, tree))} == {}


def test_imports_are_absolute():
    nodes = [node for tree in SOURCES.values() for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert [ast.unparse(node) for node in nodes if node.level] == []


@pytest.mark.parametrize(
    ("library", "where"),
    [
        ("boto3", {"fanfold.brokers.boto", "fanfold.ledgers.dynamodb.client"}),
        ("psycopg", {f"fanfold.ledgers.postgres{part}" for part in
                     ("", "_address", "_connections", "_errors", "_opening", "_rows", "_schema")}),
        ("confluent_kafka", {"fanfold.deploy.kafka", "fanfold.sources.consumer", "fanfold.sources.messages",
                             "fanfold.sources.publisher", "fanfold.sources.schemas"}),
        ("botocore", {"fanfold.brokers.boto", "fanfold.brokers.route", "fanfold.endpoint.model",
         "fanfold.endpoint.signing", "fanfold.ledgers.dynamodb.client"}),
        ("httptools", {"fanfold.brokers.connections", "fanfold.endpoint.connections"}),
        ("sqlite3", {"fanfold.brokers.sqlite", "fanfold.connection_thread",
         "fanfold.database", "fanfold.watch", "fanfold.ledgers.openings",
                     "fanfold.ledgers.rows", "fanfold.ledgers.writes",
         *(f"fanfold.engine.{name}" for name in ENGINE_WITH_SQL.split())}),
    ],
)  # fmt: skip
def test_a_library_is_imported_in_its_place_only(library, where):
    users = {module for module, tree in SOURCES.items() if library in {name.split(".")[0] for name in imports(tree)}}
    assert users == where


@pytest.mark.parametrize("library", ["click", "rich"])
def test_what_shows_things_to_people_is_imported_at_the_edges_only(library):
    users = {module for module, tree in SOURCES.items() if library in {name.split(".")[0] for name in imports(tree)}}
    assert {layer_of(module) for module in users} == {"edges"}


def test_sql_stands_in_sql_files_but_for_the_schemas_own_version():
    found = [(module, text) for module, tree in SOURCES.items() for text in statements(tree)]
    assert {module for module, _ in found} == {"fanfold.database"}
    assert [text for _, text in found if "fanfold_schema" not in text] == []


def test_no_statement_is_put_together_from_strings():
    assert {module: found for module, tree in SOURCES.items() if (found := put_together(tree))} == {}


@pytest.mark.parametrize("module", ["fanfold", "fanfold.handler", "fanfold.testing", "fanfold.runner"])
def test_importing_it_loads_nothing_heavy_and_says_nothing(module):
    code = f"import sys, {module}; print(sorted(set(sys.modules) & set({HEAVY})))"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("fanfold.model", "from fanfold.codec import decode"),
        ("fanfold.codec", "from fanfold.brokers import protocol"),
        ("fanfold.worker", "from fanfold.brokers.sqlite import SqliteBroker"),
        ("fanfold.producer", "def late():\n    from fanfold.ledgers import sqlite"),
        ("fanfold.brokers.sqlite", "import fanfold.worker"),
        ("fanfold.app", "from fanfold import testing"),
        ("fanfold.wiring", "from fanfold.cli.common import load"),
    ],
)
def test_a_forbidden_import_would_be_noticed(module, line):
    assert len(offences(module, ast.parse(line))) == 1


def test_sql_in_a_source_would_be_noticed():
    tree = ast.parse('connection.execute(f"SELECT {column} FROM tasks"); connection.execute("DELETE FROM tasks")')
    assert sorted(statements(tree)) == ["DELETE FROM tasks", "SELECT "]
    assert put_together(tree) == ["f'SELECT {column} FROM tasks'"]
