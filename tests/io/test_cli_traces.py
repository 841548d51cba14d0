"""``seekfs replay`` and ``seekfs trace show``."""

from __future__ import annotations

import struct
from pathlib import Path
from zlib import crc32

import msgspec
import pytest

from seekfs_core.fetch_messages import CallEnded, CallWanted
from seekfs_core.trace import Begun, TraceReader, TraceWriter, file_head, frame
from seekfs_core.trace_encoding import taken_machine
from tests.core.model_fetch import Watched
from tests.support.command_line import Seekfs


@pytest.fixture
def seekfs(capfdbinary: pytest.CaptureFixture[bytes]) -> Seekfs:
    return Seekfs(capfdbinary)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    watched, writer = Watched.make(), TraceWriter()
    pieces = [writer.begin(Begun(seekfs="0", monotonic=10.0, unix=0.0))]
    pieces.append(writer.born(1, "scheduler", taken_machine(watched.scheduler)))
    for now, event in ((11.0, CallWanted(1)), (12.0, CallWanted(2)), (13.0, CallEnded(1))):
        pieces.append(writer.fed(1, now, event, watched.feed(event, now)))
    path = tmp_path / "t"
    path.write_bytes(b"".join([*pieces, writer.end()]))
    return path


def altered(data: bytes, record: int, change: str, by: float) -> bytes:
    """A trace of which one event's time was changed by hand, its checksums made right again."""
    assert change == "now"
    written = [file_head()]
    for number, (_, payload) in enumerate(TraceReader(data).payloads()):
        if number == record:
            values = msgspec.msgpack.decode(payload)
            assert values[0] == "fed"
            values[2] += by
            payload = msgspec.msgpack.encode(values)
        written.append(frame(payload))
    return b"".join(written)


def test_the_same(seekfs: Seekfs, trace: Path) -> None:
    ran = seekfs("replay", str(trace))
    assert (ran.status, ran.lines, ran.err) == (0, ["same: 3 events of 1 machine"], "")
    document = seekfs("replay", str(trace), "--json").json
    assert (document["same"], document["events"], document["difference"]) == (True, 3, None)


def test_a_difference_is_named(seekfs: Seekfs, trace: Path) -> None:
    fed = [
        number
        for number, (_, payload) in enumerate(TraceReader(trace.read_bytes()).payloads())
        if msgspec.msgpack.decode(payload)[0] == "fed"
    ]
    trace.write_bytes(altered(trace.read_bytes(), fed[1], "now", -5.0))
    ran = seekfs("replay", str(trace))
    assert ran.status == 1
    assert f"the first difference is in record {fed[1]}, at byte" in ran.err
    assert "scheduler, at 7.000000" in ran.err
    assert "CallWanted(call=2" in ran.err
    assert "expected  StartCall(call=2" in ran.err
    assert "found     ContractViolation: time went back from 11.0 to 7.0" in ran.err
    assert seekfs("replay", str(trace), "--json").json["same"] is False


def test_a_file_that_is_none_is_refused_in_a_sentence(seekfs: Seekfs, trace: Path, tmp_path: Path) -> None:
    data = trace.read_bytes()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    other_version = struct.pack("<16sI", data[:16], 99)
    for content, said in (
        (b"", "it is no trace"),
        (b"my thesis", "it is no trace"),
        (bytes(flipped), "damaged"),
        (other_version + struct.pack("<I", crc32(other_version)), "it is of format 99"),
    ):
        path = tmp_path / "wrong"
        path.write_bytes(content)
        for command in (("replay",), ("trace", "show")):
            ran = seekfs(*command, str(path))
            assert (ran.status, ran.out if command == ("replay",) else b"") == (1, b"")
            assert ran.err.startswith(f"seekfs: {path}: "), ran.err
            assert said in ran.err
    assert seekfs("replay", str(tmp_path / "none")).status == 2
    assert seekfs("trace", "show", str(trace), "--read", "0").status == 2


def test_one_that_was_cut_short_is_replayed_up_to_there_and_said_to_be(seekfs: Seekfs, trace: Path) -> None:
    trace.write_bytes(trace.read_bytes()[:-30])
    ran = seekfs("replay", str(trace))
    assert ran.status == 0
    assert ran.lines[0].startswith("same: ")
    assert "was not closed in order" in ran.err


def test_a_timeline(seekfs: Seekfs, trace: Path) -> None:
    assert seekfs("trace", "show", str(trace)).lines == [
        "    1.000000  scheduler: call 1 is wanted",
        "                call 1 is made, try 1",
        "    2.000000  scheduler: call 2 is wanted",
        "                call 2 is made, try 1",
        "    3.000000  scheduler: call 1 is answered",
    ]
    assert seekfs("trace", "show", str(trace), "--machine", "resolver").lines == []
    assert seekfs("trace", "show", str(trace), "--read", "1").lines == []
