"""The doctor's judgement on made-up set-ups, and its look at real ones."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import sys
import threading
from email.utils import formatdate

import pytest
from click.testing import CliRunner

from fanfold.brokers.lean import LeanTransport
from fanfold.cli import main
from fanfold.deploy import file, probes
from fanfold.deploy.doctor import judge
from fanfold.deploy.findings import Application, Denial, Grade, Seen, worst
from fanfold.deploy.roles import GRANTS, ROLES
from fanfold.errors import BrokerUnavailableError, PermissionMissingError, QueueNotFoundError

ARN = "arn:aws:sqs:eu-west-1:123456789012:"
GOOD = {
    "FifoQueue": "true",
    "FifoThroughputLimit": "perMessageGroupId",
    "DeduplicationScope": "messageGroup",
    "MessageRetentionPeriod": "1209600",
    "VisibilityTimeout": "60",
    "SqsManagedSseEnabled": "true",
}
POLICY = json.dumps({"deadLetterTargetArn": f"{ARN}tasks-dlq.fifo", "maxReceiveCount": 100})
SEEN = Seen(
    queue_url="https://x/1/tasks.fifo",
    region="eu-west-1",
    queue={**GOOD, "RedrivePolicy": POLICY, "QueueArn": f"{ARN}tasks.fifo"},
    dlq_url="https://x/1/tasks-dlq.fifo",
    dlq=GOOD,
    skew=0.0,
    round_trip=0.01,
    key_kind="role",
)
APPLICATION = Application(lease=60, max_attempts=5, timeouts={"good": 60.0}, has_ledger=True)


def bad(seen=SEEN, application=APPLICATION):
    return [finding for finding in judge(seen, application) if finding.grade is not Grade.OK]


def seen(*, queue=None, dlq=None, **fields):
    changed = {"queue": {**SEEN.queue, **(queue or {})}, "dlq": {**SEEN.dlq, **(dlq or {})}, **fields}
    return dataclasses.replace(SEEN, **changed)


def allowing(permission, *sources):
    return {"RedriveAllowPolicy": json.dumps({"redrivePermission": permission, "sourceQueueArns": sources})}


def doctor(*arguments):
    return CliRunner().invoke(main, ["doctor", *arguments])


def test_a_set_up_that_is_right_has_nothing_against_it_and_says_what_was_looked_at():
    found = judge(SEEN, APPLICATION)
    assert bad() == []
    assert worst(found) is Grade.OK
    assert [finding.check for finding in found] == [
        "fifo", "throughput", "visibility", "retention", "encryption", "redrive", "dlq", "dlq.retention",
        "dlq.encryption", "dlq.allow", "permission", "keys", "clock", "round-trip", "lease", "timeout",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "grade", "said"),
    [
        (seen(queue={"FifoThroughputLimit": "perQueue"}), Grade.WARNING, "high throughput is off"),
        (seen(queue={"DeduplicationScope": "queue"}), Grade.WARNING, "DeduplicationScope is queue"),
        (seen(queue={"VisibilityTimeout": "0"}), Grade.WARNING, "visibility timeout of tasks.fifo is 0 s"),
        (seen(queue={"VisibilityTimeout": "43200"}), Grade.WARNING, "visibility timeout of tasks.fifo is 43,200 s"),
        (seen(queue={"MessageRetentionPeriod": "3600"}), Grade.WARNING, "tasks.fifo keeps messages for 1 hour"),
        (seen(dlq={"MessageRetentionPeriod": "86400"}), Grade.WARNING, "tasks-dlq.fifo keeps messages for 1 day"),
        (seen(queue={"SqsManagedSseEnabled": "false"}), Grade.WARNING, "tasks.fifo isn't encrypted"),
        (seen(dlq={"SqsManagedSseEnabled": "false"}), Grade.WARNING, "tasks-dlq.fifo isn't encrypted"),
        (seen(dlq={"FifoQueue": "false"}), Grade.ERROR, "dead letter queue tasks-dlq.fifo isn't FIFO"),
        (seen(dlq=allowing("denyAll")), Grade.ERROR, "doesn't let tasks.fifo set messages aside"),
        (seen(dlq=allowing("byQueue", f"{ARN}other.fifo")), Grade.ERROR, "doesn't let tasks.fifo"),
        (seen(queue={"RedrivePolicy": ""}), Grade.WARNING, "no redrive policy"),
        (seen(queue={"RedrivePolicy": POLICY.replace("100", '"5"')}), Grade.ERROR, "isn't above max_attempts 5"),
        (seen(queue={"RedrivePolicy": POLICY.replace("-dlq", "-old")}), Grade.WARNING, "SQS sets aside in tasks-old"),
        (dataclasses.replace(SEEN, dlq=None, dlq_url=None), Grade.ERROR, f"{ARN}tasks-dlq.fifo isn't there"),
        (dataclasses.replace(SEEN, dlq=None, dlq_gone=True), Grade.ERROR, "https://x/1/tasks-dlq.fifo isn't there"),
        (
            seen(denied=[Denial(action="sqs:DeleteMessage", queue="tasks.fifo")]),
            Grade.ERROR,
            "sqs:DeleteMessage on tas",
        ),
        (seen(key_kind="long-lived"), Grade.WARNING, "long-lived access keys"),
        (seen(skew=90.0), Grade.WARNING, "90 s ahead"),
        (seen(skew=-400.0), Grade.ERROR, "400 s behind"),
        (seen(round_trip=0.25), Grade.WARNING, "takes 250 ms"),
    ],
)
def test_each_fault_is_found_with_its_reason_and_its_cure(found, grade, said):
    [finding] = bad(found)
    assert finding.grade is grade
    assert said in finding.what
    assert finding.why
    assert finding.cure


def test_a_queue_without_a_dead_letter_queue_is_said_to_have_none():
    alone = dataclasses.replace(seen(queue={"RedrivePolicy": ""}), dlq=None, dlq_url=None)
    assert [finding.what for finding in bad(alone)] == [
        "tasks.fifo has no redrive policy",
        "no dead letter queue is known",
    ]


def test_what_cures_a_queue_that_is_not_on_aws_does_not_reach_for_aws():
    local = dataclasses.replace(seen(queue={"RedrivePolicy": ""}), endpoint="http://127.0.0.1:9324")
    [finding] = bad(local)
    assert "--endpoint-url http://127.0.0.1:9324 --yes" in finding.cure
    assert "--region" not in finding.cure


def test_a_cure_keeps_what_else_the_queue_was_set_up_with():
    policy = POLICY.replace("100", "50")
    there = {"KmsMasterKeyId": "alias/q", "VisibilityTimeout": "90", "MessageRetentionPeriod": "86400"}
    [finding] = bad(seen(queue={**there, "RedrivePolicy": policy}))
    assert finding.cure == (
        "fanfold provision tasks.fifo --dlq-name tasks-dlq.fifo --retention 14 --encryption alias/q --visibility 90 "
        "--max-receive-count 50 --region eu-west-1 --yes"
    )
    slow = [f.cure for f in bad(seen(queue={"FifoThroughputLimit": "perQueue", "VisibilityTimeout": "0"}))]
    assert ["--no-high-throughput" in cure for cure in slow] == [False, True]


def test_a_missing_right_is_cured_by_a_policy_for_the_queues_own_account_and_key():
    denied = seen(queue={"KmsMasterKeyId": "alias/q"}, denied=[Denial(action="kms:Decrypt", queue="tasks.fifo")])
    [finding] = bad(dataclasses.replace(denied, queue_url="https://sqs.eu-west-1.amazonaws.com/123456789012/t.fifo"))
    assert finding.cure.endswith("--account 123456789012 --encryption alias/q")


@pytest.mark.parametrize(
    ("application", "said"),
    [
        ({"timeouts": {"long": 43_200}}, "'long' may run for 43,200 s"),
        ({"folds": True, "has_ledger": False}, "on_complete is declared"),
        ({"attempts": {"stubborn": 100}}, "isn't above max_attempts 100"),
        ({"lease": 5.0}, "the lease is 5 s"),
        ({"lease": 3_600.0}, "the lease is 3600 s"),
    ],
)
def test_the_tasks_are_looked_at_too(application, said):
    [finding] = bad(application=dataclasses.replace(APPLICATION, **application))
    assert said in finding.what


@pytest.mark.parametrize("found", [seen(dlq=allowing("allowAll")), seen(dlq=allowing("byQueue", f"{ARN}tasks.fifo"))])
def test_a_dead_letter_queue_that_lets_this_queue_in_is_fine(found):
    assert bad(found) == []


def test_a_cure_is_a_command_that_the_command_line_takes():
    commands = [f.cure for f in bad(seen(queue={"MessageRetentionPeriod": "60"}))]
    commands += [f.cure for f in bad(seen(queue={"RedrivePolicy": POLICY.replace("100", "5")}))]
    for command in commands:
        fanfold, name, *arguments = command.split()
        assert fanfold == "fanfold"
        main.commands[name].make_context(name, arguments)


class Denying:
    """A transport that may look at queues, and nothing else."""

    async def call(self, action, payload):  # noqa: ARG002 - what is asked with is all the same
        if action == "GetQueueAttributes":
            return {"Attributes": GOOD}
        raise PermissionMissingError(f"sqs:{action}", "denied")


@pytest.mark.parametrize("role", ROLES)
async def test_every_permission_that_a_role_lacks_is_found(role):
    found = await probes.look(Denying(), "https://x/1/tasks.fifo", "https://x/1/tasks-dlq.fifo", role=role)
    lacking = {(denial.queue, denial.action.removeprefix("sqs:")) for denial in found.denied}
    assert lacking == {("tasks.fifo", action) for action in GRANTS[role].queue if action != "GetQueueAttributes"} | {
        ("tasks-dlq.fifo", action) for action in GRANTS[role].dlq if action != "GetQueueAttributes"
    }


@pytest.mark.parametrize("error", [QueueNotFoundError("gone"), BrokerUnavailableError("away")])
async def test_a_queue_that_cant_be_asked_is_no_finding_about_permissions(error):
    class Failing:
        async def call(self, action, payload):  # noqa: ARG002 - as above
            raise error

    with pytest.raises(type(error)):
        await probes.look(Failing(), "https://x/1/tasks.fifo", None)


@pytest.mark.parametrize("role", ROLES)
async def test_probing_a_queue_leaves_it_as_it_was(sqs_client, sqs_queue, role):
    for queue in sqs_queue:
        sqs_client.send_message(QueueUrl=queue, MessageBody="{}", MessageGroupId="g", MessageDeduplicationId="d")
    transport = LeanTransport(sqs_queue[0])
    found = await probes.look(transport, *sqs_queue, role=role)
    transport.close()
    assert found.denied == []
    assert found.queue["FifoQueue"] == found.dlq["FifoQueue"] == "true"
    assert found.round_trip > 0
    for queue in sqs_queue:
        [message] = sqs_client.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, MessageSystemAttributeNames=["All"]
        )["Messages"]
        assert message["Attributes"]["ApproximateReceiveCount"] == "1"


@pytest.mark.parametrize(
    ("key", "kind"),
    [("AKIAIOSFODNN7EXAMPLE", "long-lived"), ("ASIAIOSFODNN7EXAMPLE", "role"), (None, None), ("", None)],
)
def test_a_users_key_is_told_from_a_roles(key, kind):
    assert probes.kind_of(key) == kind


@pytest.fixture
def dated():
    """A server whose answers, all of them refusals, have a date of choice: its address and where to set it."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        date = 1_000_000_000.0

        def do_HEAD(self):
            self.send_response_only(403)
            self.send_header("Date", formatdate(Refusing.date, usegmt=True))
            self.end_headers()

        def log_message(self, *_): ...

    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/1/tasks.fifo"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("ahead", [-400.0, 0.0, 90.0])
