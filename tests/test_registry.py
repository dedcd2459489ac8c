from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pytest

from fanfold import Fanfold, limits
from fanfold.errors import ConfigurationError, DeclarationError, InvalidInputError, UnknownTaskError
from fanfold.model import FOLD_NAME, Timeout
from fanfold.registry import DEFAULT_TIMEOUT, Registry, Runs, check_text
from fanfold.retry import Backoff


class Roof(msgspec.Struct):
    pitch: int


@dataclass
class Wall:
    height: float


class Door(TypedDict):
    width: int


class Window:
    """Validates as pydantic's models do."""

    def __init__(self, panes):
        self.panes = panes

    @classmethod
    def model_validate(cls, raw):
        if "panes" not in raw:
            raise ValueError("panes: field required")
        return cls(raw["panes"])


@pytest.fixture
def registry():
    return Registry()


def plain(entity_id):
    return entity_id


async def asynchronous(entity_id):
    return entity_id


def with_context(context):
    return context


def configured(registry, config_type):
    def task(task_config):
        return task_config

    task.__annotations__["task_config"] = config_type
    registry.add(task)
    return registry.get("task")


def test_a_task_is_found_by_its_name(registry):
    registry.add(plain, "words")
    assert registry.get("words").function is plain
    assert ("words" in registry, "plain" in registry, len(registry)) == (True, False, 1)


def test_without_a_name_a_task_has_its_functions(registry):
    registry.add(plain)
    assert [definition.name for definition in registry] == ["plain"]


def test_declaring_leaves_the_function_as_it_is(registry):
    assert registry.add(plain) is plain


@pytest.mark.parametrize(
    ("function", "options", "runs"),
    [
        (asynchronous, {}, Runs.ON_LOOP),
        (plain, {}, Runs.IN_THREAD),
        (plain, {"process": True}, Runs.IN_PROCESS),
    ],
)
def test_a_functions_kind_says_where_it_runs(registry, function, options, runs):
    registry.add(function, "task", **options)
    assert registry.get("task").runs is runs


class Callable:
    async def __call__(self, entity_id): ...


def test_an_object_whose_call_is_async_runs_on_the_loop(registry):
    registry.add(Callable(), "task")
    assert registry.get("task").runs is Runs.ON_LOOP


def test_a_task_that_says_nothing_gets_the_defaults(registry):
    registry.add(plain)
    found = registry.get("plain")
    assert (found.timeout, found.max_attempts, found.backoff) == (DEFAULT_TIMEOUT, None, Backoff())


def test_options_are_kept(registry):
    registry.add(plain, timeout=Timeout.DATABASE, max_attempts=8, backoff=Backoff(base=1))
    found = registry.get("plain")
    assert (found.timeout, found.max_attempts, found.backoff) == (120.0, 8, Backoff(base=1))


def test_a_task_asks_by_parameter_name(registry):
    registry.add(lambda metadata, entity_id, *, context=None: (metadata, entity_id, context), "task")
    assert dict(registry.get("task").parameters) == {
        "metadata": "metadata",
        "entity_id": "entity_id",
        "context": "context",
    }


def test_keywords_without_names_take_everything(registry):
    registry.add(lambda task_config, **rest: (task_config, rest), "task")
    assert sorted(registry.get("task").parameters) == ["context", "entity_id", "metadata", "task_config", "task_name"]


def test_a_task_may_ask_for_nothing(registry):
    registry.add(lambda: 1, "task")
    assert dict(registry.get("task").parameters) == {}


@pytest.mark.parametrize(
    ("function", "asked"),
    [
        (lambda doc: doc, "'doc'"),
        (lambda entity_id, config=None: (entity_id, config), "'config=None'"),
        (lambda *args: args, r"'\*args'"),
        (lambda entity_id, /: entity_id, "'entity_id'"),
        (lambda fan_out: fan_out, "'fan_out'"),
    ],
    ids=["unknown", "unknown with a default", "positional", "positional only", "the fold's"],
)
def test_an_unknown_parameter_is_an_error_that_names_the_known_ones(registry, function, asked):
    known = "entity_id, task_name, task_config, metadata, context"
    with pytest.raises(DeclarationError, match=rf"task 'task' asks for {asked}; .* by keyword, for {known}"):
        registry.add(function, "task")


def test_an_unknown_option_is_an_error_that_names_the_known_ones(registry):
    with pytest.raises(DeclarationError, match="unknown option 'retries'; there are timeout, max_attempts, backoff"):
        registry.add(plain, retries=3)


def test_what_failed_to_be_declared_isnt_there(registry):
    with pytest.raises(DeclarationError):
        registry.add(plain, retries=3)
    assert len(registry) == 0


def test_a_name_is_declared_once(registry):
    registry.add(plain, "words")
    with pytest.raises(DeclarationError, match="task 'words' is declared twice"):
        registry.add(asynchronous, "words")


