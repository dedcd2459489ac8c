from __future__ import annotations

import json

import pytest

from distributions import config, make, row
from fanfold.demo.environment import survey
from fanfold.demo.fields import EDITION, FIELDS
from fanfold.outcome import Reject

CALLS = {field.name: field.function for field in FIELDS}
PYTHON = {"pkg/__init__.py": "", "pkg/a.py": "import os\n\n\ndef f():\n    return 1\n"}
PYTHON_CLASSIFIERS = "".join(
    f"Classifier: Programming Language :: Python :: {what}\n" for what in ("3.12", "Implementation")
)
DEEP = "x = " + "-" * 100_000 + "1\n"  # MemoryError in the parser
DEEPER = "x = 1" + " + 1" * 100_000 + "\n"  # RecursionError while the tree is built

OF_FILES = ["top_level_modules", "typed", "native_code", "file_types", "size_on_disk", "largest_file", "record_hashes"]
OF_SOURCES = ["lines_of_code", "longest_file", "longest_function", "docstrings", "type_annotations", "most_imported"]


def find(name, task_config):
    """A field's result, which must be JSON."""
    result = CALLS[name](task_config)
    assert json.loads(json.dumps(result)) == result
    return result


def reason(name, task_config):
    """Why a field is set aside."""
    with pytest.raises(Reject) as raised:
        CALLS[name](task_config)
    assert "Foo.Bar" in str(raised.value) or "foo-bar" in str(raised.value)
    return str(raised.value)


@pytest.fixture
def here(tmp_path):
    return tmp_path


def test_there_are_at_least_25_fields_with_names_of_their_own():
    assert len(CALLS) == len(FIELDS) >= 25
    assert all(field.function.__doc__ for field in FIELDS)


def test_events_of_other_fields_are_other_events():
    assert len(EDITION) == 8


# What METADATA states: good, and absent.


@pytest.mark.parametrize(
    ("name", "metadata", "result"),
    [
        ("name_and_version", "", {"name": "Foo.Bar", "version": "1.0"}),
        ("summary", "Summary: Does things, naïvely\n", "Does things, naïvely"),
        ("readme", "Description-Content-Type: text/plain\n\nFoo\n\nTwo words.\n", {"words": 3, "format": "text/plain"}),
        ("readme", "Description: Old style\n", {"words": 2, "format": "text/x-rst"}),
        ("licence", "License-Expression: MIT\nLicense: other\n", {"licence": "MIT", "source": "License-Expression"}),
        ("licence", "Classifier: License :: OSI Approved :: BSD\n", {"licence": "BSD", "source": "Classifier"}),
        ("licence", "License: MIT\n        Permission is hereby\n", {"licence": "MIT", "source": "License"}),
        ("supported_pythons", "Requires-Python: >=3.9\n", {"requires": ">=3.9", "classifiers": []}),
        ("supported_pythons", PYTHON_CLASSIFIERS, {"requires": None, "classifiers": ["3.12"]}),
        ("development_status", "Classifier: Development Status :: 4 - Beta\n", "4 - Beta"),
        ("keywords", "Keywords: queue, sqs ,task\n", ["queue", "sqs", "task"]),
        ("keywords", "Keywords: queue sqs\n", ["queue", "sqs"]),
        ("authors", "Author: A\nMaintainer-email: b@example.org\n", ["A", "b@example.org"]),
        ("project_urls", "Project-URL: Source, https://example.org/s\nHome-page: https://example.org\n",
         {"Source": "https://example.org/s", "Home-page": "https://example.org"}),
        ("extras", "Provides-Extra: fast\nProvides-Extra: all\n", ["fast", "all"]),
        ("dependency_count", "", {"always": 0, "conditional": 0, "optional": 0}),
    ],
)  # fmt: skip
def test_what_metadata_states_is_found(here, name, metadata, result):
    assert find(name, make(here, metadata=metadata)) == result


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("summary", "has no Summary"),
        ("readme", "has no long description"),
        ("supported_pythons", "states no supported Python"),
        ("development_status", "has no Development Status classifier"),
        ("keywords", "has no Keywords"),
        ("authors", "has no author or maintainer"),
        ("project_urls", "has no address"),
        ("extras", "has no extras"),
        ("licence", "states no licence"),
        ("entry_points", "has no entry points"),
        ("commands", "has no commands"),
        ("installer", "has no INSTALLER file"),
        ("wheel_tags", "has no wheel tags"),
    ],
)
def test_what_metadata_does_not_state_is_set_aside_with_the_reason(here, name, said):
    assert said in reason(name, make(here))