def test_the_clock_is_compared_with_the_date_of_a_refusal(dated, ahead):
    skew = probes.clock_skew(dated, "eu-west-1", now=lambda: 1_000_000_000.5 + ahead)
    assert skew == pytest.approx(ahead)


def test_where_nobody_answers_the_clock_is_unknown():
    assert probes.clock_skew("http://127.0.0.1:1/1/tasks.fifo", "eu-west-1") is None


@pytest.mark.usefixtures("sqs_client")  # for its credentials
def test_the_command_says_what_cures_each_finding_and_its_exit_code_how_bad_it_is(sqs_queue):
    ran = doctor("--queue-url", sqs_queue[0], "--region", "eu-west-1")
    assert (ran.exit_code, "ERROR" in ran.stdout) == (3, False)
    for said in ("high throughput is off", "there is no ledger", "cure: fanfold provision tasks", "no permission"):
        assert said in ran.stdout


@pytest.mark.usefixtures("sqs_client")  # for its credentials
def test_a_script_gets_every_check_and_a_ledger_in_a_file_beside_a_queue_on_sqs_is_worth_a_thought(sqs_queue, tmp_path):
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    CliRunner().invoke(main, ["provision", "--queue-url", ledger, "--yes"])
    told = json.loads(doctor("--queue-url", sqs_queue[0], "--ledger", ledger, "--json").stdout)
    found = {finding["check"]: finding["grade"] for finding in told}
    assert found["ledger"] == "warning"
    assert {"fifo", "throughput", "redrive", "dlq", "permission", "clock", "round-trip", "lease"} <= found.keys()


