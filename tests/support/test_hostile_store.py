"""The hostile store itself: every row of its table, as a plain client of S3 meets it."""

from __future__ import annotations

import pytest

from seekfs_core.errors import FailureKind
from seekfs_io.objects.base import ObjectReader, ObjectStore, StoreError
from tests.conftest import StoreFactory
from tests.support import hostile_store
from tests.support.exchanges import Match, Plan
from tests.support.hostile_store import FAULTS, Touches
from tests.support.passthrough import PassThrough

KIB = 1 << 10
CONTENT = bytes(range(256)) * (1 << 10)
START, AT, STOP = 64 * KIB, 130 * KIB, 200 * KIB

# What each is to a client; None: nothing that it could notice.
KINDS = {
    "late": None,
    "closed": FailureKind.UNREACHABLE,
    "reset": FailureKind.UNREACHABLE,
    "answer-lost": FailureKind.UNREACHABLE,
    "reset-in-head": FailureKind.UNREACHABLE,
    "silent": FailureKind.TIMED_OUT,
    "no-http": FailureKind.UNREACHABLE,
    "internal-error": FailureKind.BUSY,
    "bad-gateway": FailureKind.BUSY,
    "slow-down": FailureKind.BUSY,
    "access-denied": FailureKind.DENIED,
    "clock-skewed": FailureKind.DENIED,
    "token-expired": FailureKind.DENIED,
    "no-such-key": FailureKind.MISSING,
    "no-such-bucket": FailureKind.MISSING,
    "moved": FailureKind.REDIRECTED,
    "short-body": FailureKind.CUT_SHORT,
    "reset-in-body": FailureKind.CUT_SHORT,
    "silent-in-body": FailureKind.TIMED_OUT,
    "wrong-byte": None,
    "another-range": FailureKind.BAD_ANSWER,
    "longer-range": FailureKind.BAD_ANSWER,
    "shorter-length": FailureKind.BAD_ANSWER,
    "oversized-range": FailureKind.BAD_ANSWER,
    "no-range": FailureKind.BAD_ANSWER,
    "whole-for-a-range": FailureKind.BAD_ANSWER,
}


@pytest.fixture
def key(store: ObjectStore, ns: str) -> str:
    name = f"{ns}/object"
    store.put(name, CONTENT)
    return name


@pytest.fixture
def through(passthrough: PassThrough, open_s3: StoreFactory) -> ObjectStore:
    return open_s3(endpoint=passthrough.endpoint, read_timeout_sec=2)


def read_all(reader: ObjectReader, received: bytearray) -> None:
    view = memoryview(bytearray(64 * KIB))
    with reader:
        while count := reader.readinto(view):
            received += view[:count]


def test_the_documentation_is_the_table() -> None:
    assert hostile_store.__doc__ is not None
    rows = hostile_store.__doc__.split("\n===")[2].splitlines()[1:]
    assert [row.split()[:2] for row in rows] == [
        [fault.name, fault.touches.value] for fault in FAULTS.values()
    ]
    assert list(KINDS) == list(FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_happens_once_and_then_never_again(
    name: str, passthrough: PassThrough, through: ObjectStore, key: str
) -> None:
    fault, kind = FAULTS[name], KINDS[name]
    passthrough.when(Match(key=key), fault.plan(start=START, at=AT), times=1)
    received = bytearray()
    if kind is None:
        read_all(through.get(key, start=START, stop=STOP), received)
    else:
        with pytest.raises(StoreError) as caught:
            read_all(through.get(key, start=START, stop=STOP), received)
        assert caught.value.failure.kind is kind
    if name == "wrong-byte":
        received[AT - START] ^= 0xFF
    if kind is None:
        assert received == CONTENT[START:STOP]
    elif fault.touches is Touches.BODY:
        assert passthrough.exchanges[0].bytes_sent == AT - START
        # A client may lose what it had begun to read when the connection broke.
        assert CONTENT[START:AT].startswith(received)
        assert len(received) >= 64 * KIB
    else:
        assert received == b""
    received.clear()
    read_all(through.get(key, start=START, stop=STOP), received)
    assert received == CONTENT[START:STOP]
    assert len(passthrough.gets(key=key)) == 2


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.touches is Touches.ANY])
def test_what_touches_any_request_touches_head(
    name: str, passthrough: PassThrough, through: ObjectStore, key: str
) -> None:
    kind = KINDS[name]
    rule = passthrough.when(Match(key=key), FAULTS[name].plan())
    if kind is None:
        assert through.head(key).size == len(CONTENT)
    else:
        with pytest.raises(StoreError) as caught:
            through.head(key)
        # Without a body there is no code to tell a token that has expired from any other 400.
        expected = FailureKind.BAD_ANSWER if name == "token-expired" else kind
        assert caught.value.failure.kind is expected
    passthrough.lift(rule)
    assert through.head(key).size == len(CONTENT)


def test_an_object_is_replaced_between_two_requests(
    passthrough: PassThrough, through: ObjectStore, store: ObjectStore, key: str
) -> None:
    passthrough.when(Match(key=key), Plan(meanwhile=lambda: store.put(key, CONTENT[::-1])), times=1)
    received = bytearray()
    read_all(through.get(key, start=START, stop=STOP), received)
    assert received == CONTENT[::-1][START:STOP]