def test_unknown_counts_as_nothing(here):
    assert "has no Summary" in reason("summary", make(here, metadata="Summary: UNKNOWN\n"))


def test_a_licence_file_is_better_than_nothing(here):
    made = make(here, files={"foo_bar-1.0.dist-info/licenses/LICENCE.txt": "Do what you want."})
    assert find("licence", made) == {"licence": "see foo_bar-1.0.dist-info/licenses/LICENCE.txt", "source": "file"}


# Requirements.


@pytest.mark.parametrize(
    ("requirement", "kind"),
    [
        ("click", "always"),
        ("click >= 8, < 9", "always"),
        ("click[colour]>=8", "always"),
        ("click @ https://example.org/click.zip", "always"),
        ("tomli; python_version < '3.11'", "conditional"),
        ("colour;platform_system=='extra'", "conditional"),
        ("colour; platform_release == \"extra == 'fast'\"", "conditional"),
        ("click @ https://example.org/a;b.zip ; os_name == 'nt'", "conditional"),
        ("uvloop; extra == 'fast'", "optional"),
        ("uvloop;extra=='fast'", "optional"),
        ("uvloop; 'fast'==extra", "optional"),
        ("uvloop; (python_version>'3' and extra=='fast')", "optional"),
        ("uvloop @ https://example.org/u.zip ; extra=='fast'", "optional"),
    ],
)
def test_a_requirement_is_always_wanted_or_conditional_or_an_extras(here, requirement, kind):
    found = find("dependency_count", make(here, metadata=f"Requires-Dist: {requirement}\n"))
    assert found == {"always": 0, "conditional": 0, "optional": 0} | {kind: 1}


@pytest.mark.parametrize("requirement", [">=1.0", "(click)", "click;", "click @ "])
def test_a_requirement_that_is_none_is_set_aside_with_the_reason(here, requirement):
    made = make(here, metadata=f"Requires-Dist: {requirement}\n")
    for name in ("dependency_count", "missing_dependencies"):
        assert "is not a requirement" in reason(name, made)


def test_missing_dependencies_are_those_always_wanted_and_not_installed(here):
    make(here, "There_Too")
    requires = "Requires-Dist: there-too>=1\nRequires-Dist: not_there\nRequires-Dist: nor.that; extra == 'x'\n"
    assert find("missing_dependencies", make(here, metadata=requires)) == ["not-there"]


def test_dependents_are_those_that_require_it(here):
    make(here, "one", metadata="Requires-Dist: foo_bar>=1\n")
    make(here, "two", metadata="Requires-Dist: Foo-Bar; python_version > '3'\n")
    make(here, "other", metadata="Requires-Dist: foo-bar; extra == 'x'\n")
    make(here, "broken", metadata="Requires-Dist: ???\n")
    assert find("dependents", make(here)) == ["one", "two"]


# The other files of the .dist-info folder.


def test_entry_points_and_commands_are_read(here):
    text = "[console_scripts]\nfoo = foo.cli:main\nBar = foo.bar:main [fast]\n\n[foo.plugins]\na=foo.a\n"
    made = make(here, info={"entry_points.txt": text})
    assert find("entry_points", made) == {"console_scripts": ["Bar", "foo"], "foo.plugins": ["a"]}
    assert find("commands", made) == {"foo": "foo.cli:main", "Bar": "foo.bar:main [fast]"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[console_scripts]\nfoo\n", "entry_points.txt of Foo.Bar 1.0 is broken"),
        ("foo = foo.cli:main\n", "entry_points.txt of Foo.Bar 1.0 is broken"),
        (b"[console_scripts]\nf\xff = foo:main\n", "entry_points.txt of Foo.Bar 1.0 is not UTF-8 (byte 19)"),
    ],
)
def test_broken_entry_points_are_set_aside_with_the_reason(here, text, said):
    made = make(here, info={"entry_points.txt": text})
    for name in ("entry_points", "commands"):
        assert said in reason(name, made)


