"""Requests that look wrong and are right: the contract answers them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.support.malformed.base import (
    BATCH,
    BATCH_DATA,
    FILES,
    HASH,
    ITEM,
    NS,
    OLD,
    Odd,
    blob,
    chunk,
    chunked,
    get,
    post,
    request,
)

_TEN: Final = FILES["ten"].data

_IGNORED_RANGES: Final = {
    "several ranges": "bytes=0-1,3-4",
    "another unit": "lines=0-1",
    "no unit": "0-1",
    "no sign": "bytes 0-1",
    "no range": "bytes=",
    "nothing": "",
    "a dash": "bytes=-",
    "words": "bytes=a-b",
    "a first behind the last": "bytes=5-4",
    "a negative first": "bytes=-5-6",
    "three numbers": "bytes=1-2-3",
    "a plus": "bytes=+1-2",
    "an exponent": "bytes=1e0-2",
    "an underscore": "bytes=0_0-1",
    "a digit of Latin-1": "bytes=²-³",
    "a space within": "bytes=0 - 1",
    "a colon": "bytes:0-1",
    "two signs": "bytes==0-1",
    "hundreds of ranges": "bytes=" + "0-0," * 2000 + "1-1",
}

_ODD_ACCEPTS: Final = {
    "nothing": "",
    "words": "frames, please",
    "semicolons": ";;;;",
    "commas": ",,,,",
    "slashes": "///",
    "a quality that is none": "application/x-seekfs-frames;q=x, */*;q=1",
    "a quality over one": "application/x-seekfs-frames;q=1.1, application/*",
    "frames of no quality": "application/x-seekfs-frames;q=0",
    "frames of a quality below zero": "application/x-seekfs-frames;q=-1",
    "frames, but rather bytes": "application/x-seekfs-frames;q=0.1, application/octet-stream",
    "frames of another spelling": "application/x-seekfs-framesx, */*",
    "frames that are a value": 'text/plain;a="application/x-seekfs-frames", */*',
    "open quotation marks": 'text/plain;a="',
    "bytes that are not ASCII": "application/é",
    "8 KiB of types": "a/b," * 2000,
    "8 KiB of parameters": "a/b" + ";c=d" * 2000,
}


def _odd() -> Iterator[Odd]:
    for name, value in _IGNORED_RANGES.items():
        yield Odd(
            f"a Range that is ignored: {name}", blob("", f"Range: {value}".encode("latin-1")), 200, _TEN
        )
    for name, value in _ODD_ACCEPTS.items():
        sent = post(BATCH, f"Accept: {value}".encode("latin-1"))
        yield Odd(f"an Accept that asks for no frames: {name}", sent, 200, BATCH_DATA)

    def right(name: str, sent: bytes, body: bytes, status: int = 200) -> Odd:
        return Odd(name, sent, status, body)

    yield right("a Range in capitals", blob("", "Range: BYTES=1-2"), b"12", 206)
    yield right("a Range among empty members", blob("", "Range: bytes=, 1-2 ,"), b"12", 206)
    yield right("a Range with zeros first", blob("", "Range: bytes=" + "0" * 4000 + "1-2"), b"12", 206)
    yield right("a Range past all ends", blob("", f"Range: bytes=1-{2**64}"), _TEN[1:], 206)
    yield right("a suffix of thousands of digits", blob("", "Range: bytes=-" + "9" * 8000), _TEN, 206)
    yield right("two Ranges, which are several", blob("", "Range: bytes=0-1", "Range: bytes=2-3"), _TEN)
    yield right("a Range of HEAD", request("HEAD", f"/blob?ns={NS}&path=ten", "Range: bytes=99-"), b"")
    yield right("an If-Range that is none", blob("", "If-Range: x", "Range: bytes=1-2"), _TEN)
    yield right("an If-None-Match that is none", blob("", "If-None-Match: x"), _TEN)
    yield right("an If-None-Match of 8 KiB", blob("", "If-None-Match: " + '"x",' * 2000), _TEN)
    yield right("a date that is none", blob("", "If-Modified-Since: never"), _TEN)
    yield right("an empty Host", b"GET /blob?ns=dev&path=ten HTTP/1.1\r\nHost:\r\n\r\n", _TEN)
    yield right("a Host of an address", b"GET /blob?ns=dev&path=ten HTTP/1.1\r\nHost: [::1]:1\r\n\r\n", _TEN)
    yield right("no Host, of HTTP/1.0", b"GET /blob?ns=dev&path=ten HTTP/1.0\r\n\r\n", _TEN)
    yield right("HTTP/1.9", b"GET /blob?ns=dev&path=ten HTTP/1.9\r\nHost: x\r\n\r\n", _TEN)
    yield right("an empty line first", b"\r\n" + blob(""), _TEN)
    yield right("a whole URL", get("http://x:80/blob?ns=dev&path=ten"), _TEN)
    yield right("a whole URL of another host", get("https://user@y/blob?ns=dev&path=ten"), _TEN)
    yield right("an escaped letter of an endpoint", get("/%62lob?ns=dev&path=ten"), _TEN)
    yield right("empty pieces of a query", get("/blob?&ns=dev&&path=ten&"), _TEN)
    yield right("an escaped name", get("/blob?%6e%73=dev&path=ten"), _TEN)
    yield right("an offset of 19 digits", blob("&off=" + "0" * 18 + "1"), _TEN[1:])
    yield right("a length of 63 bits", blob(f"&len={2**63 - 1}"), _TEN)
    yield right("an offset at the end", blob("&off=10"), b"")
    yield right("a version with zeros first", get("/blob?ns=dev&path=file&version=01"), OLD["file"].data)
    yield right(
        "a hash in capitals", get(f"/blob?ns=dev&path=file&hash={HASH.upper()}&len=1"), FILES["file"].data[:1]
    )
    yield right("a number sign, escaped", get("/blob?ns=dev&path=a%23b"), FILES["a#b"].data)
    yield right(
        "a name with all that is escaped", get("/blob?ns=dev&path=a+b/%C3%A9%25"), FILES["a b/é%"].data
    )
    yield right("a body that GET does not need", blob("", "Content-Length: 5") + b"GET /", _TEN)
    yield right(
        "chunks that GET does not need",
        blob("", "Transfer-Encoding: chunked") + chunk(b"x") + b"0\r\n\r\n",
        _TEN,
    )
    yield right("an Expect of a GET", blob("", "Expect: 100-Continue"), _TEN)
    yield right("an upgrade to HTTP/2", blob("", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"), _TEN)
    yield right("an upgrade to a WebSocket", blob("", "Connection: Upgrade", "Upgrade: websocket"), _TEN)
    yield right("what a proxy would say", blob("", "X-Forwarded-Proto: gopher", "SCRIPT_NAME: /x"), _TEN)
    yield right("100 headers", blob("", *[f"X{number}: y" for number in range(99)]), _TEN)
    yield right("a header with bytes of Latin-1", blob("", b"X: \xe9\xff"), _TEN)
    yield right("a header without a value", blob("", "X:"), _TEN)
    yield right("another type of content", post(BATCH, "Content-Type: image/png"), BATCH_DATA)
    yield right("space all over", post(b" \t\r\n[ \n" + ITEM.replace(b":", b" :\t") + b"\n]\r\n"), BATCH_DATA)
    yield right("escapes all over", post(b'[{"\\u0070ath":"\\u0074en","off":1,"len":2}]'), BATCH_DATA)
    yield right("keys in another order", post(b'[{"len":2,"path":"ten","off":1}]'), BATCH_DATA)
    yield right(
        "a length with zeros first",
        request("POST", "/readv?ns=dev", f"Content-Length: {len(BATCH):018}", body=BATCH),
        BATCH_DATA,
    )
    yield right(
        "a byte in each chunk",
        chunked(b"".join(chunk(BATCH[i : i + 1]) for i in range(len(BATCH))) + b"0\r\n\r\n"),
        BATCH_DATA,
    )
    yield right(
        "extensions and trailers",
        chunked(
            b'1d ; a=b;c="\\"d"\r\n'
            + BATCH[:29]
            + b"\r\n"
            + chunk(BATCH[29:] + b" ")
            + b"00;x\r\nA: b\r\n\r\n"
        ),
        BATCH_DATA,
    )


RIGHT: Final = tuple(_odd())
