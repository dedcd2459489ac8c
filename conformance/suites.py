"""The suites: where each comes from, and how it is run against an endpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from conformance.environments import CACHE, ROOT, Environment, Source
from conformance.outcomes import Run, read_run
from conformance.peers import ACCOUNT, REGION

CONFTESTS: Final = Path(__file__).with_name("conftests")
_PYTEST: Final = ("-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "-W", "ignore", "--timeout=120")
_WHOLE: Final = (0, 1, 5)
"""How pytest ends that went through all cases: none failed, some did, none was chosen. It ends otherwise where it fell
over itself, which must not pass for a run without failures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A suite that others wrote."""

    name: str
    environment: Environment
    source: Source
    tests: Sequence[str]
    settings: Callable[[str], Mapping[str, str]]
    """The environment variables that point it at an endpoint."""
    options: Sequence[str] = ()
    serve: Sequence[str] = ()
    """What `fanfold serve` is started with for it."""

    def run(self, url: str, arguments: Sequence[str]) -> Run:
        """Run it against an endpoint. Raises UnavailableError where it can't be had."""
        python = self.environment.make()
        folder = self.source.unpack(python, CONFTESTS / f"{self.name}.py")
        command = [python, "-m", "pytest", *self.tests, *_PYTEST, *self.options]
        return _run(self.name, [*command, *arguments], folder, {**_CREDENTIALS, **self.settings(url)})


_CREDENTIALS: Final[Mapping[str, str]] = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": REGION,
}


def _localstack_settings(url: str) -> dict[str, str]:
    where = urlsplit(url).netloc
    return {
        "TEST_AWS_ENDPOINT_URL": url,
        "TEST_SKIP_LOCALSTACK_START": "1",
        "TEST_AWS_ACCOUNT_ID": ACCOUNT,
        # Some cases ask LocalStack's configuration where the endpoint is.
        "GATEWAY_LISTEN": where,
        "LOCALSTACK_HOST": where,
        "SERVICES": "sqs",
        "STRICT_SERVICE_LOADING": "1",
    }


def _moto_settings(url: str) -> dict[str, str]:
    return {
        "TEST_SERVER_MODE": "true",
        "TEST_SERVER_MODE_ENDPOINT": url,
        "MOTO_CALL_RESET_API": "false",
        "MOTO_ACCOUNT_ID": ACCOUNT,
    }


LOCALSTACK: Final = Suite(
    name="localstack",
    environment=Environment(name="localstack", python=(3, 13)),
    # The newest source distribution that has these cases.
    source=Source(
        package="localstack-core",
        version="4.0.3",
        members=(
            "tests/__init__.py",
            "tests/aws/__init__.py",
            "tests/aws/services/__init__.py",
            "tests/aws/services/sqs",
            # Two names are imported from here.
            "tests/aws/services/lambda_/__init__.py",
            "tests/aws/services/lambda_/functions",
            "tests/aws/services/lambda_/test_lambda.py",
            "tests/aws/services/lambda_/utils.py",
        ),
    ),
    # The third file there is about an endpoint of LocalStack's own, beside the SQS API.
    tests=("tests/aws/services/sqs/test_sqs.py", "tests/aws/services/sqs/test_sqs_move_task.py"),
    settings=_localstack_settings,
    options=("--offline", "-n", "8", "--reruns", "1"),
)

MOTO: Final = Suite(
    name="moto",
    environment=Environment(name="moto"),
    source=Source(
        package="moto",
        version="5.2.5",
        members=("tests/__init__.py", "tests/markers.py", "tests/test_sqs"),
    ),
    # The others need CloudFormation, Lambda, STS or moto's own process.
    tests=("tests/test_sqs/test_sqs.py", "tests/test_sqs/test_sqs_message_attributes.py"),
    settings=_moto_settings,
    options=("--reruns", "1"),
    serve=("--recreate-at-once",),
)

FOREIGN: Final = (LOCALSTACK, MOTO)


def run_differential(url: str, peer: str, arguments: Sequence[str]) -> Run:
    """Our own comparison of two endpoints: `tests/differential`."""
    command = [sys.executable, "-m", "pytest", "tests/differential", *_PYTEST, "-p", "no:xdist", "-o", "addopts="]
    settings = {**_CREDENTIALS, "FANFOLD_ENDPOINT": url, "FANFOLD_PEER_ENDPOINT": peer}
    return _run("differential", [*command, *arguments], ROOT, settings)


def _run(name: str, command: Sequence[str], folder: Path, settings: Mapping[str, str]) -> Run:
    report = CACHE / f"suite-{name}.jsonl"
    report.unlink(missing_ok=True)
    with (CACHE / f"suite-{name}.log").open("w") as log:
        environ = {**os.environ, **settings}
        ended = subprocess.run(
            [*command, f"--report-log={report}"], cwd=folder, env=environ, stdout=log, stderr=log, check=False
        )
    if ended.returncode not in _WHOLE or not report.exists():
        raise RuntimeError(f"{name}: pytest ended with {ended.returncode}, not by its cases; see {log.name}")
    return read_run(report)
