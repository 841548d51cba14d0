"""Queries that cannot be read, or not in one way only: at each endpoint that takes parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.support.malformed.base import BATCH, HASH, NS, Malformed, get, post, request

_BAD_ESCAPES: Final = {
    "a percent sign at the end": "a%",
    "one digit at the end": "a%4",
    "one digit and another parameter": "a%4&off=0",
    "no hex digits": "a%zz",
    "one hex digit and no other": "a%4g",
    "a percent sign twice": "a%%41",
    "an escape of JavaScript": "a%u0041",
    "a sign": "a%-1",
    "a plus and a digit": "a%+4",
    "0x": "a%0x41",
    "half of an escape of an escape": "a%2",
}

_BAD_UTF8: Final = {
    "the byte FF": "%FF",
    "the byte FE": "%fe",
    "a continuation alone": "a%80",
    "a start alone": "%c3",
    "a start and a letter": "%c3a",
    "a start and another start": "%c3%c3",
    "two of three bytes": "%e2%98",
    "two of three bytes and a letter": "%e2%98a",
    "three of four bytes": "%f0%9f%98",
    "a slash in two bytes": "a%c0%afb",
    "a slash in three bytes": "a%e0%80%afb",
    "a zero in two bytes": "a%c0%80",
    "a surrogate": "%ed%a0%80",
    "a pair of surrogates": "%ed%a0%bd%ed%b8%80",
    "past the last code point": "%f4%90%80%80",
    "a start of four bytes that there is not": "%f5%80%80%80",
    "five bytes": "%f8%88%80%80%80",
    "Latin-1": "caf%e9",
    "UTF-16": "%ff%fea%00",
    "good text first": "%e2%98%83%e2",
}

_UNKNOWN: Final = {
    "a longer name": ("offset=0", "offset"),
    "a shorter name": ("o=0", "o"),
    "capitals": ("Off=0", "Off"),
    "all capitals": ("NS=dev", "NS"),
    "no name": ("=0", ""),
    "nothing but the sign": ("=", ""),
    "a zero behind the name": ("off%00=0", "off\0"),
    "a space behind the name": ("off+=0", "off "),
    "a space before the name": ("%20off=0", " off"),
    "brackets behind the name": ("off[]=0", "off[]"),
    "a number in brackets": ("off[0]=0", "off[0]"),
    "letters of another width": ("%ef%bd%8fff=0", "ｏff"),
    "a name of Latin-1": ("%e9=0", "%e9"),
    "a name with a broken escape": ("o%f=0", "o%f"),
    "semicolons between": ("off=0;len=1", "off"),
    "another endpoint's": ("page_id=0", "page_id"),
    "a key": ("key=x", "key"),
    "a name of kilobytes": ("x" * 6000 + "=0", "x" * 100),
    "a second question mark": ("?off=0", "?off"),
    "an ampersand that is HTML's": ("amp;off=0", "amp;off"),
    "a number sign, escaped": ("%23off=0", "#off"),
}

_NO_NUMBERS: Final = {
    "nothing": "",
    "a minus": "-1",
    "a minus and zero": "-0",
    "a plus": "%2B1",
    "a space before": "+1",
    "a space behind": "1+",
    "a line feed behind": "1%0A",
    "a carriage return behind": "1%0D",
    "a tab before": "%091",
    "a zero byte behind": "1%00",
    "a no-break space": "%C2%A01",
    "a point": "1.0",
    "a point at the end": "1.",
    "a comma": "1,0",
    "an exponent": "1e3",
    "an underscore": "1_0",
    "hexadecimal": "0x10",
    "octal": "0o17",
    "hexadecimal without its mark": "1f",
    "a long of Python 2": "1L",
    "a digit of full width": "%EF%BC%91",
    "a digit and one of full width": "1%EF%BC%90",
    "an Arabic digit": "%D9%A1",
    "a Devanagari digit": "%E0%A5%A7",
    "a superscript": "%C2%B2",
    "a fraction": "%C2%BD",
    "a Roman numeral": "%E2%85%A0",
    "a bold digit": "%F0%9D%9F%8F",
    "not a number": "NaN",
    "infinity": "inf",
    "a word": "ten",
    "true": "true",
    "null": "null",
    "two numbers": "1,2",
    "a range": "0-5",
    "a unit": "1k",
    "quotation marks": "%221%22",
    "over 63 bits": "9223372036854775808",
    "over 64 bits": "18446744073709551616",
    "twenty digits": "00000000000000000001",
    "thousands of digits": "9" * 5000,
    "an escape of an escape": "%2531",
}

_NO_HASHES: Final = {
    "nothing": "",
    "its kind only": "sha256:",
    "a digit too few": HASH[1:],
    "a digit too many": HASH + "0",
    "a letter that is no digit": "g" + HASH[1:],
    "a kind in capitals": "SHA256:" + HASH,
    "another kind": "md5:" + HASH[:32],
    "another sign": "sha256-" + HASH,
    "its kind twice": "sha256:sha256:" + HASH,
    "a space behind": HASH + "+",
    "a line feed behind": HASH + "%0A",
    "quotation marks, as in an ETag": "%22sha256:" + HASH + "%22",
    "digits of full width": "%EF%BC%91" * 64,
    "base64": "47DEQpj8HBSa%2B%2FTImW%2B5JCeuQeRkm5NMpJWZG3hSuFU%3D",
    "a zero byte": HASH + "%00",
}

_NO_NAMESPACES: Final = {
    "nothing": "",
    "capitals": "Dev",
    "a dash first": "-dev",
    "a point first": ".dev",
    "two points": "..",
    "a slash": "dev/x",
    "an escaped slash": "dev%2Fx",
    "a backslash": "dev%5Cx",
    "a space": "dev+",
    "a line feed behind": "dev%0A",
    "a zero byte": "dev%00",
    "64 letters": "a" * 64,
    "a letter with an accent": "d%C3%A9v",
    "a letter that looks like one": "d%D0%B5v",
    "a dotless i, which is i in capitals": "d%C4%B1",
    "a percent sign": "dev%25",
    "a colon": "dev:1",
    "a traversal": "../dev",
}

_NO_PATHS: Final = {
    "nothing": "",
    "a slash first": "/ten",
    "an escaped slash first": "%2Ften",
    "a slash last": "ten/",
    "nothing but a slash": "/",
    "two slashes": "a//b",
    "two escaped slashes": "a%2f%2fb",
    "a segment of one point": "./ten",
    "nothing but a point": ".",
    "a segment of two points": "../ten",
    "two points within": "a/../ten",
    "two points last": "ten/..",
    "escaped points": "%2e%2e/ten",
    "an escaped traversal": "..%2f..%2fetc%2fpasswd",
    "a traversal out of the bucket": "../" * 40 + "etc/passwd",
    "a zero byte": "ten%00",
    "a zero byte and a suffix": "ten%00.tar",
    "a line feed": "a%0Ab",
    "a carriage return and a line feed": "ten%0D%0AX-Header:%20x",
    "a tab": "a%09b",
    "an escape": "%1B[31m",
    "a delete": "a%7F",
    "a control character of Latin-1": "a%C2%85b",
    "1025 bytes": "x" * 1025,
    "1025 bytes in 342 characters": "%E2%98%83" * 341 + "xx",
}


def _blob() -> Iterator[Malformed]:
    def blob(name: str, query: str, parameter: str | None, said: str = "") -> Malformed:
        return Malformed(f"blob: {name}", get(f"/blob?{query}"), said=said, parameter=parameter)

    for name, text in _BAD_ESCAPES.items():
        yield blob(f"a path with {name}", f"ns={NS}&path={text}", "path", "'path' has the escape")
    for name, text in _BAD_UTF8.items():
        yield blob(
            f"a path of bytes that are not UTF-8: {name}", f"ns={NS}&path={text}", "path", "is not UTF-8"
        )
    for name, (piece, parameter) in _UNKNOWN.items():
        yield blob(f"an unknown parameter: {name}", f"ns={NS}&path=ten&{piece}", parameter)
    good = {"ns": NS, "path": "ten", "off": "0", "len": "1", "hash": HASH, "version": "2"}
    for name in good:
        query = "&".join(f"{each}={value}" for each, value in good.items())
        yield blob(f"{name} twice", f"{query}&{name}={good[name]}", name, "more than once")
    yield blob("off twice, once escaped", f"ns={NS}&path=ten&off=1&%6Fff=1", "off", "more than once")
    yield blob("off twice, once empty", f"ns={NS}&off=&path=ten&off=1", "off")
    yield blob("path without a value, and with one", f"ns={NS}&path&path=ten", "path", "more than once")
    yield blob("no ns", "path=ten", "ns", "missing")
    yield blob("no path", f"ns={NS}", "path", "missing")
    yield blob("nothing but ampersands", "&&&", "ns", "missing")
    yield blob("an empty query", "", "ns", "missing")
    yield Malformed("blob: no query", get("/blob"), parameter="ns")
    for name, text in _NO_NUMBERS.items():
        yield blob(f"off is {name}", f"ns={NS}&path=ten&off={text}", "off", "'off'")
    for name in (
        "nothing",
        "a minus",
        "an exponent",
        "a digit of full width",
        "an underscore",
        "over 63 bits",
    ):
        text = _NO_NUMBERS[name]
        yield blob(f"len is {name}", f"ns={NS}&path=ten&len={text}", "len", "'len'")
        yield blob(f"version is {name}", f"ns={NS}&path=ten&version={text}", "version", "'version'")
    yield blob("version 0", f"ns={NS}&path=ten&version=0", "version", "versions are 1 to")
    yield blob(
        "version 0 in many digits", f"ns={NS}&path=ten&version={'0' * 19}", "version", "versions are 1 to"
    )
    yield blob("a version as HEAD has it", f"ns={NS}&path=ten&version=v-2", "version", "'v-2'")
    for name, text in _NO_HASHES.items():
        yield blob(f"hash is {name}", f"ns={NS}&path=file&hash={text}", "hash", "64 hex digits")
    for name, text in _NO_NAMESPACES.items():
        yield blob(f"ns is {name}", f"ns={text}&path=ten", "namespace", "is not a namespace")
    for name, text in _NO_PATHS.items():
        yield blob(f"path is {name}", f"ns={NS}&path={text}", "path")
    # What is wrong is said in the order of the contract, also where something else is wrong too.
    yield blob("wrong and of no such file", f"ns={NS}&path=none&off=x", "off")
    yield blob("wrong and of no such namespace", "ns=none&path=ten&len=x", "len")


def _others() -> Iterator[Malformed]:
    """A kind or two of each: all endpoints read their queries in one way, and each by itself."""

    def readv(name: str, query: str, parameter: str) -> Malformed:
        return Malformed(f"readv: {name}", post(BATCH, query=query), parameter=parameter)

    yield readv("no ns", "", "ns")
    yield readv("no ns but a version", "version=2", "ns")
    yield readv("ns twice", f"ns={NS}&ns={NS}", "ns")
    yield readv("a path in the query", f"ns={NS}&path=ten", "path")
    yield readv("version 0", f"ns={NS}&version=0", "version")
    yield readv("a version in full width", f"ns={NS}&version=%EF%BC%92", "version")
    yield readv("a version over 63 bits", f"ns={NS}&version={2**63}", "version")
    yield readv("ns with a broken escape", "ns=de%v", "ns")
    yield readv("ns that is not UTF-8", "ns=%ff", "ns")
    yield readv("ns that climbs", "ns=..", "namespace")

    def other(name: str, target: str, parameter: str | None, status: int = 400) -> Malformed:
        endpoint = target[1:].partition("?")[0]
        return Malformed(f"{endpoint}: {name}", get(target), status, parameter=parameter)

    ten = f"ns={NS}&path=ten"
    yield other("no parameters", "/test_head", "ns")
    yield other("no path", f"/test_head?ns={NS}", "path")
    yield other("a range", f"/test_head?{ten}&off=0", "off")
    yield other("a path that climbs", f"/test_head?ns={NS}&path=../ten", "path")
    yield other("a broken escape", f"/test_head?ns={NS}&path=%", "path")
    yield other("a key beside a file", f"/test_head?{ten}&key=old/file", "key")
    yield other("an empty key", "/test_head?key=", "key")
    yield other("a key that climbs", "/test_head?key=old/../old/file", "key")
    yield other("a key with a zero byte", "/test_head?key=old%00", "key")
    yield other("a key of 1025 bytes", "/test_head?key=" + "x" * 1025, "key")
    yield other("a key twice", "/test_head?key=a&key=a", "key")
    yield other("a key that is not UTF-8", "/test_head?key=%ff", "key")
    yield other("no range", f"/test_s3?{ten}", "off")
    yield other("no length", f"/test_s3?{ten}&off=0", "len")
    yield other("a length of 0", f"/test_s3?{ten}&off=0&len=0", "len")
    yield other("a negative offset", f"/test_s3?{ten}&off=-1&len=1", "off")
    yield other("a length over 63 bits", f"/test_s3?{ten}&off=0&len={2**63}", "len")
    yield other("a version, which it does not take", f"/test_s3?{ten}&off=0&len=1&version=1", "version")
    yield other("an offset at the end", f"/test_s3?{ten}&off=10&len=1", None, 416)
    yield other("an offset past all ends", f"/test_s3?{ten}&off={2**63 - 1}&len={2**63 - 1}", None, 416)
    yield other("no page", f"/test_stream?{ten}", "page_id")
    yield other("a negative page", f"/test_stream?{ten}&page_id=-1", "page_id")
    yield other("a page in an exponent", f"/test_stream?{ten}&page_id=1e0", "page_id")
    yield other("more pages than a file has", f"/test_stream?{ten}&page_id={2**32}", None, 416)
    yield other("a page over 63 bits", f"/test_stream?{ten}&page_id={2**63}", "page_id")
    yield other("a page twice", f"/test_stream?{ten}&page_id=0&page_id=0", "page_id")
    yield other("a page past the end", f"/test_stream?{ten}&page_id=1", None, 416)
    yield other("a page of an empty file", f"/test_stream?ns={NS}&path=empty&page_id=0", None, 416)
    yield other("a key, which it does not take", "/test_stream?key=old/file&page_id=0", "key")
    for endpoint in ("healthz", "readyz", "metrics", "advisor", "slow"):
        yield other("a parameter", f"/{endpoint}?verbose=1", "verbose")
        yield other("a broken escape for a name", f"/{endpoint}?%", "%")
    head = request("HEAD", f"/blob?ns={NS}&path=../ten")
    yield Malformed("blob: HEAD of a path that climbs", head)
    yield Malformed("blob: HEAD with an unknown parameter", request("HEAD", f"/blob?{ten}&x=y"))
    yield Malformed("blob: HEAD of an offset past the end", request("HEAD", f"/blob?{ten}&off=11"), 416)
    yield Malformed("readyz: HEAD with a parameter", request("HEAD", "/readyz?x"))


QUERIES: Final = (*_blob(), *_others())
