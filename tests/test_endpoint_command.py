"""`fanfold serve` as a command: what it says, what it refuses, and what it writes."""

from __future__ import annotations

import json
import re
import socket
import urllib.request

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from click.testing import CliRunner

from fanfold import __version__
from fanfold.cli import main
from servers import fanfold_server

SECRETS = {name: f"secret-of-{name}-0123456789" for name in ("producer", "worker", "operator")}
KEYS = {"FANFOLD_SERVE_KEYS": ",".join(f"AK{name.upper()}:{secret}:{name}" for name, secret in SECRETS.items())}


def refusal(*arguments, **environ):
    ran = CliRunner(env=environ).invoke(main, ["serve", *map(str, arguments)])
    assert ran.exit_code == 1, ran.output
    assert "Traceback" not in ran.output
    return ran.output


def client(url, name="operator", **options):
    return boto3.client(
        "sqs",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=f"AK{name.upper()}",
        aws_secret_access_key=SECRETS.get(name, "x" * 20),
        config=Config(retries={"total_max_attempts": 1}),
        **options,
    )


def health(url):
    with urllib.request.urlopen(f"{url}/health") as answer:  # noqa: S310 - our own server
        return json.load(answer)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tasks.db"


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:9324", "example.org:80"])
def test_without_keys_only_this_machine_is_served(file, listen):
    said = refusal(file, "--listen", listen)
    assert f"--listen {listen}" in said
    assert "add --keys FILE or set FANFOLD_SERVE_KEYS, or listen on 127.0.0.1" in said
    assert not file.exists()


def test_an_address_that_is_not_this_machines_is_said(file):
    assert "--listen 192.0.2.1:0: Cannot assign requested address" in refusal(file, "--listen", "192.0.2.1:0", **KEYS)


