"""Requests of every kind, made from good ones by changing a little, for Hypothesis to choose from.

About half of what it chooses is right: a request that is nothing but noise is refused for its first byte, and
says nothing of the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from attrs import field, frozen
from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter

from tests.support.contract import Expected, blob, readv
from tests.support.malformed.base import BATCH, FILES, HASH, NS, chunk, chunked, get, post, request
from tests.support.malformed.base import blob as get_ten

FRAMES: Final = "application/x-seekfs-frames"


@frozen
class Asked:
    """A request with what is to be answered."""

    sent: bytes = field(repr=lambda sent: repr(sent[:2000]))
    expected: Expected
    is_head: bool = False

    def _repr_pretty_(self, printer: RepresentationPrinter, cycle: bool) -> None:
        """Hypothesis prints each field else, whatever its ``repr`` is: megabytes, which it then refuses."""
        printer.text(repr(self))


def mostly(usual: Sequence[str], rare: Sequence[str]) -> st.SearchStrategy[str]:
    """What is rare comes once in about 20 times. One list, since a choice of choices takes its time."""
    return st.sampled_from([*usual] * (20 * len(rare) // len(usual) + 1) + [*rare])


# -- /blob --------------------------------------------------------------------------------------------------

_PAGE: Final = 64 * 1024
_SIZE: Final = len(FILES["file"].data)
_EDGES: Final = [edge + by for edge in (1, _PAGE, 15 * _PAGE, _SIZE) for by in (-1, 0, 1)]
_SOME: Final = [Random("seekfs").randrange(_SIZE) for _ in range(60)]
_GOOD_NUMBERS: Final = [str(number) for number in (*range(11), *range(11), *_EDGES, *_SOME)]
_NUMBERS: Final = mostly(
    _GOOD_NUMBERS,
    [
        *"x-+%", "", "-1", "-0", "+1", " 1", "1.0", "1e3", "1_0", "0x1", "1%00", "1%0A", "NaN",
        "%EF%BC%91", "%D9%A1", "007", "0" * 19, "0" * 20, "9" * 19, "9" * 40, str(2**63 - 1), str(2**63),
        str(2**64),
    ],
)  # fmt: skip
_PATHS: Final = mostly(
    ["file", "file", "ten", "%74en", "empty", "a%23b", "a+b/%C3%A9%25"],
    [
        "", ".", "..", "../ten", "ten/", "/ten", "a//b", "a/./b", "a%2f..%2fb", "..%5Cten", "\\ten",
        "ten%00", "ten%", "%C2%85", "%ff", "%c3", "%ED%A0%80", "none", "TEN", "a#b", "a b", "é", "☃",
        "x" * 1024, "x" * 1025,
    ],
)  # fmt: skip
_NAMESPACES: Final = mostly(
    [NS], ["", "none", "Dev", "d%65v", "dev%00", "-", "..", "dev/", "%", "a" * 63, "a" * 64]
)
_VERSIONS: Final = mostly(["1", "2", "2", "002"], ["0", "3", "", "-1", "v-2", "2.0", "%EF%BC%92", str(2**63)])
_HASHES: Final = mostly(
    [HASH, f"sha256:{HASH}", HASH.upper()],
    ["", "0" * 64, HASH[1:], f"sha256:{'f' * 64}", f"SHA256:{HASH}", f"{HASH}%0A", "g" * 64],
)
_BLOB_NAMES: Final = (
    "",
    *["off", "len", "off len"] * 3,
    "version",
    "off version",
    "len hash",
    "off len hash version",
)
_VALUES: Final = {"off": _NUMBERS, "len": _NUMBERS, "version": _VERSIONS, "hash": _HASHES}
_MORE: Final = ["x=y", "Off=0", "page_id=0", "", "=", "off", "%6ff=1", "ns=dev", "%6Es=dev", "%=1"]
_NOISE: Final = st.sampled_from(
    [*'&&==%%+;#?/0aé\\"\x00 ', "%2", "%ff", "%00", "%26", "%3D", "&off=1", "&ns=dev", "&="]
)
_DIE: Final = st.integers(0, 31)
_LARGE_DIE: Final = st.integers(0, 63)


@st.composite
def queries(draw: st.DrawFn, names: Sequence[str], *, with_path: bool) -> str:
    """Rightly made of parameters, and now and then with one too many or too few, or with noise in it."""
    pieces = [f"ns={draw(_NAMESPACES)}"]
    if with_path:
        pieces.append(f"path={draw(_PATHS)}")
    pieces += [f"{name}={draw(_VALUES[name])}" for name in draw(st.sampled_from(names)).split()]
    match draw(_DIE):
        case 0:
            pieces.insert(draw(st.integers(0, len(pieces))), draw(st.sampled_from([*pieces, *_MORE])))
        case 1:
            del pieces[draw(st.integers(0, len(pieces) - 1))]
        case 2 | 3 | 4:
            pieces.reverse()
        case 5 | 6:
            query = "&".join(pieces)
            at = draw(st.integers(0, len(query)))
            noise: str = draw(_NOISE)
            return query[:at] + noise + query[at + draw(st.integers(0, 2)) :]
    return "&".join(pieces)


def _is_target(query: str) -> bool:
    """Whether a query can be part of a request's line at all."""
    return all("!" <= letter <= "~" and letter != "#" for letter in query)


