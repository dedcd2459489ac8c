"""What differs between environments, and where each value comes from.

Order of precedence, first one wins: a command line option, an argument in code, a `FANFOLD_*` variable, the AWS-style
variable of the same meaning, the default.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fanfold.errors import ConfigurationError

T = TypeVar("T")

VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "queue_url": ("FANFOLD_QUEUE_URL", "SQS_TASK_QUEUE_URL"),
    "dlq_url": ("FANFOLD_DLQ_URL", "SQS_DLQ_URL"),
    "ledger": ("FANFOLD_LEDGER",),
    "region": ("FANFOLD_REGION", "AWS_DEFAULT_REGION"),
    "concurrency": ("FANFOLD_CONCURRENCY",),
    "lease": ("FANFOLD_LEASE",),
    "max_attempts": ("FANFOLD_MAX_ATTEMPTS",),
    "grace": ("FANFOLD_GRACE",),
}
"""Each setting's environment variables, in order of precedence."""

DEFAULT_QUEUE_URL: Final = "sqlite:///fanfold.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the queue and the ledger are, and how much a worker takes on.

    `ledger`: a URL, `none` for no ledger, or None: with the embedded queue the same file, with SQS none.
    `lease` and `grace` are seconds.
    """

    queue_url: str = DEFAULT_QUEUE_URL
    dlq_url: str | None = None
    ledger: str | None = None
    region: str | None = None
    concurrency: int = 10
    lease: float = 60.0
    max_attempts: int = 5
    grace: float = 30.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ConfigurationError(f"max_attempts={self.max_attempts}: a task is tried at least once")


def resolve(given: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from what was `given` (None: not given), then the environment, then the defaults.

    Raises:
        ConfigurationError: a variable's value isn't of its setting's type; the text names it.
    """
    return Settings(**values(given, environ, VARIABLES, _TYPES))


def values(
    given: Mapping[str, Any],
    environ: Mapping[str, str],
    variables: Mapping[str, Sequence[str]],
    types: Mapping[str, Callable[[str], Any]],
) -> dict[str, Any]:
    """What was `given` (None: not given), and for the rest of `variables` what the environment says of them.

    Raises:
        ConfigurationError: a variable's value isn't of its type in `types` (a ValueError there; str where it has none).
    """
    found = {name: value for name, value in given.items() if value is not None}
    for name, names in variables.items():
        set_ = next((variable for variable in names if environ.get(variable)), None)
        if name not in found and set_ is not None:
            found[name] = _typed(set_, environ[set_], types.get(name, str))
    return found


def _seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


_TYPES: Final[Mapping[str, Callable[[str], Any]]] = {
    "concurrency": int,
    "max_attempts": int,
    "lease": _seconds,
    "grace": _seconds,
}


def _typed(variable: str, text: str, convert: Callable[[str], T]) -> T:
    try:
        return convert(text)
    except ValueError as error:
        raise ConfigurationError(f"{variable}={text!r}: it must be a number") from error