@pytest.mark.parametrize("reference", ["", "foo bar:main", "foo:", "foo:main:more"])
def test_a_command_that_names_no_object_is_set_aside_with_the_reason(here, reference):
    made = make(here, info={"entry_points.txt": f"[console_scripts]\nfoo = {reference}\n"})
    assert "doesn't name an object" in reason("commands", made)


def test_installer_and_wheel_are_read(here):
    wheel = "Wheel-Version: 1.0\nTag: py2-none-any\nTag: py3-none-any\n"
    made = make(here, info={"INSTALLER": "pip\n", "WHEEL": wheel})
    assert (find("installer", made), find("wheel_tags", made)) == ("pip", ["py2-none-any", "py3-none-any"])


@pytest.mark.parametrize(("name", "file"), [("installer", "INSTALLER"), ("wheel_tags", "WHEEL")])
def test_a_file_that_is_not_utf8_is_set_aside_with_the_reason(here, name, file):
    assert f"{file} of Foo.Bar 1.0 is not UTF-8 (byte 1)" in reason(name, make(here, info={file: b"p\xff"}))


# The list of files.


@pytest.mark.parametrize("name", [*OF_FILES, *OF_SOURCES])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"record": False}, "has no RECORD"),
        ({"record": b"pkg/a.py,\xff,\n"}, "RECORD of Foo.Bar 1.0 is not UTF-8 (byte 9)"),
        ({"record": 'pkg/a.py,"sha256'}, "RECORD of Foo.Bar 1.0 is broken"),
        ({"record": "x" * 200_000}, "RECORD of Foo.Bar 1.0 is broken"),
        ({"info": {"direct_url.json": '{"url": "file:///src", "dir_info": {"editable": true}}'}}, "installed in place"),
        ({"info": {"direct_url.json": "{"}}, "direct_url.json of Foo.Bar 1.0 is broken"),
        ({"info": {"direct_url.json": "[]"}}, "direct_url.json of Foo.Bar 1.0 is broken"),
        ({"info": {"direct_url.json": b"\xff"}}, "direct_url.json of Foo.Bar 1.0 is not UTF-8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_list_of_files_that_cannot_be_had_is_set_aside_with_the_reason(here, name, options, said):
    assert said in reason(name, make(here, files=PYTHON, **options))


def test_a_distribution_from_an_address_is_not_taken_for_an_editable_one(here):
    origin = '{"url": "https://example.org/foo.zip", "archive_info": {}}'
    assert find("typed", make(here, info={"direct_url.json": origin})) == {"py_typed": False, "stubs": 0}


@pytest.mark.parametrize(
    ("files", "modules"),
    [
        (PYTHON, ["pkg"]),
        ({"single.py": ""}, ["single"]),
        ({"fast.cpython-311-x86_64-linux-gnu.so": b"\x7fELF"}, ["fast"]),
        ({"pkg/_fast.so": b"\x7fELF"}, ["pkg"]),
        ({"fast.pyd": b"MZ"}, ["fast"]),
        ({"old.pyc": b"\x00"}, ["old"]),
        ({"b.py": "", "a/x.py": "", "pkg.libs/libz.so": b"", "__pycache__/b.cpython-311.pyc": b""}, ["a", "b"]),
    ],
)
def test_top_level_modules_are_sources_and_compiled_ones(here, files, modules):
    assert find("top_level_modules", make(here, files=files)) == modules


def test_files_that_no_import_finds_are_no_modules(here):
    made = make(
        here,
        files={"data.json": "{}"},
        record="data.json,,\n../../../bin/tool.py,,\n/opt/x.py,,\nfoo.dist-info/a.py,,\n",
    )
    assert "has no Python modules" in reason("top_level_modules", made)


def test_types_are_a_marker_and_stubs(here):
    assert find("typed", make(here, files={"pkg/py.typed": "", "pkg/a.pyi": ""})) == {"py_typed": True, "stubs": 1}


def test_native_code_is_listed_and_its_absence_told(here):
    assert find("native_code", make(here, "Foo.Bar", files={"pkg/_fast.SO": b"", "pkg/a.py": ""})) == ["pkg/_fast.SO"]
    assert "has no native code" in reason("native_code", make(here, "Foo.Bar", "2.0", files=PYTHON))


def test_sizes_and_kinds_are_those_on_the_disk(here):
    files = {"pkg/a.py": "12345", "pkg/b.py": "123", "pkg/data.JSON": "{}", "pkg/LICENCE": ""}
    made = make(
        here, files=files, record="".join(f"{path},,\n" for path in [*files, "pkg/gone.py", "pkg", "a\0b", "x" * 300])
    )
    assert find("size_on_disk", made) == {"bytes": 10, "files": 4, "missing": 4}
    assert find("largest_file", made) == {"path": "pkg/a.py", "bytes": 5}
    assert find("file_types", made) == {".py": 2, ".json": 1, "none": 1}


@pytest.mark.parametrize("name", ["largest_file", "file_types"])
@pytest.mark.parametrize("record", ["", "pkg/gone.py,,\n", ",,\n\n"])
def test_a_list_without_any_file_that_is_there_is_set_aside_with_the_reason(here, name, record):
    assert "has no files: all listed are missing" in reason(name, make(here, record=record))


def test_a_file_that_is_listed_twice_counts_once(here):
    made = make(here, files={"a.py": "12"}, record="a.py,,\na.py,,\n")
    assert find("size_on_disk", made) == {"bytes": 2, "files": 1, "missing": 0}


def test_names_with_commas_quotes_and_odd_line_breaks_are_read(here):
    path = 'pkg/a,"b"\u2028\x0c.txt'
    made = make(here, files={path: "123"}, record='"pkg/a,""b""\u2028\x0c.txt",,3\n')
    assert find("largest_file", made) == {"path": path, "bytes": 3}


# Hashes.


def test_hashes_are_compared_with_record(here):
    rows = (
        row("good.py", "1") + row("512.py", "2", "sha512") + row("wrong.py", "3") + row("gone.py", "4") + "plain.py,,\n"
    )
    made = make(here, files={"good.py": "1", "512.py": "2", "wrong.py": "changed", "plain.py": ""}, record=rows)
    assert find("record_hashes", made) == {"verified": 2, "missing": 1, "wrong": 1, "which": ["wrong.py"]}


def test_a_list_without_hashes_is_set_aside_with_the_reason(here):
    assert "has no hashes" in reason("record_hashes", make(here, files=PYTHON, record="pkg/a.py,,\n"))


@pytest.mark.parametrize("algorithm", ["sha257", "shake_128", "", "SHA-256", "ß"])
def test_an_odd_hash_algorithm_is_set_aside_with_the_reason(here, algorithm):
    made = make(here, files=PYTHON, record=row("pkg/__init__.py", "") + f"pkg/a.py,{algorithm}=abc,3\n")
    assert f"gives pkg/a.py a {algorithm.lower()!r} hash, which nobody can check" in reason("record_hashes", made)


def test_a_digest_that_is_no_base64_is_a_wrong_one(here):
    made = make(here, files=PYTHON, record="pkg/a.py,sha256=!!!,3\n")
    assert find("record_hashes", made)["wrong"] == 1


# Sources.


def test_sources_are_measured(here):
    files = {
        "pkg/__init__.py": "",
        "pkg/a.py": '"""Doc."""\nimport os.path, sys\nfrom os import path\nfrom . import b\n\n# remark\n'
        'def f(a: int, *args: int, b: str = "") -> None:\n    "Doc."\n    return None\n',
        "pkg/b.py": "class C:\n    def m(self, x): ...\n    async def _p(self) -> int: return 1\n",
    }
    made = make(here, files=files)
    assert find("lines_of_code", made) == {"lines": 10, "unreadable": 0}
    assert find("longest_file", made) == {"path": "pkg/a.py", "lines": 9, "unreadable": 0}
    assert find("longest_function", made) == {"where": "pkg/a.py:7 f", "lines": 3, "unreadable": 0}
    assert find("docstrings", made) == {"public": 3, "documented": 1, "unreadable": 0}
    assert find("type_annotations", made) == {"functions": 3, "annotated": 2, "unreadable": 0}
    assert find("most_imported", made) == {"os": 2, "sys": 1}


@pytest.mark.parametrize("name", OF_SOURCES)
@pytest.mark.parametrize("files", [{"pkg/_fast.so": b""}, {"data.json": "{}"}])
def test_a_distribution_without_python_files_is_set_aside_with_the_reason(here, name, files):
    assert "has no Python files" in reason(name, make(here, files=files))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("longest_function", "has no functions"),
        ("type_annotations", "has no functions"),
        ("docstrings", "has no public functions or classes"),
        ("most_imported", "has no imports"),
    ],
)
def test_sources_without_what_is_measured_are_set_aside_with_the_reason(here, name, said):
    assert said in reason(name, make(here, files={"a.py": "X = 1\n"}))


