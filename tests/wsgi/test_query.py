"""seekfs_wsgi.query: one reading of every query, or a refusal that names the parameter."""

from __future__ import annotations

import pytest

from seekfs_core.errors import BadRequest, InvalidName
from seekfs_core.names import NUMBER_MAX
from seekfs_wsgi.query import content_hash, number, parse_query, required, version_number

ALLOWED = frozenset(("ns", "path", "off"))


def test_plain_parameters() -> None:
    assert parse_query("ns=dev&path=a/b.tar&off=12", ALLOWED) == {"ns": "dev", "path": "a/b.tar", "off": "12"}


@pytest.mark.parametrize("raw", ["", "&", "&&"])
def test_nothing_given(raw: str) -> None:
    assert parse_query(raw, ALLOWED) == {}


def test_a_name_without_equals_has_the_empty_value() -> None:
    assert parse_query("path", ALLOWED) == {"path": ""}


def test_only_the_first_equals_divides() -> None:
    assert parse_query("path=a=b", ALLOWED) == {"path": "a=b"}


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("a+b", "a b"),
        ("a%2Bb", "a+b"),
        ("a%20b", "a b"),
        ("a%2520b", "a%20b"),
        ("100%25", "100%"),
        ("%E2%98%83", "☃"),
        ("a%26b%3Dc", "a&b=c"),
        ("%c3%a9", "é"),
        ("a;b", "a;b"),
    ],
)
def test_decoded_once(raw: str, path: str) -> None:
    assert parse_query(f"path={raw}", ALLOWED) == {"path": path}


def test_a_server_that_passes_raw_bytes_on_is_read_as_utf8() -> None:
    assert parse_query("path=" + "☃".encode().decode("latin-1"), ALLOWED) == {"path": "☃"}


def test_names_are_decoded_too() -> None:
    assert parse_query("%6es=dev", ALLOWED) == {"ns": "dev"}


@pytest.mark.parametrize("bad", ["%", "%4", "%zz", "a%2", "%e2%98%8", "%-1", "% 41", "%٣٤"])
def test_a_bad_escape_is_refused_naming_the_parameter(bad: str) -> None:
    raw = bad.encode().decode("latin-1")
    with pytest.raises(BadRequest, match="'path'") as refused:
        parse_query(f"ns=dev&path={raw}", ALLOWED)
    assert refused.value.context["parameter"] == "path"


@pytest.mark.parametrize("bad", ["%ff", "%c3", "%ed%a0%80", "%f5%80%80%80", "%c0%af"])
def test_what_is_not_utf8_is_refused_naming_the_parameter(bad: str) -> None:
    with pytest.raises(BadRequest, match="'path' is not UTF-8"):
        parse_query(f"path={bad}", ALLOWED)


@pytest.mark.parametrize("name", ["nss", "Path", "", "%ff", "version", "path%00"])
def test_an_unknown_parameter_is_refused_and_named(name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_query(f"ns=dev&{name}=1", ALLOWED)
    assert refused.value.context["parameter"] in (name, "path\0")


def test_an_unknown_parameter_of_megabytes_is_named_shortly() -> None:
    with pytest.raises(BadRequest) as refused:
        parse_query("x" * 2_000_000 + "=1", ALLOWED)
    assert len(refused.value.detail) < 300


@pytest.mark.parametrize("raw", ["ns=a&ns=a", "ns=a&path=b&ns=", "ns=a&%6es=a"])
def test_a_repeated_parameter_is_refused_and_named(raw: str) -> None:
    with pytest.raises(BadRequest, match="'ns' is given more than once"):
        parse_query(raw, ALLOWED)


def test_required() -> None:
    assert required({"ns": "dev"}, "ns") == "dev"
    with pytest.raises(BadRequest, match="'path' is missing"):
        required({"ns": "dev"}, "path")


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("7", 7), ("007", 7), (str(NUMBER_MAX), NUMBER_MAX), ("0" * 19, 0)]
)
def test_numbers(text: str, value: int) -> None:
    assert number({"off": text}, "off") == value


def test_an_absent_number() -> None:
    assert number({}, "off") is None


@pytest.mark.parametrize(
    "text",
    [
        "", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x10", "1_000", "٣", "¹", "abc", "1\n",
        str(NUMBER_MAX + 1), "0" * 20, "9" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(BadRequest, match="'off'") as refused:
        number({"off": text}, "off")
    assert len(refused.value.detail) < 300


def test_versions_begin_at_one() -> None:
    assert version_number({"version": "1"}) == 1
    assert version_number({}) is None
    with pytest.raises(InvalidName, match="'version' is 0"):
        version_number({"version": "0"})


HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("text", [HEX, "sha256:" + HEX, HEX.upper()])
def test_hashes(text: str) -> None:
    assert content_hash({"hash": text}) == bytes.fromhex(HEX)


@pytest.mark.parametrize(
    "text",
    ["", HEX[:-1], HEX + "0", "sha256:", "SHA256:" + HEX, "md5:" + HEX, "g" * 64, HEX + "\n", "٣" * 64],
)
def test_what_is_no_hash(text: str) -> None:
    with pytest.raises(BadRequest, match="'hash'"):
        content_hash({"hash": text})


def test_no_hash() -> None:
    assert content_hash({}) is None