def test_keys_that_others_can_read_are_refused(file, tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text("")
    keys.chmod(0o644)
    assert "chmod 600" in refusal(file, "--keys", keys)


@pytest.mark.parametrize("option", ["--certificate", "--private-key"])
def test_half_of_tls_is_refused(file, tmp_path, option):
    assert "give both or neither" in refusal(file, option, tmp_path / "some.pem")


def test_a_folder_that_is_not_there_is_said(tmp_path):
    assert "create it first" in refusal(tmp_path / "nowhere" / "tasks.db", "--listen", "127.0.0.1:0")


@pytest.mark.parametrize("name", ["with space", "x" * 81, "a.b"])
def test_a_queue_that_sqs_would_not_create_is_refused(file, name):
    assert f"--create {name}" in refusal(file, "--listen", "127.0.0.1:0", "--create", name)
    assert not file.exists()


def test_the_start_line_for_scripts_says_where(file):
    with fanfold_server(file, "--create", "orders.fifo", "--create", "plain") as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        assert server.queues == [f"{server.url}/000000000000/{name}" for name in ("orders.fifo", "plain")]
        assert server.process.poll() is None
    assert server.process.returncode == 0


def test_created_queues_have_dead_letter_queues_and_creating_them_again_changes_nothing(file):
    for _ in range(2):
        with fanfold_server(file, "--create", "orders.fifo", "--create", "plain") as server:
            sqs = client(server.url)
            urls = sqs.list_queues()["QueueUrls"]
            attributes = [sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"] for url in urls]
            sqs.set_queue_attributes(QueueUrl=server.queues[0], Attributes={"VisibilityTimeout": "77"})
            sqs.close()
    names = {found["QueueArn"].rpartition(":")[2]: found for found in attributes}
    assert sorted(names) == ["orders-dlq.fifo", "orders.fifo", "plain", "plain-dlq"]
    assert json.loads(names["orders.fifo"]["RedrivePolicy"]) == {
        "deadLetterTargetArn": names["orders-dlq.fifo"]["QueueArn"],
        "maxReceiveCount": 100,
    }
    assert names["orders.fifo"]["VisibilityTimeout"] == "77"
    assert "RedrivePolicy" not in names["orders-dlq.fifo"]
    assert {found["MessageRetentionPeriod"] for found in attributes} == {"1209600"}


def test_health_counts_and_tells_no_names(file):
    with fanfold_server(file, "--create", "orders.fifo") as server:
        sqs = client(server.url)
        for n in range(3):
            sqs.send_message(
                QueueUrl=server.queues[0], MessageBody="b", MessageGroupId=str(n), MessageDeduplicationId=str(n)
            )
        sqs.receive_message(QueueUrl=server.queues[0])
        found = health(server.url)
        sqs.close()
    assert (found.pop("seconds") > 0, found.pop("version")) == (True, __version__)
    assert found == {
        "status": "ok",
        "queues": 2,
        "polls": 0,
        "messages": {"available": 2, "in_flight": 1, "delayed": 0},
    }


def test_with_keys_each_may_do_what_it_is_for(file):
    with fanfold_server(file, "--create", "orders.fifo", **KEYS) as server:
        url = server.queues[0]
        producer, worker, operator = (client(server.url, name) for name in SECRETS)
        producer.send_message(QueueUrl=url, MessageBody="b", MessageGroupId="g", MessageDeduplicationId="d")
        with pytest.raises(ClientError, match="AccessDenied"):
            producer.receive_message(QueueUrl=url)
        [received] = worker.receive_message(QueueUrl=url)["Messages"]
        worker.delete_message(QueueUrl=url, ReceiptHandle=received["ReceiptHandle"])
        with pytest.raises(ClientError, match="AccessDenied"):
            worker.purge_queue(QueueUrl=url)
        operator.purge_queue(QueueUrl=url)
        for one in (producer, worker, operator):
            one.close()


def test_with_keys_nobody_else_is_served(file):
    with fanfold_server(file, **KEYS) as server:
        stranger = client(server.url, "stranger")
        with pytest.raises(ClientError, match="InvalidClientTokenId"):
            stranger.list_queues()
        impostor = boto3.client(
            "sqs",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id="AKOPERATOR",
            aws_secret_access_key=SECRETS["worker"],
        )
        with pytest.raises(ClientError, match="SignatureDoesNotMatch") as caught:
            impostor.list_queues()
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        stranger.close()
        impostor.close()


def test_another_regions_signature_is_refused_with_the_name_of_ours(file):
    with fanfold_server(file, "--region", "eu-central-1", **KEYS) as server:
        sqs = client(server.url)
        with pytest.raises(ClientError, match="Here it is 'eu-central-1'"):
            sqs.list_queues()
        sqs.close()


@pytest.mark.parametrize("form", ["text", "json"])
def test_requests_are_logged_on_demand_without_secrets_or_bodies(file, form):
    options = ("--create", "orders.fifo", "--log-requests", "--log-format", form)
    with fanfold_server(file, *options, **KEYS) as server:
        sqs = client(server.url)
        sent = sqs.send_message(
            QueueUrl=server.queues[0],
            MessageBody="confidential",
            MessageGroupId="confidential",
            MessageDeduplicationId="confidential",
        )
        sqs.close()
        written = server.end()
    [line] = written.splitlines()
    for word in ("request.served", "127.0.0.1:", "SendMessage", "orders.fifo", "AKOPERATOR", "200"):
        assert word in line
    assert sent["ResponseMetadata"]["RequestId"] in line
    assert not any(word in written for word in ("confidential", "Signature", *SECRETS.values()))


def test_what_is_no_request_is_logged_too(file):
    with fanfold_server(file, "--log-requests") as server:
        host, _, port = server.url.rpartition("/")[2].partition(":")
        with socket.create_connection((host, int(port))) as client, client.makefile("rb") as answer:
            client.sendall(b"nonsense\r\n\r\n")
            told = answer.read().decode()
            name = client.getsockname()[1]
        health(server.url)
        refused, looked = server.end().splitlines()
    request_id = re.search("x-amzn-requestid: (.*)\r\n", told)[1]
    for word in (request_id, f"client=127.0.0.1:{name}", "status=400"):
        assert word in refused
    assert "path=/health" in looked


def test_without_that_nothing_is_logged(file):
    with fanfold_server(file) as server:
        health(server.url)
        assert server.end() == ""


def test_people_are_told_how_to_use_it():
    ran = CliRunner().invoke(main, ["serve", "--help"])
    assert "AWS_ENDPOINT_URL_SQS=http://127.0.0.1:9324" in ran.output