@pytest.mark.parametrize(
    "source",
    [DEEP, DEEPER, "(" * 5_000, "def broken(:\n", "x = '\0'\n", "# coding: nonsense\n", "# coding: rot13\n",
     b"x = '\xff'\n", b"\xef\xbb\xbf# coding: latin-1\n"],
    ids=["unary", "sum", "parentheses", "syntax", "nul", "nonsense", "rot13", "utf8", "bom"],
)  # fmt: skip
def test_a_file_that_is_no_python_is_counted_and_the_others_are_measured(here, source):
    made = make(here, files={"bad.py": source, "good.py": "import os\ndef f() -> int:\n    'Doc.'\n"})
    assert find("longest_function", made) == {"where": "good.py:2 f", "lines": 2, "unreadable": 1}
    assert find("docstrings", made) == {"public": 1, "documented": 1, "unreadable": 1}
    assert find("type_annotations", made) == {"functions": 1, "annotated": 1, "unreadable": 1}
    assert find("most_imported", made) == {"os": 1}


@pytest.mark.parametrize("name", ["lines_of_code", "longest_file"])
def test_a_file_in_no_readable_encoding_is_counted_and_the_others_are_measured(here, name):
    made = make(here, files={"bad.py": b"x = '\xff'\n" * 9, "good.py": "x = 1\n"})
    found = find(name, made)
    assert (found["lines"], found["unreadable"]) == (1, 1)


