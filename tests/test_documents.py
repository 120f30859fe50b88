"""Files as they are in the world: broken, huge, hostile, or merely written on another system."""

import io
import json
import os
import subprocess
import sys
import textwrap

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from partitioner.documents import MAX_DEPTH, MAX_INPUT_MIB, format_location, parse, problems_of, read, write
from partitioner.errors import SpecError


def refused(text, syntax="yaml"):
    with pytest.raises(SpecError) as caught:
        parse(text, origin="in", syntax=syntax)
    return caught.value


# -- well formed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", "a: 1\nb: [x, y]\n"),
        ("a.yml", "a: 1\nb:\n- x\n- y"),
        ("a.json", '{"a": 1, "b": ["x", "y"]}'),
        ("a.toml", 'a = 1\nb = ["x", "y"]'),
        ("a.TOML", 'a = 1\nb = ["x", "y"]'),
        ("none", '{"a": 1, "b": ["x", "y"]}'),
        ("mark.yaml", "\ufeffa: 1\nb: [x, y]\n"),
        ("windows.yaml", "a: 1\r\nb:\r\n  - x\r\n  - y\r\n"),
        ("alias.yaml", "a: &one 1\nb: [x, y]\n"),
    ],
)
def test_the_suffix_decides_the_syntax(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text.encode())
    document = read(path)
    assert document.data == {"a": 1, "b": ["x", "y"]}
    assert document.origin == str(path)
    assert document.line_of(("a",)) == 1


def test_standard_input_is_read(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a: 1\nb: 2")))
    document = read("-")
    assert (document.data, document.origin) == ({"a": 1, "b": 2}, "<stdin>")


@pytest.mark.parametrize(("text", "data"), [("", None), ("# nothing", None), ("null", None), ("3", 3)])
def test_files_with_nothing_in_them_are_well_formed(text, data):
    assert parse(text, origin="in").data == data


def test_aliases_and_merges_within_reason_are_kept():
    document = parse("base: &b {count: 2}\none: {<<: *b, count: 3}\ntwo: *b", origin="in")
    assert document.data == {"base": {"count": 2}, "one": {"count": 3}, "two": {"count": 2}}


# -- not a file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/dev/zero", "/dev/zero: not a regular file"),
        ("/", "/: is a directory; name a YAML, JSON or TOML file"),
        ("/nowhere/at/all.yaml", "/nowhere/at/all.yaml: no such file"),
        ("a\0b.yaml", "cannot be read: embedded null byte"),
        ("x" * 5000 + ".yaml", "cannot be read: File name too long"),
        ("/etc/passwd/x.yaml", "cannot be read: Not a directory"),
    ],
)
def test_what_is_no_file_is_refused(path, message):
    with pytest.raises(SpecError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(caught.value).count(message.split(":")[0]) == 1


def test_a_file_larger_than_the_limit_is_refused(tmp_path):
    path = tmp_path / "huge.yaml"
    with open(path, "wb") as file:
        file.truncate((MAX_INPUT_MIB << 20) + 1)
    with pytest.raises(SpecError, match="larger than 64 MiB"):
        read(path)
    with pytest.raises(SpecError, match="larger than 1 MiB"):
        read(path, max_mib=1)


@pytest.mark.parametrize(
    ("raw", "line", "message"),
    [
        (b"a: 1\nb: \xff\xfe", 2, "byte 0xff is not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 1, "byte 0x89 is not UTF-8 text"),
        (b"\x7fELF\x02\x01\x01\0\0\0", 1, "not YAML"),
        ("a: 1".encode("utf-16"), 1, "byte 0xff is not UTF-8 text"),
        (b"\0" * 4096, 1, "not YAML"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, raw, line, message):
    path = tmp_path / "garbage.yaml"
    path.write_bytes(raw)
    with pytest.raises(SpecError, match=message) as caught:
        read(path)
    assert caught.value.problems[0].line == line


# -- not well formed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("syntax", "text", "line"),
    [
        ("yaml", "a: 1\nb: [1, 2\nc: 3\n", 3),
        ("yaml", "a: 1\n  b: 2\n", 2),
        ("yaml", "a: 1\n\tb: 2\n", 2),
        ("yaml", "a: 1\nb: *nobody\n", 2),
        ("yaml", "a: 1\n---\nb: 2\n", 2),
        ("yaml", "a: 1\nb: 'open\n", 3),
        ("yaml", "a: 1\n{[a]: 1}: 2", 2),
        ("json", '{"a": 1,\n "b": }', 2),
        ("json", '{"a": 1,\n "b": 2', 2),
        ("json", "", 1),
        ("json", "{'a': 1}", 1),
        ("toml", "a = 1\nb = \n", 2),
        ("toml", "a = 1\n[b\n", 2),
        ("toml", "a = 1\na = 2\n", 2),
        ("toml", "a = 2026-99-99", 1),
    ],
)
def test_syntax_errors_name_the_line(syntax, text, line):
    (problem,) = refused(text, syntax).problems
    assert (problem.origin, problem.line) == ("in", line)
    assert problem.message.startswith(f"not {syntax.upper()}: ")


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        ("yaml", "a: 2026-99-99"),
        ("yaml", "a: " + "9" * 5000),
        ("json", "9" * 5000),
        ("toml", "a = " + "9" * 5000),
        ("yaml", "a: !!bool maybe"),
        ("yaml", 'a: !!int ""'),
        ("yaml", 'a: !!float ""'),
        ("yaml", "a: !!timestamp soon"),
        ("yaml", "a: ="),
        ("yaml", "a: \0"),
        ("yaml", "a: !!python/object/apply:os.system [ls]"),
        ("yaml", "a: !!python/name:os.system"),
        ("yaml", "a: !own {}"),
    ],
)
def test_values_that_cannot_be_read_are_refused(syntax, text):
    assert refused(text, syntax).problems[0].message.startswith(f"not {syntax.upper()}: ")


def test_tags_do_not_run_code(tmp_path):
    mark = tmp_path / "mark"
    refused(f"a: !!python/object/apply:os.mkdir ['{mark}']")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("syntax", "text", "line"),
    [
        ("yaml", "a: 1\nb: 2\na: 3", 3),
        ("yaml", "x:\n  a: 1\n  a: 1", 3),
        ("yaml", "{a: 1,\n a: 2}", 2),
        ("json", '{"a": 1,\n "b": 2,\n "a": 3}', 3),
        ("json", '{"x": {"a": 1,\n "a": 2}}', 2),
    ],
)
def test_repeated_keys_are_refused(syntax, text, line):
    (problem,) = refused(text, syntax).problems
    assert (problem.line, problem.message) == (line, "key 'a' stands twice; each name may stand once")


