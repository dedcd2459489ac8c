from __future__ import annotations

from pathlib import Path

import pytest

from fanfold.errors import ConfigurationError, NotFifoError
from fanfold.urls import SqliteUrl, is_sqlite, parse_sqlite


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///tasks.db", "tasks.db"),
        ("sqlite:///data/tasks.db", "data/tasks.db"),
        ("sqlite:////var/lib/tasks.db", "/var/lib/tasks.db"),
        ("sqlite:////var/lib/with%20space%3F.db", "/var/lib/with space?.db"),
        ("sqlite:///tasks", "tasks"),
    ],
)
def test_three_slashes_and_a_path(url, path):
    assert parse_sqlite(url) == SqliteUrl(path=Path(path), queue="tasks.fifo", synchronous="FULL")


def test_options_name_the_queue_and_how_durable_a_commit_is():
    assert parse_sqlite("sqlite:///t.db?queue=orders.fifo&synchronous=normal") == SqliteUrl(
        path=Path("t.db"), queue="orders.fifo", synchronous="NORMAL"
    )


def test_the_dead_letter_queue_is_named_after_the_queue():
    assert parse_sqlite("sqlite:///t.db?queue=orders.fifo").dead_letter_queue == "orders-dlq.fifo"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tasks.db",
        "sqlite:",
        "sqlite:tasks.db",
        "sqlite://tasks.db",
        "sqlite:///",
        "sqlite:////",
        "sqlite:///folder/",
        "sqlite:///?queue=orders.fifo",
        "postgres:///tasks",
    ],
)
def test_what_isnt_a_files_address_is_refused_with_the_two_forms(url):
    with pytest.raises(ConfigurationError) as refused:
        parse_sqlite(url)
    assert str(refused.value) == f"{url!r}: write sqlite:///relative.db or sqlite:////absolute/path.db"


def test_an_unknown_option_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigurationError, match="unknown option 'sync'; there are queue and synchronous"):
        parse_sqlite("sqlite:///t.db?sync=FULL")


@pytest.mark.parametrize("level", ["OFF", "", "EXTRA", "0"])
def test_a_commit_is_durable_in_one_of_two_ways(level):
    with pytest.raises(ConfigurationError, match=f"synchronous={level} is not one of FULL, NORMAL"):
        parse_sqlite(f"sqlite:///t.db?synchronous={level}")


@pytest.mark.parametrize("queue", ["orders", "orders.fifo.old", ""])
def test_a_queue_that_isnt_fifo_is_refused_with_the_name_to_write(queue):
    with pytest.raises(NotFifoError) as refused:
        parse_sqlite(f"sqlite:///t.db?queue={queue}")
    assert repr(queue + ".fifo") in str(refused.value)


@pytest.mark.parametrize(
    "queue", [".fifo", "a.b.fifo", "stra%C3%9Fe.fifo", "a b.fifo", "x" * 76 + ".fifo", "a%0A.fifo"]
)
def test_a_queues_name_has_sqs_characters_and_length(queue):
    with pytest.raises(ConfigurationError, match=r"1-75 of A-Z a-z 0-9 _ -"):
        parse_sqlite(f"sqlite:///t.db?queue={queue}")


def test_the_longest_name_leaves_its_dead_letter_queue_within_80_characters():
    assert len(parse_sqlite(f"sqlite:///t.db?queue={'x' * 71}.fifo").dead_letter_queue) == 80


@pytest.mark.parametrize(
    ("url", "embedded"), [("sqlite:///t.db", True), ("https://sqs.eu-west-1.amazonaws.com", False)]
)
def test_the_scheme_tells_the_embedded_engine_from_sqs(url, embedded):
    assert is_sqlite(url) is embedded
