"""A trace recorded from the daemon under load and faults, replayed; one event altered; what is not in it."""

from __future__ import annotations

import json
import random
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec
import pytest
import requests

from seekfs_core.testing import replay
from seekfs_core.trace import TraceReader, file_head, frame
from seekfs_io.objects.base import ObjectStore
from tests.conftest import S3ConfigFactory
from tests.e2e.conftest import DaemonFactory
from tests.e2e.http_wire import get_whole_or_cut
from tests.support.command_line import Seekfs
from tests.support.daemon import DaemonFailed
from tests.support.dataset import File, some_bytes, write_dataset
from tests.support.hostile_store import FAULTS
from tests.support.passthrough import Exchange, PassThrough

PAGE: Final = 64 << 10
FILES: Final = 6
PAGES: Final = 24
CLIENTS: Final = 64
READS: Final = 5
TROUBLE: Final = (
    "closed",
    "reset-in-body",
    "short-body",
    "wrong-byte",
    "internal-error",
    "slow-down",
    "late",
)


def some_trouble(store: PassThrough, chance: random.Random) -> None:
    """One GET in six meets a fault."""

    def is_its_turn(exchange: Exchange) -> bool:
        return exchange.method == "GET" and exchange.range is not None and chance.random() < 1 / 40

    for name in TROUBLE:
        store.when(is_its_turn, FAULTS[name].plan(), times=20)


@pytest.fixture
def recorded(
    store: ObjectStore, ns: str, passthrough: PassThrough, start_daemon: DaemonFactory, tmp_path: Path
) -> Path:
    """The trace of a daemon that 64 clients read from at once while its store is in trouble."""
    contents = {f"f{n}": some_bytes(PAGES * PAGE, n) for n in range(FILES)}
    write_dataset(store, ns, {path: File(data, PAGE) for path, data in contents.items()})
    path = tmp_path / "daemon.trace"
    daemon = start_daemon(
        trace__path=str(path),
        cache__slab_size_mib=PAGE / (1 << 20),
        cache__l1_memory_gib=4 / 1024,
        cache__l2_ssd_gib=1 / 16,
        cache__inflight_mib=4,
        s3__range_coalesce_max_mib=4 * PAGE / (1 << 20),
        s3__retry_initial_backoff_ms=1,
        s3__hedge_min_ms=1,
        api__request_deadline_sec=20,
    )
    some_trouble(passthrough, random.Random(1))

    def read(client: int) -> None:
        chance = random.Random(client)
        for _ in range(READS):
            name = f"f{chance.randrange(FILES)}"
            data = contents[name]
            if chance.random() < 0.5:
                off = chance.randrange(len(data))
                answer = get_whole_or_cut(daemon.port, f"/blob?ns={ns}&path={name}&off={off}")
                assert data[off:].startswith(answer.body) or answer.status != 200
            else:
                offs = [chance.randrange(len(data) - 5000) for _ in range(8)]
                items = [{"path": name, "off": off, "len": 5000} for off in offs]
                batch = requests.post(f"{daemon.url}/readv?ns={ns}", data=json.dumps(items), timeout=60)
                wanted = b"".join(data[off : off + 5000] for off in offs)
                assert batch.status_code != 200 or batch.content == wanted

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(read, range(CLIENTS)))
    assert daemon.stop() == 0
    return path


@pytest.mark.timeout(240)
def test_what_a_daemon_did_under_load_and_faults_is_done_again(
    recorded: Path, s3_config: S3ConfigFactory, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    seekfs = Seekfs(capfdbinary)
    replayed = replay(recorded)
    assert (replayed.events_lost, replayed.torn_bytes, replayed.is_ended) == (0, 0, True)
    kinds = {
        type(record.state).__name__
        for record in TraceReader(recorded.read_bytes())
        if hasattr(record, "state")
    }
    assert kinds >= {
        "FetchScheduler",
        "ManifestResolver",
        "WriteBehind",
        "RamRetention",
        "SegmentLog",
        "ReadAhead",
        "PageLookup",
        "DiskWatch",
    }
    ran = seekfs("replay", str(recorded))
    assert ran.status == 0
    assert re.fullmatch(r"same: [0-9,]+ events of [0-9,]+ machines", ran.lines[0])

    # One event altered by hand, its checksum made right again: the difference is named.
    payloads = [payload for _, payload in TraceReader(recorded.read_bytes()).payloads()]
    number = next(
        number
        for number, payload in enumerate(payloads)
        if number > len(payloads) // 2 and _is_fed_with_actions(payload)
    )
    values = msgspec.msgpack.decode(payloads[number])
    values[4] = []
    payloads[number] = msgspec.msgpack.encode(values)
    altered = recorded.with_suffix(".altered")
    altered.write_bytes(b"".join([file_head(), *map(frame, payloads)]))
    with pytest.raises(AssertionError, match=rf"the first difference is in record {number}, at byte"):
        replay(altered)
    ran = seekfs("replay", str(altered))
    assert ran.status == 1
    assert f"record {number}," in ran.err

    # A timeline says which GETs there were, and why.
    shown = seekfs("trace", "show", str(recorded), "--machine", "scheduler").out.decode()
    assert re.search(
        r"GET \d+: bytes \d+ to \d+ of '[^']+', try 2: an earlier GET failed; wanted by read", shown
    )
    assert re.search(r"read \d+ waited .* s for store", shown)
    assert re.search(r"s for single_flight", shown)

    # No payload and no secret.
    stored = recorded.read_bytes()
    for n in range(FILES):
        data = some_bytes(PAGES * PAGE, n)
        assert all(data[at : at + 24] not in stored for at in range(0, len(data), PAGE // 2))
    config = s3_config()
    assert config.secret_access_key is not None
    for secret in (config.secret_access_key, "AWS4-HMAC-SHA256", "Signature="):
        assert secret.encode() not in stored


def _is_fed_with_actions(payload: bytes) -> bool:
    values = msgspec.msgpack.decode(payload)
    return values[0] == "fed" and bool(values[4])


def test_a_trace_that_cannot_be_is_refused_before_anything_starts(
    tmp_path: Path, start_daemon: DaemonFactory
) -> None:
    other = tmp_path / "thesis"
    other.write_text("chapter one")
    with pytest.raises(DaemonFailed, match="is no trace of seekfs: name another path"):
        start_daemon(trace__path=str(other))
    assert other.read_text() == "chapter one"
