"""Request lines, targets and headers that are none, or that say what cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.support.malformed.base import BATCH, HASH, NS, Malformed, blob, get, post, post_as, request

_TEN: Final = f"/blob?ns={NS}&path=ten"

_NO_ENDPOINTS: Final = {
    "the root": "/",
    "an endpoint in capitals": "/BLOB",
    "an endpoint and a slash": "/blob/",
    "an endpoint and a name": "/blob/ten",
    "two slashes": "//blob",
    "two slashes and a bracket": "//[",
    "a point": "/./blob",
    "two points": "/../blob",
    "two points within": "/x/../blob",
    "escaped points": "/%2e%2e/blob",
    "a traversal": "/blob/../../../../etc/passwd",
    "an escaped traversal": "/..%2f..%2fetc%2fpasswd",
    "an escaped slash": "/%2fblob",
    "an escaped slash for the first": "/x%2fblob",
    "a backslash": "/\\blob",
    "a backslash last": "/blob\\",
    "an escaped backslash": "/..%5cblob",
    "an escaped zero byte": "/blob%00",
    "an escaped zero byte and a suffix": "/blob%00.html",
    "an escaped line feed": "/blob%0a",
    "an escaped carriage return and line feed": "/blob%0d%0aX:%20y",
    "an escaped space": "/blob%20",
    "an escaped question mark": f"/blob%3Fns={NS}&path=ten",
    "bytes that are not UTF-8": "/%ff%fe",
    "a broken escape": "/%",
    "a broken escape in an endpoint": "/bl%6",
    "an escape of an escape": "/%2562lob",
    "a parameter of a segment": f"/blob;x?ns={NS}&path=ten",
    "brackets": "/[blob]",
    "braces": "/{blob}",
    "quotation marks": '/"blob"',
    "a page of PHP": "/index.php?s=/index/think",
    "markup": "/<script>alert(1)</script>",
    "7000 letters": "/" + "x" * 7000,
    "7000 slashes": "/" * 7000,
}

_NO_TARGETS: Final = {
    "a zero byte": b"/blob\x00?ns=dev&path=ten",
    "a tab": b"/blob\t?ns=dev&path=ten",
    "a delete": b"/blob?ns=dev&path=ten\x7f",
    "an escape": b"/\x1b[31m",
    "UTF-8 that is not escaped": "/blob?ns=dev&path=é".encode(),
    "a byte that is not UTF-8": b"/blob?ns=dev&path=\xff",
    "a backslash for the slash": b"\\blob?ns=dev&path=ten",
    "no slash": b"blob?ns=dev&path=ten",
    "nothing but a query": b"?ns=dev&path=ten",
    "an asterisk": b"*",
    "a host and a port": b"x:80",
    "a host without its end": b"http://[::1/blob?ns=dev&path=ten",
    "a host in brackets that is no address": b"http://[x]/blob?ns=dev&path=ten",
}

_HASH_SIGNS: Final = {
    "a number sign in a path": f"/blob?ns={NS}&path=a#b",
    "a number sign at the end": f"{_TEN}#",
    "a number sign for the question mark": f"/blob#ns={NS}&path=ten",
    "a number sign behind a host": f"http://x{_TEN}#ten",
}


def _lines() -> Iterator[Malformed]:
    def line(name: str, sent: bytes, status: int = 400, said: str = "") -> Malformed:
        return Malformed(f"request line: {name}", sent + b"\r\nHost: x\r\n\r\n", status, said=said)

    target = _TEN.encode()
    yield line("words", b"nonsense")
    yield line("nothing but the method", b"GET")
    yield line("no version", b"GET " + target)
    yield line("no target", b"GET HTTP/1.1")
    yield line("an empty target", b"GET  HTTP/1.1")
    yield line("two spaces", b"GET  " + target + b" HTTP/1.1")
    yield line("a space first", b" GET " + target + b" HTTP/1.1")
    yield line("a space last", b"GET " + target + b" HTTP/1.1 ")
    yield line("tabs for spaces", b"GET\t" + target + b"\tHTTP/1.1")
    yield line("a fourth word", b"GET " + target + b" HTTP/1.1 x")
    yield line("a space within the target", b"GET " + target + b" b/x HTTP/1.1")
    yield line("a method in small letters", b"get " + target + b" HTTP/1.1", said="method")
    yield line("a method with a small letter", b"Get " + target + b" HTTP/1.1", said="method")
    yield line("a method of two letters", b"GE " + target + b" HTTP/1.1", said="method")
    yield line("a method of 21 letters", b"G" * 21 + b" " + target + b" HTTP/1.1", said="method")
    yield line("a method with a zero byte", b"GE\x00T " + target + b" HTTP/1.1", said="method")
    yield line("a method with a colon", b"GET: " + target + b" HTTP/1.1", said="method")
    yield line("a method with a byte of Latin-1", b"G\xcbT " + target + b" HTTP/1.1", said="method")
    yield line("a method behind a mark of byte order", b"\xef\xbb\xbfGET " + target + b" HTTP/1.1")
    for version in ("HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/9.9"):
        yield line(f"the version {version}", b"GET " + target + f" {version}".encode(), said="Version")
    yield line("a version in small letters", b"GET " + target + b" http/1.1", said="Version")
    yield line("a version of one number", b"GET " + target + b" HTTP/1", said="Version")
    yield line("a version of three", b"GET " + target + b" HTTP/1.1.1", said="Version")
    yield line("a version of two digits", b"GET " + target + b" HTTP/1.10", said="Version")
    yield line("a version with a comma", b"GET " + target + b" HTTP/1,1", said="Version")
    yield line("a version in full width", b"GET " + target + " HTTP/１.1".encode())
    yield line("another protocol", b"GET " + target + b" ICY/1.1", said="Version")
    yield line("a carriage return within", b"GET " + target + b"\rx HTTP/1.1")
    yield line("a header for a line", b"Host: x")
    yield line("a status line", b"HTTP/1.1 200 OK")
    yield line("8191 bytes", b"GET /" + b"x" * 8177 + b" HTTP/1.1", 414)
    yield line("9000 bytes of a query", b"GET " + target + b"&off=" + b"0" * 9000 + b" HTTP/1.1", 414)
    yield Malformed("request line: 9000 bytes without an end", b"GET /" + b"x" * 9000, 414)
    yield Malformed("request line: bare line feeds", b"GET " + target + b" HTTP/1.1\nHost: x\n\n")
    yield Malformed("request line: of HTTP/0.9", b"GET " + target + b"\r\n")
    yield Malformed("two empty lines first", b"\r\n\r\n" + get(_TEN))
    yield Malformed("another protocol: HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    yield Malformed("another protocol: TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\x00\x20\r\n")
    yield Malformed("another protocol: SSH", b"SSH-2.0-OpenSSH_9.9\r\n")
    yield Malformed("another protocol: SMTP", b"EHLO x\r\n")
    yield Malformed("another protocol: Redis", b"*1\r\n$4\r\nPING\r\n")
    yield Malformed("a proxy's greeting", b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n" + get(_TEN))
    yield Malformed("a proxy's greeting in bytes", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12))


def _targets() -> Iterator[Malformed]:
    for name, target in _NO_ENDPOINTS.items():
        yield Malformed(f"no endpoint: {name}", get(target), 404, said="there is no endpoint")
    for name, raw in _NO_TARGETS.items():
        yield Malformed(f"no target: {name}", get(raw), said="request line")
    for name, target in _HASH_SIGNS.items():
        yield Malformed(f"no target: {name}", get(target), said="%23")
    yield Malformed("no endpoint: another host's root", get("http://x"), 404)
    yield Malformed("no endpoint: an asterisk, of OPTIONS", request("OPTIONS", "*"), 404)
    yield Malformed("no endpoint: a host and a port, of CONNECT", request("CONNECT", "x:80"), 404)
    yield Malformed("no target: a host without its end, of CONNECT", request("CONNECT", "http://[:80"))
    yield Malformed("no endpoint: HEAD", request("HEAD", "/nowhere"), 404)
    for method in (
        "POST",
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "PROPFIND",
        "BREW",
        "M-SEARCH",
    ):
        yield Malformed(f"no method of /blob: {method}", request(method, _TEN), 405, said="GET or HEAD")
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        yield Malformed(
            f"no method of /readv: {method}", request(method, f"/readv?ns={NS}"), 405, said="POST"
        )
    yield Malformed("no method of /readv: HEAD", request("HEAD", f"/readv?ns={NS}"), 405)
    for endpoint in (
        "healthz",
        "readyz",
        "metrics",
        "advisor",
        "slow",
        "test_head",
        "test_s3",
        "test_stream",
    ):
        body = request("POST", f"/{endpoint}", "Content-Length: 2", body=b"{}")
        yield Malformed(f"no method of /{endpoint}: POST with a body", body, 405, said="GET or HEAD")


_NO_HEADERS: Final = {
    "no colon": b"no colon",
    "no name": b": x",
    "nothing but a colon": b":",
    "a space before the colon": b"Accept : x",
    "a tab before the colon": b"Accept\t: x",
    "a space within a name": b"Acc ept: x",
    "a name in brackets": b"(Accept): x",
    "a name in quotation marks": b'"Accept": x',
    "a name with a slash": b"Acc/ept: x",
    "a name with a zero byte": b"Acc\x00ept: x",
    "a name of UTF-8": "Äccept: x".encode(),
    "a name of Latin-1": b"\xc4ccept: x",
    "a value with a zero byte": b"Accept: a\x00b",
    "a value with a bell": b"Accept: a\x07b",
    "a value with an escape": b"Accept: \x1b[31m",
    "a value with a delete": b"Accept: a\x7f",
    "a carriage return within a value": b"Accept: a\rb",
    "a line feed within a value": b"Accept: a\nRange: bytes=0-1",
    "folded": b"Accept: a\r\n b",
    "folded with a tab": b"Accept: a\r\n\tb",
    "folded to nothing": b"Accept: a\r\n ",
    "folded, and about ranges": b"Range: bytes=\r\n 0-1",
    "folded, and about length": b"Content-Length:\r\n 0",
    "a second Host": b"Host: x",
    "another Host": b"HOST: y",
    "a second Content-Type": b"Content-Type: a/b\r\nContent-Type: c/d",
    "an Expect that is not known": b"Expect: miracles",
    "an Expect that is nothing": b"Expect:",
    "two of Expect, one not known": b"Expect: 100-continue\r\nExpect: x",
    "a bad escape of a line end": b"Accept: a\r\n\r: b",
}
_NO_HOSTS: Final = (
    "a b",
    "x/y",
    "u@x",
    "x:y",
    "x:1:2",
    "::1",
    "[::1",
    "[]",
    "%zz",
    "\xe9",
    "x?y",
    "http://x",
)


def _headers() -> Iterator[Malformed]:
    for name, raw in _NO_HEADERS.items():
        status = 417 if b"Expect" in raw else 400
        yield Malformed(f"header: {name}", blob("", raw), status)
    yield Malformed("header: folded before there is one", f"GET {_TEN} HTTP/1.1\r\n Host: x\r\n\r\n".encode())
    yield Malformed("header: a name of 8 KiB", blob("", "X" * 8190 + ": y"), 431)
    yield Malformed("header: a value of 8 KiB", blob("", "Accept: " + "x" * 8190), 431)
    yield Malformed("header: a Range of 8 KiB", blob("", "Range: bytes=" + "0-1," * 2048), 431)
    yield Malformed(
        "header: an If-None-Match of 8 KiB", blob("", "If-None-Match: " + f'"{HASH}",' * 123), 431
    )
    yield Malformed("header: 101 of them", blob("", *[f"X{number}: y" for number in range(100)]), 431)
    yield Malformed("header: 64 KiB without an end", blob("")[:-2] + b"X: " + b"y" * 65_536, 431)
    yield Malformed("header: 64 KiB of them without an end", blob("")[:-2] + b"X: y\r\n" * 11_000, 431)
    yield Malformed("header: 64 KiB of names without an end", blob("")[:-2] + b"x" * 65_536, 431)
    yield Malformed("header: folded, of a batch", post(BATCH, "Accept: a\r\n b"))
    yield Malformed("header: folded, of HEAD", request("HEAD", _TEN, "Accept: a\r\n b"))
    for host in _NO_HOSTS:
        sent = f"GET {_TEN} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1")
        yield Malformed(f"header: a Host that is none: {host!a}", sent, said="Host")
    yield Malformed("header: no Host", f"GET {_TEN} HTTP/1.1\r\n\r\n".encode(), said="Host")
    yield Malformed(
        "header: no Host but a whole URL", f"GET http://x{_TEN} HTTP/1.1\r\n\r\n".encode(), said="Host"
    )
    yield Malformed("header: no Host, of HEAD", f"HEAD {_TEN} HTTP/1.1\r\n\r\n".encode())
    yield Malformed(
        "header: a Host that is none, of HTTP/1.0", f"GET {_TEN} HTTP/1.0\r\nHost: a b\r\n\r\n".encode()
    )
    yield Malformed("header: an encoding of a body", post(BATCH, "Content-Encoding: gzip"), 415, said="gzip")
    yield Malformed("header: two encodings of a body", post(BATCH, "Content-Encoding: identity, br"), 415)
    yield Malformed(
        "header: an encoding that is none", post_as("Content-Encoding: \xff", "Content-Length: 0"), 415
    )


def _conditions() -> Iterator[Malformed]:
    """These are refused for what they ask; what is malformed of a Range is ignored (``right``)."""

    def condition(name: str, status: int, *headers: str, query: str = "") -> Malformed:
        return Malformed(f"condition: {name}", blob(query, *headers), status)

    yield condition("a suffix of nothing", 416, "Range: bytes=-0")
    yield condition("a suffix of nothing in many digits", 416, "Range: bytes=-" + "0" * 100)
    yield condition("a first byte at the end", 416, "Range: bytes=10-")
    yield condition("a first byte past the end", 416, "Range: bytes=11-12")
    yield condition("a first byte over 63 bits", 416, f"Range: bytes={2**63}-")
    yield condition("a first byte over 64 bits", 416, f"Range: bytes={2**64}-{2**64 + 1}")
    yield condition("a first byte of thousands of digits", 416, "Range: bytes=" + "9" * 8000 + "-")
    yield condition("a range of nothing", 416, "Range: bytes=0-0", query="&len=0")
    yield condition("an offset past the end", 416, query="&off=11")
    yield condition("an offset past all ends", 416, query=f"&off={2**63 - 1}&len={2**63 - 1}")
    yield condition("an offset past the end, whatever is there", 416, "If-None-Match: *", query="&off=11")
    yield condition("If-Match of nothing", 412, "If-Match:")
    yield condition("If-Match without quotation marks", 412, f"If-Match: sha256:{HASH}")
    yield condition("If-Match of a weak tag", 412, f'If-Match: W/"sha256:{HASH}"')
    yield condition("If-Match with one quotation mark", 412, f'If-Match: "sha256:{HASH}')
    yield condition("If-Match of bytes that are not ASCII", 412, 'If-Match: "é"')
    yield condition("If-Match of many commas", 412, "If-Match: " + "," * 8000)
    yield condition("If-Match of many quotation marks", 412, "If-Match: " + '"' * 8000)
    yield condition("If-Match of an asterisk among others", 412, 'If-Match: "x", *')
    yield condition("a version that there is not", 404, query="&version=9223372036854775807")
    yield condition("other content", 404, query=f"&hash={'0' * 64}")


HEADS: Final = (*_lines(), *_targets(), *_headers(), *_conditions())
