from __future__ import annotations

import json

import pytest

from fanfold.endpoint.access import Key, Role
from fanfold.endpoint.keys import load
from fanfold.errors import ConfigurationError

SECRET = "a-secret-of-enough-characters"  # noqa: S105 - a made-up one
TOML = f'[[keys]]\nid = "AKWORKER"\nsecret = "{SECRET}"\nrole = "worker"\n'


def written(path, text, mode=0o600):
    path.write_text(text)
    path.chmod(mode)
    return path


def refusal(path=None, **environ):
    with pytest.raises(ConfigurationError) as caught:
        load(path, environ)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_a_toml_and_a_json_file_say_the_same(tmp_path):
    entry = {"id": "AKWORKER", "secret": SECRET, "role": "worker"}
    toml = written(tmp_path / "keys.toml", TOML)
    as_json = written(tmp_path / "keys.json", json.dumps({"keys": [entry]}))
    assert load(toml, {}) == load(as_json, {}) == (Key("AKWORKER", SECRET, Role.WORKER),)


def test_keys_come_from_the_file_and_from_the_environment(tmp_path):
    environ = {"FANFOLD_SERVE_KEYS": f"AKPRODUCER:{SECRET}:producer, AKOPERATOR:{SECRET}:operator"}
    keys = load(written(tmp_path / "keys.toml", TOML), environ)
    assert [(key.id, key.role) for key in keys] == [
        ("AKWORKER", Role.WORKER),
        ("AKPRODUCER", Role.PRODUCER),
        ("AKOPERATOR", Role.OPERATOR),
    ]


def test_without_either_there_are_none():
    assert load(None, {}) == ()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620])
def test_a_file_that_others_can_get_at_is_refused(tmp_path, mode):
    path = written(tmp_path / "keys.toml", TOML, mode)
    assert refusal(path) == f"--keys {path}: its mode {mode:o} lets other users at the secrets; chmod 600 {path}"


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert "keys.toml: No such file" in refusal(tmp_path / "keys.toml")


@pytest.mark.parametrize(
    "text",
    [
        "keys = 1",
        f"secret = '{SECRET}",
        TOML + "colour = 'red'",
        TOML.replace("worker", "boss"),
        TOML.replace("role", "roll"),
        "",
    ],
)
def test_a_file_that_holds_no_keys_is_refused_without_being_quoted(tmp_path, text):
    assert "[[keys]]" in refusal(written(tmp_path / "keys.toml", text))


def test_a_key_that_is_there_twice_is_refused(tmp_path):
    assert "'AKWORKER' is there twice" in refusal(written(tmp_path / "keys.toml", TOML + TOML))


def test_a_secret_that_could_be_guessed_is_refused(tmp_path):
    assert "use 16 or more" in refusal(written(tmp_path / "keys.toml", TOML.replace(SECRET, "short")))


@pytest.mark.parametrize("key_id", ["", "a/b", "a b", "a,b", "é"])
def test_an_id_that_a_signature_cant_carry_is_refused(tmp_path, key_id):
    assert "letters and digits" in refusal(written(tmp_path / "keys.toml", TOML.replace("AKWORKER", key_id)))


@pytest.mark.parametrize("text", [SECRET, f"AK:{SECRET}", f"AK:{SECRET}:boss", f"AK:{SECRET}:worker:more"])
def test_a_variable_of_another_form_is_refused_without_being_quoted(text):
    assert "write ID:SECRET:ROLE" in refusal(FANFOLD_SERVE_KEYS=text)