REFUSALS = [
    ("InvalidClientTokenId", 403, "AWS refused the credentials (InvalidClientTokenId)", "cure: run with a role"),
    ("ExpiredTokenException", 400, "AWS refused the credentials (ExpiredTokenException)", "cure: run with a role"),
    ("AccessDeniedException", 400, "sqs:ReceiveMessage on tasks.fifo is denied", "--role worker"),
    ("KmsAccessDenied", 400, "kms:Decrypt on tasks.fifo is denied", "--role worker"),
    ("InvalidSecurity", 403, "InvalidSecurity: ", "cure: "),
]


@pytest.mark.usefixtures("sqs_client")  # for its credentials
@pytest.mark.parametrize(("code", "status", "what", "cure"), REFUSALS)
def test_what_aws_refuses_is_a_finding_with_its_cure_and_nothing_else_is_printed(code, status, what, cure):
    with refusing(code, status) as endpoint:
        ran = doctor("--queue-url", f"{endpoint}/123456789012/tasks.fifo", "--region", "eu-west-1")
    assert (ran.exit_code, ran.stderr) == (1, "")
    assert what in ran.stdout
    assert cure in ran.stdout


@contextlib.contextmanager
def refusing(code, status):
    """What answers every request of the SQS API with one error, as AWS words it."""

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            action = "kms:Decrypt" if code.startswith("Kms") else f"sqs:{self.headers['X-Amz-Target'].split('.')[1]}"
            text = f"User: arn:aws:sts::1:assumed-role/w/i is not authorized to perform: {action} on resource: it"
            body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": text}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_an_embedded_set_up_is_right(tmp_path):
    url = f"sqlite:///{tmp_path}/tasks.db"
    CliRunner().invoke(main, ["provision", "--queue-url", url, "--yes"])
    ran = doctor("--queue-url", url, "--json")
    assert (ran.exit_code, {finding["grade"] for finding in json.loads(ran.stdout)}) == (0, {"ok"})