_TAG: Final = f'"sha256:{HASH}"'
_TAGS: Final = st.sampled_from(["*", "*", _TAG, _TAG, f"W/{_TAG}", f'"x", {_TAG}', '"x"', HASH, "", "x, y"])
_SPECS: Final = mostly(["", *_GOOD_NUMBERS], [*"-x+. ", "²", "007", "1e1", "9" * 19, "9" * 400])


@st.composite
def _ranges(draw: st.DrawFn) -> str:
    first, last, die = draw(_SPECS), draw(_SPECS), draw(_DIE)
    if first.isdecimal() and last.isdecimal() and die % 4:
        first, last = sorted((first, last), key=int)
    unit = {0: "lines=", 1: "bytes", 2: "Bytes =", 3: "", 4: "bytes=0-1,", 5: "bytes=,"}.get(die, "bytes=")
    return f"{unit}{first}-{last}"


_CONDITIONS: Final = {
    "range": _ranges(),
    "if-range": _TAGS,
    "if-match": _TAGS,
    "if-none-match": st.sampled_from(['"x"', '"x"', "x", "", _TAG, f"W/{_TAG}", "*"]),
}
_CHOSEN: Final = st.sampled_from([0, 0, 0, 0, 1, 1, 1, 1, 3, 3, 2, 4, 5, 8, 9, 11, 12, 15])


@st.composite
def blobs(draw: st.DrawFn) -> Asked:
    """Any ``/blob``, and what the model says of it."""
    method = draw(st.sampled_from(["GET", "GET", "GET", "HEAD"]))
    query = draw(queries(_BLOB_NAMES, with_path=True))
    chosen = draw(_CHOSEN)
    conditions = {
        name: draw(values) for bit, (name, values) in enumerate(_CONDITIONS.items()) if chosen >> bit & 1
    }
    headers = [f"{name}: {value}".encode("latin-1") for name, value in conditions.items()]
    sent = request(method, f"/blob?{query}", *headers)
    # Blanks around a header's value are none of it.
    stripped = {name: value.strip(" \t") for name, value in conditions.items()}
    expected = blob(method, query, stripped) if _is_target(query) else Expected(400)
    return Asked(sent, expected, is_head=method == "HEAD")


# -- /readv --------------------------------------------------------------------------------------------------

