"""Setting up and looking over what `fanfold serve` serves, which knows rights as AWS does."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from fanfold.cli import main
from servers import fanfold_server

SECRETS = {name: f"secret-of-{name}-0123456789" for name in ("producer", "worker", "operator")}
KEYS = {"FANFOLD_SERVE_KEYS": ",".join(f"AK{name.upper()}:{secret}:{name}" for name, secret in SECRETS.items())}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An endpoint at which `tasks.fifo` was set up by an operator."""
    with fanfold_server(tmp_path_factory.mktemp("serve") / "tasks.db", **KEYS) as running:
        yield running


def run(name, *arguments):
    """A command with the key of a role."""
    keys = {"AWS_ACCESS_KEY_ID": f"AK{name.upper()}", "AWS_SECRET_ACCESS_KEY": SECRETS[name]}
    return CliRunner(env={**keys, "AWS_DEFAULT_REGION": "us-east-1"}).invoke(main, arguments)


@pytest.fixture(scope="module")
def url(server):
    made = run("operator", "provision", "tasks.fifo", "--endpoint-url", server.url, "--yes")
    assert made.exit_code == 0, made.output
    return f"{server.url}/000000000000/tasks.fifo"


def denied(role, key, url):
    told = json.loads(run(key, "doctor", "--queue-url", url, "--role", role, "--json").stdout)
    return [found["what"] for found in told if found["check"] == "permission" and found["grade"] == "error"]


def test_what_was_set_up_is_left_with_nothing_to_change(server, url):
    assert url is not None  # it is set up
    again = run("operator", "provision", "tasks.fifo", "--endpoint-url", server.url)
    assert (again.exit_code, again.stdout) == (0, "Nothing to change.\n")


def test_who_may_not_create_queues_is_told_which_right_is_missing(server):
    refused = run("producer", "provision", "other.fifo", "--endpoint-url", server.url, "--yes")
    assert (refused.exit_code, "sqs:CreateQueue is denied" in refused.stderr) == (1, True)


@pytest.mark.parametrize(("role", "key"), [("producer", "producer"), ("worker", "worker"), ("operator", "operator")])
def test_a_role_with_its_own_key_lacks_nothing(role, key, url):
    assert denied(role, key, url) == []


def test_a_worker_with_a_producers_key_lacks_what_a_producer_may_not(url):
    assert denied("worker", "producer", url) == [
        f"sqs:{action} on {queue} is denied"
        for queue, actions in {
            "tasks.fifo": ("ChangeMessageVisibility", "DeleteMessage", "ReceiveMessage"),
            "tasks-dlq.fifo": ("ChangeMessageVisibility", "ReceiveMessage"),
        }.items()
        for action in actions
    ]