# -- hostile -----------------------------------------------------------------------------------------------------------

# Each of these crashed the interpreter or its recursion limit in one parser or another, so a process of their own.
DEEP = """\
    from partitioner.documents import parse
    from partitioner.errors import SpecError
    n = 100_000
    texts = [
        ("yaml", "[" * n), ("yaml", "[" * n + "]" * n), ("yaml", "{a: " * n), ("yaml", "- " * n), ("yaml", "? " * n),
        ("yaml", "\\n".join(" " * i + "a:" for i in range(3000))), ("yaml", "[" * 5000 + "]" * 5000),
        ("json", "[" * n + "]" * n), ("json", '{"a":' * n + "1" + "}" * n), ("json", "[" * 500 + "]" * 500),
        ("toml", "a = " + "[" * n), ("toml", "a = " + "{b = " * n), ("toml", "a" + ".a" * 500 + " = 1"),
    ]
    for syntax, text in texts:
        try:
            parse(text, origin="in", syntax=syntax)
        except SpecError as error:
            assert "nested too deep to be read; at most 100 levels" in str(error), error
            print("refused")
"""


def test_deep_nesting_is_refused_and_crashes_nothing():
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(DEEP)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["refused"] * 13


@pytest.mark.parametrize("syntax", ["yaml", "json"])
def test_nesting_up_to_the_limit_is_read(syntax):
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse(text, origin="in", syntax=syntax).data != []
    assert "nested too deep" in str(refused(f"[{text}]", syntax))


def test_aliases_that_nest_deep_are_refused():
    rows = ["a0: &a0 []", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 200))]
    assert "nested too deep" in str(refused("\n".join(rows)))


def test_an_alias_bomb_is_refused():
    rows = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"{n}: &{n} [{', '.join([f'*{p}'] * 10)}]" for p, n in zip("abcdefgh", "bcdefghi", strict=True)]
    assert "aliases make the document too large" in str(refused("\n".join(rows)))


@pytest.mark.parametrize("text", ["a: &a [*a]", "&a {b: *a}", "a: &a {b: [1, {c: *a}]}"])
def test_an_alias_cycle_is_refused(text):
    assert "an alias refers to what encloses it" in str(refused(text))


# -- lines -------------------------------------------------------------------------------------------------------------

YAML = """\
# a comment
workloads:
  - name: one
    profile: 3g.40gb
  - {name: two,
     count: 3}
  - name: "th: ree"
    labels:
      team: x
"""
JSON = """\
{
\t"workloads": [
\t\t{"name": "one",
\t\t "profile": "3g.40gb"},
\t\t{"name": "two",
\t\t "count": 3}
\t]
}
"""
TOML = """\
name = "x"
[mig]
units = 8
[[mig.profiles]]
name = "1g"
[[mig.profiles]]
name = "2g"  # [mig]
starts = [0]
[[boards]]
prefix = "A"
types = [
  { name = "A-1Q" },
  { name = "A-2Q", series = "Q" },
]
[[boards]]
prefix = "B"
"odd key" = 1
types = [
  { name = "B-1Q" },
]
"""