def test_an_embedded_queue_that_nobody_has_made_is_said_and_not_made(tmp_path):
    ran = doctor("--queue-url", f"sqlite:///{tmp_path}/tasks.db")
    assert (ran.exit_code, "there is no such file here" in ran.stdout) == (3, True)
    assert list(tmp_path.iterdir()) == []


def test_a_queue_that_an_embedded_file_lacks_is_said_and_not_made(tmp_path):
    url = f"sqlite:///{tmp_path}/tasks.db"
    CliRunner().invoke(main, ["provision", "--queue-url", url, "--yes"])
    ran = doctor("--queue-url", f"{url}?queue=typo.fifo")
    assert (ran.exit_code, "has no queue typo.fifo; it has tasks-dlq.fifo, tasks.fifo" in ran.stdout) == (3, True)
    assert set(file.look(tmp_path / "tasks.db").queues) == {"tasks.fifo", "tasks-dlq.fifo"}


def test_an_embedded_queue_whose_backstop_is_below_its_tasks_attempts_is_found(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/tasks.db"
    CliRunner().invoke(main, ["provision", "--queue-url", url, "--max-receive-count", "7", "--yes"])
    monkeypatch.setenv("FANFOLD_MAX_ATTEMPTS", "7")
    ran = doctor("--queue-url", url)
    assert (ran.exit_code, "maxReceiveCount 7 isn't above max_attempts 7" in ran.stdout) == (1, True)
    [cure] = [line.partition("cure:")[2] for line in ran.stdout.splitlines() if "cure:" in line]
    assert CliRunner().invoke(main, cure.split()[1:]).exit_code == 0
    assert doctor("--queue-url", url).exit_code == 0


@pytest.mark.usefixtures("sqs_client")  # for its credentials
def test_a_ledger_in_a_file_that_nobody_has_made_hides_nothing_about_the_queue(sqs_queue, tmp_path):
    ran = doctor("--queue-url", sqs_queue[0], "--ledger", f"sqlite:///{tmp_path}/ledger.db")
    assert (ran.exit_code, "high throughput is off" in ran.stdout) == (3, True)
    assert f"the ledger isn't set up: create {tmp_path}/ledger.db" in ran.stdout
    assert f"--ledger sqlite:///{tmp_path}/ledger.db" in ran.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """An application that reads from Kafka and writes to it, in an embedded set-up; doctor's findings about Kafka."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    url = "sqlite:///tasks.db"
    CliRunner().invoke(main, ["provision", "--queue-url", url, "--yes"])

    def examine(brokers):
        monkeypatch.setenv("FANFOLD_KAFKA_BROKERS", brokers)
        told = json.loads(doctor("--app", "shop:app", "--queue-url", url, "--json").stdout)
        return [(found["check"], found["grade"], found["what"]) for found in told if "kafka" in found["check"]]

    return examine


SHOP = """
from fanfold import Fanfold

app = Fanfold()


@app.event("orders")
def plan(event): ...


app.publish_completions("done")
"""


def test_topics_that_kafka_lacks_are_found(shop, kafka_mock):
    kafka_mock.make_topic("orders", 1)
    assert shop(kafka_mock.address) == [
        ("kafka", "ok", f"Kafka at {kafka_mock.address} answers"),
        ("kafka.topic", "error", "there is no topic 'done', or none that these credentials may see"),
    ]


def test_kafka_that_is_away_is_found(shop):
    [(check, grade, what)] = shop("127.0.0.1:1")
    assert (check, grade) == ("kafka", "error")
    assert what.startswith("Kafka at 127.0.0.1:1 can't be reached")


def test_kafka_that_nobody_names_is_found(shop):
    [(_, grade, what)] = shop("")
    assert (grade, "no Kafka brokers" in what) == ("error", True)


def test_a_queue_that_is_gone_is_an_error(sqs_client, sqs_endpoint):
    url = f"{sqs_endpoint}/123456789012/nowhere.fifo"
    assert sqs_client is not None
    ran = doctor("--queue-url", url, "--region", "eu-west-1")
    assert (ran.exit_code, "doesn't exist" in ran.stdout) == (1, True)


@pytest.mark.parametrize(
    ("queue", "dlq", "said"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/tasks", None, "ends in .fifo"),
        (
            "https://sqs.eu-west-1.amazonaws.com/1/t.fifo",
            "https://sqs.eu-west-2.amazonaws.com/1/d.fifo",
            "another region",
        ),
        (
            "https://sqs.eu-west-1.amazonaws.com/1/t.fifo",
            "https://sqs.eu-west-1.amazonaws.com/2/d.fifo",
            "another account",
        ),
        ("https://sqs.eu-west-1.amazonaws.com/1/t.fifo", "https://sqs.eu-west-1.amazonaws.com/1/d", "isn't FIFO"),
        ("ftp://tasks", None, "write sqlite:///tasks.db"),
    ],
)
def test_what_cant_work_is_said_before_anybody_is_asked(queue, dlq, said):
    ran = doctor("--queue-url", queue, *(["--dlq-url", dlq] if dlq else []))
    assert (ran.exit_code, said in ran.stdout) == (1, True)
