"""Batches that are none: JSON that is malformed or does not fit, and bodies whose framing is wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Final

from tests.support.malformed.base import (
    BATCH,
    BODY_BYTES_MAX,
    ITEM,
    NS,
    Malformed,
    chunk,
    chunked,
    get,
    post,
    post_as,
    request,
)

FRAMES: Final = "Accept: application/x-seekfs-frames"

# What is in the place of the whole body.
_NO_BATCHES: Final = {
    "nothing": b"",
    "a space": b" ",
    "an empty array": b"[]",
    "an empty object": b"{}",
    "an item that is in no array": ITEM,
    "null": b"null",
    "true": b"true",
    "a number": b"1",
    "a text": b'"ten"',
    "a word": b"ten",
    "a form": b"path=ten&off=1&len=2",
    "XML": b"<ranges/>",
    "a zero byte": b"\x00",
    "a mark of byte order": b"\xef\xbb\xbf" + BATCH,
    "UTF-16": BATCH.decode().encode("utf-16"),
    "UTF-16 without a mark": BATCH.decode().encode("utf-16-be"),
    "UTF-32": BATCH.decode().encode("utf-32-le"),
    "gzip that nobody told of": gzip.compress(BATCH, mtime=0),
    "no end": BATCH[:-1],
    "two ends": BATCH + b"]",
    "no beginning": BATCH[1:],
    "two arrays": BATCH + BATCH,
    "an array behind a comma": BATCH + b"," + BATCH,
    "a line each": ITEM + b"\n" + ITEM,
    "a zero byte behind": BATCH + b"\x00",
    "a comment behind": BATCH + b"// all",
    "a comment before": b"/* all */" + BATCH,
    "100,000 brackets": b"[" * 100_000,
    "100,000 brackets that are closed": b"[" * 100_000 + b"]" * 100_000,
    "100,000 braces": b"{" * 100_000,
    "100,000 objects in one another": b'{"path":' * 100_000,
    "100,000 arrays and objects in turn": b'[{"path":' * 100_000,
    "100,000 commas": b"[" + b"," * 100_000,
    "100,000 quotation marks": b'"' * 100_000,
    "100,000 backslashes": b'["' + b"\\" * 100_000,
    "100,000 digits": b"9" * 100_000,
    "100,000 digits in an array": b"[" + b"9" * 100_000 + b"]",
    "an exponent without end": b"[1e" + b"9" * 100_000 + b"]",
}

# What is in the place of an item, and behind a good one.
_NO_ITEMS: Final = {
    "null": b"null",
    "a number": b"7",
    "a text": b'"ten"',
    "an array": b'["ten",1,2]',
    "an empty array": b"[]",
    "an empty object": b"{}",
    "no path": b'{"off":1,"len":2}',
    "no off": b'{"path":"ten","len":2}',
    "no len": b'{"path":"ten","off":1}',
    "another key": b'{"path":"ten","off":1,"len":2,"hash":"x"}',
    "another key with 100,000 brackets": b'{"path":"ten","off":1,"len":2,"x":'
    + b"[" * 100_000
    + b"]" * 100_000
    + b"}",
    "an empty key": b'{"path":"ten","off":1,"len":2,"":0}',
    "a key in capitals": b'{"Path":"ten","off":1,"len":2}',
    "a key of 100,000 letters": b'{"path":"ten","off":1,"len":2,"' + b"x" * 100_000 + b'":0}',
    "path twice": b'{"path":"ten","off":1,"len":2,"path":"ten"}',
    "off twice": b'{"path":"ten","off":1,"off":1,"len":2}',
    "len twice, not the same": b'{"path":"ten","off":1,"len":2,"len":3}',
    "off twice, once escaped": b'{"path":"ten","off":1,"len":2,"\\u006fff":1}',
    "len a thousand times": b'{"path":"ten","off":1' + b',"len":2' * 1000 + b"}",
    "path is null": b'{"path":null,"off":1,"len":2}',
    "path is a number": b'{"path":1,"off":1,"len":2}',
    "path is an array": b'{"path":["ten"],"off":1,"len":2}',
    "off is null": b'{"path":"ten","off":null,"len":2}',
    "off is true": b'{"path":"ten","off":true,"len":2}',
    "off is a text": b'{"path":"ten","off":"1","len":2}',
    "off is an array": b'{"path":"ten","off":[1],"len":2}',
    "off is an object": b'{"path":"ten","off":{},"len":2}',
    "off is negative": b'{"path":"ten","off":-1,"len":2}',
    "off is minus zero": b'{"path":"ten","off":-0,"len":2}',
    "off is the least of 64 bits": b'{"path":"ten","off":-9223372036854775808,"len":2}',
    "off is a float": b'{"path":"ten","off":1.0,"len":2}',
    "off is an exponent": b'{"path":"ten","off":1e0,"len":2}',
    "off is an exponent without end": b'{"path":"ten","off":1e999999999,"len":2}',
    "off is a small exponent": b'{"path":"ten","off":1e-999999999,"len":2}',
    "off is a long fraction": b'{"path":"ten","off":0.' + b"0" * 50_000 + b'1,"len":2}',
    "off is over 63 bits": b'{"path":"ten","off":9223372036854775808,"len":2}',
    "off is over 64 bits": b'{"path":"ten","off":18446744073709551616,"len":2}',
    "len is over 63 bits": b'{"path":"ten","off":0,"len":9223372036854775808}',
    "len has 100,000 digits": b'{"path":"ten","off":0,"len":' + b"9" * 100_000 + b"}",
    "path is UTF-8 that is none": b'{"path":"\xff","off":1,"len":2}',
    "path is a slash in two bytes": b'{"path":"a\xc0\xafb","off":1,"len":2}',
    "path is a surrogate in three bytes": b'{"path":"\xed\xa0\x80","off":1,"len":2}',
    "path is a text that is cut in UTF-8": b'{"path":"a\xe2\x98","off":1,"len":2}',
    "path is half of a pair": b'{"path":"\\ud83d","off":1,"len":2}',
    "path is the second half of a pair": b'{"path":"\\ude00","off":1,"len":2}',
    "path is a pair the wrong way round": b'{"path":"\\ude00\\ud83d","off":1,"len":2}',
    "a key that is not UTF-8": b'{"path":"ten","off":1,"len":2,"\xff":0}',
}

# A body that is no JSON, however an item is spelt: (item, what is said).
_NO_JSON: Final = {
    "off is not a number": b'{"path":"ten","off":NaN,"len":2}',
    "off is infinite": b'{"path":"ten","off":Infinity,"len":2}',
    "off has a plus": b'{"path":"ten","off":+1,"len":2}',
    "off has a zero first": b'{"path":"ten","off":01,"len":2}',
    "off is hexadecimal": b'{"path":"ten","off":0x1,"len":2}',
    "off has an underscore": b'{"path":"ten","off":1_0,"len":2}',
    "off begins with a point": b'{"path":"ten","off":.5,"len":2}',
    "off ends with a point": b'{"path":"ten","off":1.,"len":2}',
    "off is in full width": '{"path":"ten","off":１,"len":2}'.encode(),
    "off is nothing": b'{"path":"ten","off":,"len":2}',
    "keys without quotation marks": b'{path:"ten","off":1,"len":2}',
    "single quotation marks": b"{'path':'ten','off':1,'len':2}",
    "a comma at the end": b'{"path":"ten","off":1,"len":2,}',
    "no comma": b'{"path":"ten" "off":1,"len":2}',
    "no colon": b'{"path" "ten","off":1,"len":2}',
    "a line feed in a text": b'{"path":"te\nn","off":1,"len":2}',
    "a zero byte in a text": b'{"path":"te\x00n","off":1,"len":2}',
    "an escape that there is not": b'{"path":"te\\xn","off":1,"len":2}',
    "an escape that is cut": b'{"path":"te\\u00","off":1,"len":2}',
    "a text without end": b'{"path":"ten,"off":1,"len":2}',
    "True": b'{"path":"ten","off":True,"len":2}',
}

# Well-formed items that no version has, or that no path can be: (status, item).
_NO_RANGES: Final = {
    "no such file": (404, b'{"path":"none","off":0,"len":0}'),
    "a path that climbs": (400, b'{"path":"../ten","off":0,"len":0}'),
    "an empty path": (400, b'{"path":"","off":0,"len":0}'),
    "a path with a zero byte": (400, b'{"path":"ten\\u0000","off":0,"len":0}'),
    "a path with a backslash": (404, b'{"path":"..\\\\ten","off":0,"len":0}'),
    "a path with an escaped slash": (404, b'{"path":"..%2ften","off":0,"len":0}'),
    "a path of 1025 bytes": (400, b'{"path":"' + b"x" * 1025 + b'","off":0,"len":0}'),
    "a path of half a megabyte": (400, b'{"path":"' + b"x" * 500_000 + b'","off":0,"len":0}'),
    "an offset past the end": (416, b'{"path":"ten","off":11,"len":0}'),
    "a length past the end": (416, b'{"path":"ten","off":9,"len":2}'),
    "a byte of an empty file": (416, b'{"path":"empty","off":0,"len":1}'),
    "an end past 63 bits": (416, b'{"path":"ten","off":9223372036854775807,"len":10}'),
}


def _batches() -> Iterator[Malformed]:
    for name, body in _NO_BATCHES.items():
        yield Malformed(f"batch: {name}", post(body))
    for name, item in _NO_ITEMS.items():
        yield Malformed(f"item: {name}", post(b"[%b,%b]" % (ITEM, item)), item=1, said="item 1")
    for name, item in _NO_JSON.items():
        yield Malformed(f"no JSON: {name}", post(b"[%b]" % item), said="not JSON")
    for name, (status, item) in _NO_RANGES.items():
        yield Malformed(f"range: {name}", post(b"[%b,%b,%b]" % (ITEM, item, ITEM)), status, item=1)
    # What is malformed is no item's fault, and fails also who wants frames.
    for name in ("an empty array", "100,000 brackets", "no end"):
        yield Malformed(f"batch, for frames: {name}", post(_NO_BATCHES[name], FRAMES))
    for name in ("off twice", "off is a float", "path is UTF-8 that is none"):
        body = b"[%b,%b]" % (_NO_ITEMS[name], ITEM)
        yield Malformed(f"item, for frames: {name}", post(body, FRAMES), item=0)
    many = b"[" + b",".join([b'{"path":"a","off":0,"len":0}'] * 37_000) + b"]"
    yield Malformed("batch: more bytes than may be", post(many), 413, said="request_max_mib")
    huge = json.dumps([{"path": "file", "off": 0, "len": 2**20}] * 5).encode()
    yield Malformed("batch: more bytes asked for than may be", post(huge), 413, said="readv_max_mib")
    over = json.dumps([{"path": "ten", "off": 0, "len": 2**63 - 1}] * 2).encode()
    yield Malformed("batch: a sum over 64 bits", post(over), 413, said="readv_max_mib")
    yield Malformed("batch: more bytes asked for in frames", post(huge, FRAMES), 413, said="readv_max_mib")
    yield Malformed("batch: no such namespace", post(BATCH, query="ns=none"), 404)
    yield Malformed("batch: no such version", post(BATCH, query=f"ns={NS}&version=3"), 404)


_NO_LENGTHS: Final = (
    "",
    "x",
    "-1",
    "+29",
    "29.0",
    "2e1",
    "0x1d",
    "1_0",
    "29 29",
    "29,29",
    "29;",
    "²",
    "½",
    "9" * 5000,
)


def _lengths() -> Iterator[Malformed]:
    for text in _NO_LENGTHS:
        sent = post_as(f"Content-Length: {text}".encode("latin-1"), body=BATCH)
        yield Malformed(f"length: {text[:20]!a}", sent)
    yield Malformed("length: twice", post(BATCH, f"Content-Length: {len(BATCH)}"))
    yield Malformed("length: two that differ", post(BATCH, "Content-Length: 0"))
    yield Malformed("length: beside chunks", post(chunk(BATCH) + b"0\r\n\r\n", "Transfer-Encoding: chunked"))
    yield Malformed("length: a space before its colon", post_as(f"Content-Length : {len(BATCH)}", body=BATCH))
    yield Malformed("length: none, and a body", post_as(body=BATCH + b"\r\n"), next_status=400)
    yield Malformed(
        "length: with an underscore", post_as("Content_Length: 2", body=b"[]\r\n"), next_status=400
    )
    yield Malformed(
        "length: less than there is", post_as("Content-Length: 9", body=BATCH + b"\r\n"), next_status=400
    )
    for length in (BODY_BYTES_MAX + 1, 2**31, 2**63 - 1, 2**63, 10**30):
        sent = post_as(f"Content-Length: {length}", body=BATCH)
        yield Malformed(f"length: {length}", sent, 413, said="request_max_mib")
    yield Malformed("length: of a body that nobody reads", get("/nowhere", "Content-Length: 999999"), 404)
    large = request("POST", "/nowhere", "Content-Length: 200000", body=b"x" * 200_000)
    yield Malformed("length: of a large body that nobody reads", large, 404)
    asked = request("POST", "/nowhere", "Content-Length: 2", "Expect: 100-continue", body=b"[]")
    yield Malformed("length: of a body that was asked for and nobody reads", asked, 404)


_NO_CODINGS: Final = {
    "gzip": "Transfer-Encoding: gzip",
    "gzip and chunked": "Transfer-Encoding: gzip, chunked",
    "chunked and gzip": "Transfer-Encoding: chunked, gzip",
    "chunked twice": "Transfer-Encoding: chunked, chunked",
    "chunked in two headers": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "gzip and chunked in two headers": "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
    "identity": "Transfer-Encoding: identity",
    "identity and chunked": "Transfer-Encoding: identity, chunked",
    "nothing": "Transfer-Encoding:",
    "a word like chunked": "Transfer-Encoding: xchunked",
    "chunked in quotation marks": 'Transfer-Encoding: "chunked"',
    "chunked with a parameter": "Transfer-Encoding: chunked;q=1",
    "chunked and a vertical tab": "Transfer-Encoding: \x0bchunked",
    "chunked before its colon": "Transfer-Encoding : chunked",
    "folded": "Transfer-Encoding:\r\n chunked",
}

# What comes behind the head of a body in chunks.
_NO_CHUNKS: Final = {
    "no size": b"\r\n",
    "a word for a size": b"xyz\r\n",
    "a negative size": b"-1\r\n",
    "a size with a plus": b"+5\r\n",
    "a size with 0x": b"0x5\r\n",
    "a size with an underscore": b"1_0\r\n",
    "a size in full width": "５\r\n".encode(),
    "a space before a size": b" 5\r\n",
    "a space behind a size": b"5 \r\n",
    "a zero byte behind a size": b"5\x00\r\n",
    "a bare line feed behind a size": b"5\n",
    "a bare carriage return behind a size": b"5\rx\r\n",
    "less than its size": b"3\r\n[]\r\n0\r\n\r\n",
    "more than its size": b"1\r\n[]\r\n0\r\n\r\n",
    "no end of a chunk": b"2\r\n[]0\r\n\r\n",
    "a bare line feed behind a chunk": b"2\r\n[]\n0\r\n\r\n",
    "a bare carriage return behind a chunk": b"2\r\n[]\r0\r\n\r\n",
    "an extension without a name": b"2;\r\n[]\r\n0\r\n\r\n",
    "an extension with a control character": b"2;a=\x01\r\n[]\r\n0\r\n\r\n",
    "an extension with a bare carriage return": b"2;a\r=b\r\n[]\r\n0\r\n\r\n",
    "an extension in open quotation marks": b'2;a="b\r\n[]\r\n0\r\n\r\n',
    "an extension of 9 KiB": b"2;" + b"a" * 9000 + b"\r\n[]\r\n0\r\n\r\n",
    "an extension of 9 KiB without an end": b"2;" + b"a" * 9000,
    "a trailer without a colon": chunk(BATCH) + b"0\r\nx\r\n\r\n",
    "a trailer that is folded": chunk(BATCH) + b"0\r\nA: b\r\n c\r\n\r\n",
    "a trailer with a space in its name": chunk(BATCH) + b"0\r\nA b: c\r\n\r\n",
    "a trailer with a zero byte": chunk(BATCH) + b"0\r\nA: \x00\r\n\r\n",
    "a trailer with a bare line feed": chunk(BATCH) + b"0\r\nA: b\n\r\n",
    "a Host in a trailer": chunk(BATCH) + b"0\r\nHost: x\r\n\r\n",
    "a length in a trailer": chunk(BATCH) + b"0\r\nContent-Length: 0\r\n\r\n",
    "a coding in a trailer": chunk(BATCH) + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "an item over two chunks with an end between": chunk(BATCH[:5])
    + b"\r\n"
    + chunk(BATCH[5:])
    + b"0\r\n\r\n",
    "something in the 70,000th byte": chunk(b" " * 70_000) + b"x\r\n",
    "a bad trailer behind 70,000 bytes": chunk(b" " * 70_000) + b"0\r\nHost: x\r\n\r\n",
}


def _chunks() -> Iterator[Malformed]:
    whole = chunk(BATCH) + b"0\r\n\r\n"
    for name, header in _NO_CODINGS.items():
        yield Malformed(f"coding: {name}", post_as(header, body=whole))
    old = f"POST /readv?ns={NS} HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    yield Malformed("coding: chunked, of HTTP/1.0", old + whole)
    yield Malformed("coding: chunked, of HTTP/1.0, without a body", old)
    for name, raw in _NO_CHUNKS.items():
        yield Malformed(f"chunks: {name}", chunked(raw))
    yield Malformed("chunks: nothing", chunked(b"0\r\n\r\n"), said="empty")
    yield Malformed(
        "chunks: nothing but an end with many zeros", chunked(b"0" * 100 + b"\r\n\r\n"), said="empty"
    )
    yield Malformed("chunks: no batch", chunked(chunk(b"[") + chunk(b"}") + b"0\r\n\r\n"), said="not JSON")
    yield Malformed("chunks: UTF-8 that is cut, and the end", chunked(chunk(b'["\xe2') + b"0\r\n\r\n"))
    over = BODY_BYTES_MAX + 1
    yield Malformed("chunks: one too large", chunked(b"%x\r\n" % over), 413, said="request_max_mib")
    yield Malformed("chunks: one of 64 bits", chunked(b"f" * 16 + b"\r\n"), 413)
    yield Malformed("chunks: one of more bits than there are", chunked(b"f" * 5000 + b"\r\n"), 413)
    yield Malformed("chunks: too large together", chunked(chunk(b" " * 2**19) * 2 + b"1\r\n"), 413)
    yield Malformed("chunks: a trailer of 9 KiB", chunked(chunk(BATCH) + b"0\r\nA: " + b"b" * 9000), 431)
    yield Malformed("chunks: trailers of 9 KiB", chunked(chunk(BATCH) + b"0\r\n" + b"A: b\r\n" * 1500), 431)
    unread = "Transfer-Encoding: chunked"
    yield Malformed("chunks: a bad size that nobody would read", get("/healthz", unread) + b"zz\r\n")
    bad = chunk(b"x") + b"0\r\nHost: x\r\n\r\n"
    yield Malformed("chunks: a bad trailer that nobody would read", get("/healthz", unread) + bad)
    yield Malformed("chunks: a bad trailer of HEAD", request("HEAD", "/healthz", unread, body=bad))


BODIES: Final = (*_batches(), *_lengths(), *_chunks())
