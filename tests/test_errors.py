from __future__ import annotations

import inspect
import pickle

import pytest

from fanfold import errors
from fanfold.errors import FanfoldError, FanOutIncompleteError, PermissionMissingError

TREE = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
ARGUMENTS = {
    FanOutIncompleteError: ("f" * 32, ["words", "roof"], "throttled"),
    PermissionMissingError: ("sqs:DeleteMessage", "the worker may not delete"),
}


def made(kind):
    return kind(*ARGUMENTS.get(kind, ("what, why, cure",)))


@pytest.mark.parametrize("kind", TREE)
def test_every_error_hangs_in_one_tree(kind):
    assert issubclass(kind, FanfoldError)


@pytest.mark.parametrize("kind", TREE)
def test_every_error_comes_back_from_another_process_whole(kind):
    error = made(kind)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ConfigurationError, ValueError),
        (errors.InvalidInputError, ValueError),
        (errors.UnknownTaskError, ValueError),
        (errors.DeclarationError, TypeError),
        (errors.MissingExtraError, ImportError),
    ],
)
def test_a_callers_mistake_is_also_the_builtin_error_that_one_expects(kind, builtin):
    assert issubclass(kind, builtin)


def test_what_may_succeed_later_by_itself_is_transient():
    assert {kind.__name__ for kind in TREE if kind.transient} == {
        "BrokerUnavailableError",
        "KafkaUnavailableError",
        "LedgerUnavailableError",
        "StorageBusyError",
        "StorageFullError",
    }


def test_a_file_that_fails_is_both_the_queues_and_the_ledgers_error():
    assert issubclass(errors.StorageError, errors.BrokerError)
    assert issubclass(errors.StorageError, errors.LedgerError)


def test_an_incomplete_fan_out_names_what_is_missing_why_and_the_cure():
    error = FanOutIncompleteError("f" * 32, ["words", "roof"], "throttled")
    assert error.unsent == ("words", "roof")
    assert str(error) == (
        f"2 task(s) of fan-out {'f' * 32} were not accepted by the queue (throttled): words, roof. "
        "Enqueue the same event again: what was accepted is not sent twice."
    )


def test_an_incomplete_fan_outs_text_shows_ten_names_and_keeps_all():
    error = FanOutIncompleteError("f" * 32, [f"task{number}" for number in range(11)], "throttled")
    assert "task9, …." in str(error)
    assert len(error.unsent) == 11


def test_a_missing_permission_names_its_action():
    assert made(PermissionMissingError).action == "sqs:DeleteMessage"


def test_every_error_says_what_it_is_for():
    assert [kind for kind in TREE if not kind.__doc__] == []