@pytest.mark.parametrize(
    ("syntax", "text", "location", "line"),
    [
        ("yaml", YAML, (), 2),
        ("yaml", YAML, ("workloads",), 3),
        ("yaml", YAML, ("workloads", 0, "profile"), 4),
        ("yaml", YAML, ("workloads", 1), 5),
        ("yaml", YAML, ("workloads", 1, "count"), 6),
        ("yaml", YAML, ("workloads", 2, "labels", "team"), 9),
        ("yaml", YAML, ("workloads", 2, "missing"), 7),
        ("yaml", YAML, ("workloads", 9), 3),
        ("yaml", "", ("workloads",), None),
        ("json", JSON, ("workloads", 0, "profile"), 4),
        ("json", JSON, ("workloads", 1, "count"), 6),
        ("json", JSON, ("workloads", 1, "missing"), 5),
        ("toml", TOML, ("name",), 1),
        ("toml", TOML, ("missing",), None),
        ("toml", TOML, ("mig",), 2),
        ("toml", TOML, ("mig", "units"), 3),
        ("toml", TOML, ("mig", "name"), 2),
        ("toml", TOML, ("mig", "profiles", 0, "name"), 5),
        ("toml", TOML, ("mig", "profiles", 0, "starts"), 4),
        ("toml", TOML, ("mig", "profiles", 1, "starts"), 8),
        ("toml", TOML, ("boards", 0, "types", 1, "series"), 13),
        ("toml", TOML, ("boards", 0, "types", 7), 11),
        ("toml", TOML, ("boards", 1, "prefix"), 16),
        ("toml", TOML, ("boards", 1, "odd key"), 17),
        ("toml", TOML, ("boards", 1, "types", 0, "name"), 19),
    ],
)
def test_the_line_of_a_value_or_of_what_encloses_it(syntax, text, location, line):
    assert parse(text, origin="in", syntax=syntax).line_of(location) == line


@pytest.mark.parametrize("key", ["\U0001f600", "k" * 2000])
def test_json_that_is_no_yaml_has_no_lines_but_no_error_either(key):
    document = parse(json.dumps({key: 1, "b": 2}), origin="in", syntax="json")
    assert document.data["b"] == 2
    assert document.line_of(("b",)) is None
    assert str(document.problem("odd", ("b",))) == "in: b: odd"


def test_locations_are_written_as_paths():
    assert format_location(("workloads", 3, "profile")) == "workloads[3].profile"
    assert format_location(()) == ""


# -- pydantic's complaints ---------------------------------------------------------------------------------------------


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    count: int = 1


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, ("field 'name' is missing", ("name",))),
        ({"name": "x", "cuont": 2}, ("unknown field 'cuont'; did you mean 'count'?", ("cuont",))),
        ({"name": 5}, ("input should be a valid string, not 5", ("name",))),
        ({"name": 10**5000}, None),
        ({"name": list(range(10**6))}, None),
        ({"name": "x", "count": "y" * 1000}, None),
    ],
)
def test_complaints_are_short_and_in_our_words(data, problem):
    with pytest.raises(ValidationError) as caught:
        Thing.model_validate(data)
    (found,) = problems_of(caught.value, ["name", "count"])
    assert problem in (None, found)
    assert len(found[0]) < 200


# -- writing -----------------------------------------------------------------------------------------------------------


def test_a_file_is_written_whole_with_the_usual_rights(tmp_path):
    path = tmp_path / "plan.json"
    mask = os.umask(0o027)
    try:
        write(path, "one\n")
        write(path, "twö\n")
    finally:
        os.umask(mask)
    assert path.read_bytes() == "twö\n".encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_what_stood_there_stays_where_writing_fails(tmp_path):
    path = tmp_path / "plan.json"
    write(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("name", "message"), [("none/plan.json", "No such file"), ("", "cannot be written")])
def test_where_nothing_can_be_written(tmp_path, name, message):
    with pytest.raises(SpecError, match=message):
        write(tmp_path / name if name else tmp_path, "text")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_regular_file_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(pipe, "text")
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_of_a_link_the_file_that_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link, file = tmp_path / "plan.json", tmp_path / "elsewhere" / "plan-1.json"
    link.symlink_to(file)
    for text in ("made", "replaced"):
        write(link, text)
        assert link.is_symlink()
        assert file.read_text() == text