@pytest.mark.parametrize("name", OF_SOURCES)
def test_sources_of_which_none_can_be_read_are_set_aside_with_the_first_reason(here, name):
    made = make(here, files={"a.py": "# coding: nonsense\n", "b.py": b"\xff"})
    said = reason(name, made)
    assert said.startswith("none of the Python files of Foo.Bar 1.0 can be read (a.py: ")
    assert "unknown encoding" in said


@pytest.mark.parametrize(
    ("encoding", "declared"), [("latin-1", "latin-1"), ("cp1252", "windows-1252"), ("utf-8-sig", None), ("gbk", "gbk")]
)
def test_a_source_is_read_in_the_encoding_that_it_declares(here, encoding, declared):
    letter = "中" if encoding == "gbk" else "é"
    head = f"# -*- coding: {declared} -*-\n" if declared else ""
    source = f"{head}def caf{letter}():\n    return '{letter}'\n"
    made = make(here, files={"pkg/a.py": source.encode(encoding)})
    assert find("longest_function", made)["where"] == f"pkg/a.py:{2 if head else 1} caf{letter}"
    assert find("lines_of_code", made) == {"lines": 2, "unreadable": 0}


@pytest.mark.parametrize(
    ("source", "lines"),
    [("", 0), ("a", 1), ("a\n", 1), ("a\nb", 2), ("a\r\nb\r\n", 2), ("a\rb", 2), ("a\x0cb\u2028c\n", 1)],
)
def test_lines_are_counted_as_python_counts_them(here, source, lines):
    made = make(here, files={"a.py": source})
    assert find("longest_file", made)["lines"] == lines
    assert find("lines_of_code", made)["lines"] == lines