@pytest.mark.parametrize("name", [FOLD_NAME, "fanfold.mine"])
def test_our_own_names_are_reserved(registry, name):
    with pytest.raises(DeclarationError, match=r"'fanfold.' are reserved"):
        registry.add(plain, name)


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "non-empty"), (7, "non-empty"), ("x" * 257, "257 characters; at most 256"), ("a\0", "SQS refuses")],
    ids=["empty", "not text", "too long", "control character"],
)
def test_a_name_that_sqs_cant_carry_is_an_error(registry, name, said):
    with pytest.raises(DeclarationError, match=said):
        registry.add(plain, name)


@pytest.mark.parametrize("timeout", [0, -1, 43_200.5, float("nan"), float("inf")])
def test_a_timeout_that_sqs_cant_hold_is_an_error(registry, timeout):
    with pytest.raises(DeclarationError, match=f"timeout={timeout} s; it must be above 0 and at most 43,200"):
        registry.add(plain, timeout=timeout)


@pytest.mark.parametrize("attempts", [0, -1])
def test_a_task_is_tried_at_least_once(registry, attempts):
    with pytest.raises(DeclarationError, match=f"max_attempts={attempts}; it must be a whole number, at least 1"):
        registry.add(plain, max_attempts=attempts)


@pytest.mark.parametrize(
    ("option", "value"),
    [("timeout", "60"), ("timeout", None), ("max_attempts", "3"), ("max_attempts", 2.5), ("backoff", 5)],
)
def test_an_option_of_the_wrong_type_is_an_error(registry, option, value):
    with pytest.raises(DeclarationError, match=f"task 'plain': {option}={value!r}"):
        registry.add(plain, **{option: value})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (asynchronous, "takes a plain function, this one is async"),
        (with_context, "a context can't cross into another process"),
        (lambda entity_id: entity_id, "no lambda, no inner function"),
        (lambda **everything: everything, "a context can't cross"),
        (functools.partial(plain), "no lambda, no inner function"),
    ],
    ids=["async", "context", "lambda", "everything", "partial"],
)
def test_a_function_that_cant_run_in_another_process_is_an_error(registry, function, said):
    with pytest.raises(DeclarationError, match=said):
        registry.add(function, "task", process=True)


def test_an_inner_function_cant_run_in_another_process(registry):
    def inner():
        pass

    with pytest.raises(DeclarationError, match="no inner function"):
        registry.add(inner, process=True)


@pytest.mark.parametrize("config_type", [dict, dict[str, Any], Mapping, Any], ids=str)
def test_a_config_without_a_type_of_its_own_comes_as_it_is(registry, config_type):
    raw = {"pitch": "steep"}
    assert configured(registry, config_type).config(raw) == raw


def test_a_config_without_an_annotation_comes_as_it_is(registry):
    registry.add(lambda task_config: task_config, "task")
    raw = {"pitch": "steep"}
    assert registry.get("task").config(raw) is raw


@pytest.mark.parametrize(
    ("config_type", "raw", "attribute"),
    [(Roof, {"pitch": 30}, "pitch"), (Wall, {"height": 2.5}, "height"), (Window, {"panes": 4}, "panes")],
    ids=["msgspec", "dataclass", "pydantic"],
)
def test_a_typed_config_becomes_its_type(registry, config_type, raw, attribute):
    config = configured(registry, config_type).config(raw)
    assert isinstance(config, config_type)
    assert getattr(config, attribute) == raw[attribute]


def test_a_typed_dict_is_checked(registry):
    definition = configured(registry, Door)
    assert definition.config({"width": 90}) == {"width": 90}
    with pytest.raises(InvalidInputError, match="width"):
        definition.config({"width": "wide"})


@pytest.mark.parametrize(
    ("config_type", "raw", "said"),
    [
        (Roof, {"pitch": "steep"}, r"config of task 'task' is not a Roof: Expected `int`, got `str` - at `\$.pitch`"),
        (Roof, {}, "missing required field `pitch`"),
        (Wall, {"height": None}, r"not a Wall: .* at `\$.height`"),
        (Window, {}, "not a Window: panes: field required"),
        (dict[str, int], {"a": "x"}, r"at `\$\[\.\.\.\]`"),
    ],
    ids=["msgspec", "missing", "dataclass", "pydantic", "dict"],
)
def test_a_config_that_doesnt_fit_is_refused_with_the_place(registry, config_type, raw, said):
    with pytest.raises(InvalidInputError, match=said):
        configured(registry, config_type).config(raw)


def test_a_config_type_that_cant_be_validated_is_an_error(registry):
    with pytest.raises(DeclarationError, match=r"task 'task': task_config can't be validated as .*Roof"):
        configured(registry, Roof | Wall)