_JSON_SIZES: Final = {'"file"': _SIZE, '"ten"': 10, '"t\\u0065n"': 10, '"a#b"': 13, '"a b/é%"': 7}
# Path, and offsets and lengths that it has: most items are right.
_GOOD_ITEMS: Final = st.sampled_from(
    [
        (path, str(off), str(length))
        for path, size in _JSON_SIZES.items()
        for off in (0, 1, size // 2, size - 1, size)
        for length in {0, 1, size - off}
        if off + length <= size
    ]
)
_JSON_NUMBERS: Final = st.sampled_from(
    [
        *_GOOD_NUMBERS, "-1", "-0", "1.0", "1e0", "01", "+1", " 1 ", "1 2", "0.1", "0x1", "1E400", "9" * 400,
        "１", "", "true", "null", "NaN", '"1"', "[1]", "{}", str(2**63 - 1), str(2**63), str(2**64),
    ]
)  # fmt: skip
_JSON_PATHS: Final = st.sampled_from(
    [
        '"file"', '"ten"', '"empty"', '"none"', '""', '"../ten"', '"ten/"', '"a\\\\b"', '"\\/ten"',
        '"ten\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"', '"☃"', '"' + "x" * 1025 + '"', '"\\x"', '"t\nn"',
        '"ten', "ten", "'ten'", "1", "null", "[]",
    ]
)  # fmt: skip
_JSON_KEYS: Final = st.sampled_from(['"path"', '"off"', '"len"', '"x"', '""', '"\\u006fff"', '"Off"', "off"])
_JSON_NOISE: Final = st.sampled_from([*'[]{},:"\\ -0.e\x00\né', "\\u", "nul"])


@st.composite
def _items(draw: st.DrawFn) -> str:
    path, off, length = draw(_GOOD_ITEMS)
    die = draw(_LARGE_DIE)
    match die:
        case 0:
            path = draw(_JSON_PATHS)
        case 1:
            off = draw(_JSON_NUMBERS)
        case 2:
            length = draw(_JSON_NUMBERS)
        case 3:
            return draw(st.sampled_from(["null", "1", "[]", '"ten"', "{}", "", "[[]]"]))
    members = [f'"path":{path}', f'"off":{off}', f'"len":{length}']
    match die:
        case 4:
            members.append(draw(st.sampled_from(members)))
        case 5:
            members.append(f"{draw(_JSON_KEYS)}:{draw(_JSON_NUMBERS)}")
        case 6:
            del members[draw(st.integers(0, 2))]
        case 7 | 8:
            members.reverse()
    return "{" + ",".join(members) + "}"


@st.composite
def batches(draw: st.DrawFn) -> Asked:
    """Any ``/readv``, with its length or in chunks, plain or in frames."""
    die = draw(_DIE)
    query = draw(queries(("", "version"), with_path=False)) if die < 6 else f"ns={NS}"
    body = f"[{','.join(draw(st.lists(_items(), min_size=die > 1, max_size=4)))}]".encode()
    if die in (6, 7, 8):
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(_JSON_NOISE).encode() + body[at + draw(st.integers(0, 2)) :]
    if die == 9:
        at = draw(st.integers(0, len(body)))
        body = body[:at] + bytes([draw(st.integers(0x80, 0xFF))]) + body[at:]
    is_framed = die % 2 == 0
    headers = [f"Accept: {FRAMES}"] if is_framed else []
    if die % 5 == 0:
        at = draw(st.integers(0, len(body)))
        pieces = [piece for piece in (body[:at], body[at:]) if piece]
        raw = b"".join(chunk(piece) for piece in pieces) + b"0\r\n\r\n"
        sent = request("POST", f"/readv?{query}", "Transfer-Encoding: chunked", *headers, body=raw)
    else:
        sent = post(body, *headers, query=query)
    expected = readv(query, body, framed=is_framed) if _is_target(query) else Expected(400)
    return Asked(sent, expected)


# -- what the model knows nothing of ------------------------------------------------------------------------

GOOD: Final = (
    get_ten("&off=2&len=3"),
    get_ten("", "Range: bytes=1-4", 'If-None-Match: "x"', "Accept: */*", "Connection: keep-alive"),
    request("HEAD", f"/blob?ns={NS}&path=file&version=2&hash={HASH}"),
    post(BATCH, f"Accept: {FRAMES}, */*;q=0.5", "Content-Type: application/json"),
    post(BATCH, "Expect: 100-continue"),
    chunked(chunk(BATCH[:7]) + b"%x;a=b\r\n" % len(BATCH[7:]) + BATCH[7:] + b"\r\n0\r\nA: b\r\n\r\n"),
    get(f"/test_stream?ns={NS}&path=ten&page_id=0"),
    get(f"/test_head?ns={NS}&path=ten", "User-Agent: x"),
    get("/readyz", "Connection: close"),
    get("/healthz", "Content-Length: 3") + b"abc",
    f"GET /advisor HTTP/1.0\r\nHost: [::1]:80\r\nX: {'y' * 300}\r\n\r\n".encode(),
    post(b"[" + b",".join([BATCH[1:-1]] * 40) + b"]") + get_ten(""),
)
_GOOD: Final = st.sampled_from(GOOD)
_TOKENS: Final = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b"\r\n ", b"\r\n\r\n", b" ", b"\t", b"\x00", b"\xff", b"\xc3\xa9", b"%",
        b"%00", b"%ff", b":", b"#", b"&", b"=", b"?", b"/", b"..", b"\\", b"0", b"9", b"-", b"HTTP/1.1",
        b"HTTP/1.0", b"GET ", b"HEAD ", b"Host: y\r\n", b"Connection: close\r\n",
        b"Expect: 100-continue\r\n", b"Range: bytes=0-\r\n", b"Content-Length: 5\r\n",
        b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n",
        b"ffffffffffff\r\n", b"[" * 300, b"x" * 9000, b"A: b\r\n" * 101,
    ]
)  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A good request with one to three bytes, tokens or pieces cut out, put in, or put elsewhere."""
    sent = draw(_GOOD)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(sent)))
        match draw(st.integers(0, 6)):
            case 0 | 1:
                sent = sent[:at] + draw(_TOKENS) + sent[at:]
            case 2:
                sent = sent[:at] + sent[at + draw(st.integers(1, 40)) :]
            case 3:
                sent = sent[:at] + bytes([draw(st.integers(0, 255))]) + sent[at + 1 :]
            case 4:
                sent = sent[: at + draw(st.integers(1, 40))] + sent[at:]
            case 5:
                sent = sent[:at] or sent
            case _:
                sent = sent[:at] + draw(_GOOD)
    return sent


_HEADER_NAMES: Final = st.sampled_from(
    [
        "Accept", "Range", "If-Match", "If-None-Match", "If-Range", "Host", "Connection", "Content-Type",
        "Content-Encoding", "Content-Length", "Transfer-Encoding", "Expect", "Upgrade", "Trailer", "TE",
        "Cookie", "X-Y", "x_y", "", " X", "X ", "X\x00", "é",
    ]
)  # fmt: skip
_HEADER_TEXTS: Final = st.sampled_from(
    [
        FRAMES, f"{FRAMES};q=", f"{FRAMES};q=1e9", f"{FRAMES};q=0.5;a*=utf-8''%ff, */*", "5", "x",
        "[::1]", "gzip", "chunked", "100-continue", "close", "keep-alive, close", "h2c", "=?utf-8?q?x?=",
        "a," * 500, ";q=" * 500, '"' * 500,
    ]
)  # fmt: skip
_HEADER_VALUES: Final = st.one_of(
    _TAGS, _ranges(), st.text(st.characters(max_codepoint=0xFF), max_size=20), _HEADER_TEXTS
)


@st.composite
def headed(draw: st.DrawFn) -> bytes:
    """A good request with up to four headers, any of which may be wrong."""
    pairs = draw(st.lists(st.tuples(_HEADER_NAMES, _HEADER_VALUES), min_size=1, max_size=4))
    lines = [f"{name}: {value}".encode("latin-1") for name, value in pairs]
    return get_ten("", *lines) if draw(st.booleans()) else post(BATCH, *lines)
