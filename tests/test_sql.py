from __future__ import annotations

import re
from importlib.resources import files

import pytest

from fanfold import sql

FILES = [
    (package, file.name)
    for package in ("fanfold.deploy", "fanfold.engine", "fanfold.ledgers")
    for file in sorted((files(package) / "sql").iterdir(), key=lambda file: file.name)
]


@pytest.fixture
def package(tmp_path, monkeypatch):
    (tmp_path / "shelf" / "sql").mkdir(parents=True)
    (tmp_path / "shelf" / "__init__.py").write_text("")
    (tmp_path / "shelf" / "sql" / "books.sql").write_text(
        "-- Books.\n\n-- name: add\n-- Adds one: naïve.\nINSERT INTO books VALUES (?);\n\n"
        "-- name: all_2\n-- name of each.\nSELECT name\nFROM books;\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "shelf"


def test_statements_are_found_by_name_with_their_descriptions(package):
    assert sql.load(package, "books.sql") == {
        "add": "-- Adds one: naïve.\nINSERT INTO books VALUES (?);",
        "all_2": "-- name of each.\nSELECT name\nFROM books;",
    }


@pytest.mark.parametrize(("package", "file"), FILES)
def test_every_statement_of_ours_has_a_name_and_says_what_it_does(package, file):
    statements = sql.load(package, file)
    assert statements
    assert [name for name, statement in statements.items() if not statement.startswith("-- ")] == []


@pytest.mark.parametrize(("package", "file"), FILES)
def test_every_name_of_ours_is_given_once(package, file):
    text = (files(package) / "sql" / file).read_text()
    assert text.count("-- name: ") == len(sql.load(package, file))


@pytest.mark.parametrize(("package", "file"), [found for found in FILES if not found[1].endswith("schema.sql")])
def test_every_statement_of_ours_is_one(package, file):
    code = {name: re.sub(r"--.*|\$\$(?s:.*?)\$\$", "", text) for name, text in sql.load(package, file).items()}
    assert [name for name, text in code.items() if text.count(";") != 1] == []


def test_a_file_that_isnt_there_is_an_error(package):
    with pytest.raises(FileNotFoundError):
        sql.load(package, "films.sql")