def test_a_file_that_is_listed_but_missing_is_not_measured(here):
    made = make(here, files={"a.py": "x = 1\n"}, record="a.py,,\ngone.py,,\n")
    assert find("lines_of_code", made) == {"lines": 1, "unreadable": 0}


# Which distributions there are.


@pytest.mark.parametrize("name", CALLS)
def test_a_distribution_that_is_gone_is_set_aside_with_the_reason(here, name):
    assert reason(name, config(here)) == "foo-bar 1.0 isn't installed any more"


@pytest.mark.parametrize("name", CALLS)
def test_another_version_is_not_described_as_the_one_that_was_asked_for(here, name):
    make(here, version="2.0", files=PYTHON)
    assert reason(name, config(here)) == "foo-bar 1.0 isn't installed any more; version 2.0 is now"


def test_of_two_versions_the_one_that_was_asked_for_is_described(here):
    make(here, version="2.0")
    assert find("name_and_version", make(here, version="1.0"))["version"] == "1.0"


def test_a_survey_finds_every_distribution_by_name(here):
    make(here, "Zoo_Keeper", "0.1")
    make(here, "aardvark", "3!2.0+local-1")
    found = survey(str(here))
    assert [(made.entity_id, made.task_config) for made in found.installed] == [
        ("aardvark-3!2.0+local-1", {"distribution": "aardvark", "version": "3!2.0+local-1", "folder": str(here)}),
        ("zoo-keeper-0.1", {"distribution": "zoo-keeper", "version": "0.1", "folder": str(here)}),
    ]
    assert found.left_out == 0


@pytest.mark.parametrize(
    "metadata",
    [b"", b"Name: foo\n", b"Version: 1.0\n", b"Name: ../../foo\nVersion: 1.0\n", b"Name: foo\nVersion: 1/0\n",
     b"Name: f\xff\nVersion: 1.0\n", b"Name: " + b"f" * 200 + b"\nVersion: 1.0\n", b"Name: foo bar\nVersion: 1.0\n"],
)  # fmt: skip
def test_a_folder_without_a_usable_name_and_version_is_left_out_and_counted(here, metadata):
    make(here, metadata=metadata)
    assert survey(str(here)).installed == []
    assert survey(str(here)).left_out == 1


def test_the_running_python_is_surveyed_unless_a_folder_is_named():
    assert {"click", "pytest"} <= {made.key for made in survey().installed}


def test_the_folders_name_need_not_be_the_distributions(here):
    make(here, "Foo.Bar", metadata=b"Name: quite-another\nVersion: 1.0\n")
    assert find("name_and_version", config(here, "quite-another")) == {"name": "quite-another", "version": "1.0"}


def test_an_egg_info_is_read_as_far_as_it_goes(here):
    egg = here / "Old_Thing-0.9.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Name: Old-Thing\nVersion: 0.9\nSummary: Old\n")
    (egg / "requires.txt").write_text("click\n\n[fast]\nuvloop\n")
    (egg / "SOURCES.txt").write_text("setup.py\nold.py\n")
    (here / "old.py").write_text("X = 1\n")
    made = config(here, "old-thing", "0.9")
    assert find("summary", made) == "Old"
    assert find("dependency_count", made) == {"always": 1, "conditional": 0, "optional": 1}
    assert find("size_on_disk", made) == {"bytes": 6, "files": 1, "missing": 0}