def test_an_annotation_that_cant_be_read_is_an_error(registry):
    def task(task_config: Nowhere): ...  # noqa: F821 - a name that isn't there is the point

    with pytest.raises(DeclarationError, match=r"task 'task': its annotations can't be read: .*Nowhere"):
        registry.add(task)


def test_a_team_uses_its_own_words():
    registry = Registry(entity="doc_id", task="field_name")
    registry.add(lambda doc_id, field_name, metadata: (doc_id, field_name, metadata), "task")
    assert dict(registry.get("task").parameters) == {
        "doc_id": "entity_id",
        "field_name": "task_name",
        "metadata": "metadata",
    }


def test_the_wires_words_still_work_beside_a_teams_own():
    registry = Registry(entity="doc_id")
    registry.add(plain)
    assert dict(registry.get("plain").parameters) == {"entity_id": "entity_id"}


def test_keywords_without_names_come_in_a_teams_own_words():
    registry = Registry(entity="doc_id", task="field_name")
    registry.add(lambda **everything: everything, "task")
    assert sorted(registry.get("task").parameters) == ["context", "doc_id", "field_name", "metadata", "task_config"]


def test_an_unknown_parameters_error_offers_a_teams_own_words():
    with pytest.raises(DeclarationError, match="doc_id, field_name, task_config"):
        Registry(entity="doc_id", task="field_name").add(lambda doc: doc, "task")


@pytest.mark.parametrize(
    ("entity", "task", "said"),
    [
        ("doc id", "field", "'doc id' can't stand for entity_id: a word is the name of a parameter"),
        ("doc", "class", "'class' can't stand for task_name: a word"),
        ("metadata", "field", "'metadata' can't stand for entity_id: it means something else already"),
        ("fan_out", "field", "'fan_out' can't stand for entity_id"),
        ("task_name", "entity_id", "'task_name' can't stand for entity_id"),
        ("doc", "doc", "'doc' can't stand for entity_id"),
    ],
)
def test_a_word_that_cant_be_a_parameter_of_its_own_is_refused(entity, task, said):
    with pytest.raises(ConfigurationError, match=said):
        Registry(entity=entity, task=task)


def test_an_unknown_tasks_error_offers_the_nearest_names(registry):
    for name in ("yearBuilt", "roofType", "owner"):
        registry.add(lambda: None, name)
    with pytest.raises(UnknownTaskError, match=r"task 'yearbuild' isn't declared .*; there are yearBuilt$"):
        registry.require("yearbuild")


def test_an_unknown_tasks_error_offers_all_names_where_none_is_near(registry):
    for name in ("yearBuilt", "roofType"):
        registry.add(lambda: None, name)
    with pytest.raises(UnknownTaskError, match=r"there are roofType, yearBuilt$"):
        registry.require("zzz")


def test_a_declared_task_is_what_require_answers(registry):
    registry.add(plain)
    assert registry.require("plain") is registry.get("plain")


def test_an_undeclared_task_is_none(registry):
    assert registry.get("words") is None
    assert registry.get(FOLD_NAME) is None


def test_the_fold_is_found_under_its_reserved_name_and_isnt_a_task(registry):
    registry.add_fold(lambda fan_out, entity_id, metadata, context: (fan_out, entity_id, metadata, context))
    assert registry.get(FOLD_NAME) is registry.fold
    assert (len(registry), FOLD_NAME in registry) == (0, False)


def test_there_is_one_fold(registry):
    registry.add_fold(lambda fan_out: fan_out)
    with pytest.raises(DeclarationError, match="on_complete is declared twice"):
        registry.add_fold(lambda fan_out: fan_out)


def test_a_fold_asks_only_for_what_a_fold_can_have(registry):
    with pytest.raises(DeclarationError, match=r"'task_config'; .* fan_out, entity_id, metadata, context"):
        registry.add_fold(lambda task_config: task_config)


def test_a_fold_cant_run_in_another_process(registry):
    with pytest.raises(DeclarationError, match="on_complete"):
        registry.add_fold(lambda fan_out: fan_out, process=True)


def test_the_decorators_declare_in_all_their_forms():
    app = Fanfold()
    app.task(plain)
    app.task("words")(plain)
    app.task(timeout=5)(asynchronous)
    app.on_complete(timeout=7)(lambda fan_out: fan_out)
    assert [(task.name, task.timeout) for task in app.registry] == [("plain", 900), ("words", 900), ("asynchronous", 5)]
    assert app.registry.fold.timeout == 7


@pytest.mark.parametrize(
    "value", ["", None, 7, b"doc", "x" * (limits.MAX_NAME_LENGTH + 1), "a\x07", "\ud800", "\uffff"]
)
def test_a_text_that_sqs_cant_carry_is_named_with_its_rule(value):
    with pytest.raises(InvalidInputError, match="entity id"):
        check_text("entity id", value)


def test_the_longest_text_is_256_characters_of_any_script():
    assert check_text("entity id", "é" * 256) == "é" * 256
