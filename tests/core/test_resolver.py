"""The resolver, one rule at a time: what is read when, who is answered what, and what is remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sized

import pytest

from seekfs_core.errors import (
    ContractViolation,
    FailureKind,
    ManifestInvalid,
    NoSuchNamespace,
    NoSuchVersion,
    SeekfsError,
    StoreFailure,
    StoreUnavailable,
    is_absence,
)
from seekfs_core.machine import Tick
from seekfs_core.manifest import Manifest
from seekfs_core.resolver import (
    KEEPING_LATER_MAX,
    KEEPING_MAX,
    MANIFESTS_KEPT_MAX,
    WRONG_NAMES_MAX,
    ManifestResolver,
)
from seekfs_core.resolver_messages import (
    Closing,
    FetchManifest,
    HeadFailed,
    HeadRead,
    KeepHead,
    KeepingEnded,
    KeepManifest,
    ManifestFailed,
    ManifestRead,
    NotKept,
    NotResolved,
    ReadHead,
    ReadManifest,
    Resolved,
    ResolverAction,
    ResolveWanted,
    Restored,
    ServeCurrent,
    ServedOn,
    WaiterLeft,
)
from tests.core.model_resolver import WatchedResolver

TTL = 10.0
DOWN = StoreUnavailable("the store is down", retry_after=1)
BAD = ManifestInvalid("manifest v-2 is bad")


def make(pins: Mapping[str, int] | None = None, ttl: float = TTL) -> WatchedResolver:
    return WatchedResolver(ManifestResolver(ttl, pins or {}, head_patience_seconds=1.0))


def manifest(version: int, ns: str = "dev") -> Manifest:
    return Manifest(ns=ns, version=version, files={})


V1, V2, V3 = manifest(1), manifest(2), manifest(3)


def at_version_1() -> WatchedResolver:
    """Version 1 has been served at time 0."""
    watched = make()
    watched.feed(ResolveWanted(1, "dev", None))
    watched.feed(HeadRead("dev", 1))
    watched.feed(ManifestRead(V1))
    return watched


def error_in(actions: tuple[ResolverAction, ...]) -> SeekfsError:
    (refusal,) = (action for action in actions if isinstance(action, NotResolved))
    return refusal.error


# --- the current version --------------------------------------------------------------------


def test_the_first_request_reads_head_then_the_manifest_and_says_how_long_it_answers() -> None:
    watched = make()
    assert watched.feed(ResolveWanted(1, "dev", None), 5.0) == (ReadHead("dev"),)
    assert watched.feed(HeadRead("dev", 2), 6.0) == (ReadManifest("dev", 2),)
    assert watched.feed(ManifestRead(V2), 7.0) == (
        ServeCurrent(V2, 6.0 + TTL),
        Resolved(1, V2, False),
        KeepHead("dev", 2),
    )
    assert watched.resolver.current_versions() == {"dev": V2}


def test_a_manifest_from_the_store_is_kept_before_its_head_is_remembered() -> None:
    watched = make()
    watched.feed(ResolveWanted(1, "dev", None))
    watched.feed(HeadRead("dev", 2))
    assert watched.feed(NotKept("dev", 2)) == (FetchManifest("dev", 2),)
    assert watched.feed(ManifestRead(V2))[-1] == KeepManifest(V2)
    with pytest.raises(ContractViolation):
        watched.resolver.feed(KeepingEnded("dev", 1), watched.now)
    assert watched.feed(KeepingEnded("dev", 2)) == (KeepHead("dev", 2),)
    with pytest.raises(ContractViolation):
        watched.resolver.feed(KeepingEnded("dev", 2), watched.now)


def test_so_many_manifests_are_kept_at_once_and_the_others_when_their_turn_comes() -> None:
    watched = make()
    watched.feed(Restored({"dev": 100}))
    kept: list[ResolverAction] = []
    for version in range(1, KEEPING_MAX + 3):
        watched.feed(ResolveWanted(version, "dev", version))
        watched.feed(NotKept("dev", version))
        kept += watched.feed(ManifestRead(manifest(version)))[1:]
    assert kept == [KeepManifest(manifest(version)) for version in range(1, KEEPING_MAX + 1)]
    assert watched.feed(KeepingEnded("dev", 2)) == (KeepManifest(manifest(KEEPING_MAX + 1)),)
    assert watched.feed(KeepingEnded("dev", 1)) == (KeepManifest(manifest(KEEPING_MAX + 2)),)
    assert watched.feed(KeepingEnded("dev", 3)) == ()


def test_a_disk_that_hangs_fills_memory_with_nothing_that_waits_for_it() -> None:
    """What is in memory no more when its turn comes is not kept."""
    watched = make()
    watched.feed(Restored({"dev": 100}))
    for version in range(1, KEEPING_MAX + MANIFESTS_KEPT_MAX + 3):
        watched.feed(ResolveWanted(version, "dev", version))
        watched.feed(NotKept("dev", version))
        watched.feed(ManifestRead(manifest(version)))
    # Versions 5 and 6 were let go of since.
    assert watched.feed(KeepingEnded("dev", 1)) == (KeepManifest(manifest(KEEPING_MAX + 3)),)


def test_of_those_that_wait_to_be_kept_the_oldest_are_let_go_of() -> None:
    watched = make()
    last = KEEPING_MAX + KEEPING_LATER_MAX + 1
    watched.feed(Restored({"dev": last}))
    for version in range(1, last + 1):
        watched.feed(ResolveWanted(version, "dev", version))
        watched.feed(NotKept("dev", version))
        watched.feed(ManifestRead(manifest(version)))
    assert watched.feed(Closing()) == ()
    queue = watched.resolver._to_keep
    assert [version for _, version in queue] == [*range(KEEPING_MAX + 2, last + 1)]


def test_a_pin_that_was_never_read_is_no_current_version() -> None:
    watched = make({"dev": 1, "other": 2})
    watched.feed(ResolveWanted(1, "dev", None))
    watched.feed(NotKept("dev", 1))
    watched.feed(ManifestRead(V1))
    assert watched.resolver.current_versions() == {"dev": V1}


def test_an_old_version_that_was_fetched_is_kept_and_moves_no_head() -> None:
    watched = make()
    watched.feed(Restored({"dev": 2}))
    watched.feed(ResolveWanted(1, "dev", 1))
    watched.feed(NotKept("dev", 1))
    assert watched.feed(ManifestRead(V1)) == (Resolved(1, V1, False), KeepManifest(V1))
    assert watched.feed(KeepingEnded("dev", 1)) == ()


def test_one_read_however_many_ask() -> None:
    watched = make()
    assert watched.feed(ResolveWanted(1, "dev", None)) == (ReadHead("dev"),)
    assert [watched.feed(ResolveWanted(waiter, "dev", None)) for waiter in range(2, 65)] == [()] * 63
    assert watched.feed(HeadRead("dev", 1)) == (ReadManifest("dev", 1),)
    # Who comes between HEAD and manifest waits for the manifest, too.
    assert watched.feed(ResolveWanted(65, "dev", None)) == ()
    assert watched.feed(ResolveWanted(66, "dev", 1)) == ()
    _, *answers, _ = watched.feed(ManifestRead(V1))
    assert answers == [Resolved(waiter, V1, False) for waiter in range(1, 67)]


def test_head_is_read_once_a_ttl() -> None:
    watched = at_version_1()
    assert watched.feed(ResolveWanted(2, "dev", None), 9.9) == (Resolved(2, V1, False),)
    assert watched.feed(ResolveWanted(3, "dev", None), 10.0) == (ReadHead("dev"),)
    assert watched.feed(HeadRead("dev", 1), 10.5) == (Resolved(3, V1, False), ServeCurrent(V1, 20.5))
    assert watched.feed(ResolveWanted(4, "dev", None), 20.4) == (Resolved(4, V1, False),)


def test_a_new_version_is_followed() -> None:
    watched = at_version_1()
    watched.feed(ResolveWanted(2, "dev", None), 10.0)
    assert watched.feed(HeadRead("dev", 2)) == (ReadManifest("dev", 2),)
    assert watched.feed(ManifestRead(V2)) == (
        ServeCurrent(V2, 20.0),
        Resolved(2, V2, False),
        KeepHead("dev", 2),
    )
    assert watched.feed(ResolveWanted(3, "dev", 1)) == (Resolved(3, V1, False),)


def test_a_head_that_went_back_is_not_followed() -> None:
    watched = make()
    watched.feed(Restored({"dev": 2}))
    watched.feed(ResolveWanted(1, "dev", None))
    assert watched.feed(HeadRead("dev", 1)) == (ReadManifest("dev", 2),)
    watched.feed(ManifestRead(V2))
    watched.feed(ResolveWanted(2, "dev", None), 10.0)
    assert watched.feed(HeadRead("dev", 1)) == (Resolved(2, V2, False), ServeCurrent(V2, 20.0))


def test_what_was_kept_never_takes_it_back() -> None:
    watched = make()
    watched.feed(Restored({"dev": 2}))
    watched.feed(Restored({"dev": 1}))
    watched.feed(ResolveWanted(1, "dev", None))
    assert watched.feed(HeadRead("dev", 1)) == (ReadManifest("dev", 2),)


def test_who_waited_for_an_older_manifest_is_not_taken_back_to_it() -> None:
    watched = make(ttl=0.5)
    watched.feed(ResolveWanted(1, "dev", None))
    watched.feed(HeadRead("dev", 1))
    watched.feed(ResolveWanted(2, "dev", None), 0.5)
    watched.feed(HeadRead("dev", 2))
    assert Resolved(2, V2, False) in watched.feed(ManifestRead(V2))
    assert watched.feed(ManifestRead(V1)) == (Resolved(1, V2, False),)
    assert watched.feed(ResolveWanted(3, "dev", 1)) == (Resolved(3, V1, False),)


def test_a_request_that_left_gets_no_answer_and_its_read_serves_the_others() -> None:
    watched = make()
    watched.feed(ResolveWanted(1, "dev", None))
    watched.feed(WaiterLeft(1))
    assert watched.feed(HeadRead("dev", 1)) == ()
    assert watched.feed(ResolveWanted(2, "dev", None)) == (ReadManifest("dev", 1),)
    watched.feed(ResolveWanted(3, "dev", 1))
    watched.feed(WaiterLeft(2))
    assert watched.feed(ManifestRead(V1)) == (
        ServeCurrent(V1, TTL),
        Resolved(3, V1, False),
        KeepHead("dev", 1),
    )


# --- versions by number ---------------------------------------------------------------------


def test_a_version_at_or_below_head_costs_one_read_and_is_kept() -> None:
    watched = at_version_1()
    watched.feed(ResolveWanted(2, "dev", 3))  # Above what is known of HEAD, which is fresh.
    watched.feed(ResolveWanted(3, "dev", 3), 10.0)
    assert watched.feed(HeadRead("dev", 3)) == (ReadManifest("dev", 3),)
    assert watched.feed(ManifestRead(V3)) == (
        ServeCurrent(V3, 20.0),
        Resolved(3, V3, False),
        KeepHead("dev", 3),
    )
    assert watched.feed(ResolveWanted(4, "dev", 2)) == (ReadManifest("dev", 2),)
    assert watched.feed(ManifestRead(V2)) == (Resolved(4, V2, False),)
    assert watched.feed(ResolveWanted(5, "dev", 2)) == (Resolved(5, V2, False),)


def test_versions_stay_what_they_are_while_head_moves() -> None:
    watched = at_version_1()
    watched.feed(ResolveWanted(2, "dev", None), 10.0)
    watched.feed(HeadRead("dev", 2))
    watched.feed(ManifestRead(V2))
    for waiter in range(3, 6):
        assert watched.feed(ResolveWanted(waiter, "dev", 1), 11.0 * waiter) == (Resolved(waiter, V1, False),)


@pytest.mark.parametrize("ttl", [0.0, TTL])
def test_a_version_above_head_is_none_whatever_the_bucket_holds(ttl: float) -> None:
    watched = make(ttl=ttl)
    assert watched.feed(ResolveWanted(1, "dev", 2)) == (ReadHead("dev"),)
    error = error_in(watched.feed(HeadRead("dev", 1)))
    assert isinstance(error, NoSuchVersion)
    assert error.context == {"ns": "dev", "version": 2, "head": 1}


def test_only_so_many_old_manifests_stay_in_memory() -> None:
    watched = make({"other": 1})
    watched.feed(ResolveWanted(0, "other", None))
    watched.feed(ManifestRead(manifest(1, "other")))
    watched.feed(Restored({"dev": 100}))
    for version in range(1, MANIFESTS_KEPT_MAX + 4):
        watched.feed(ResolveWanted(version, "dev", version))
        watched.feed(ManifestRead(manifest(version)))
        watched.feed(ResolveWanted(50, "dev", 1))  # In use all the time.
    assert isinstance(watched.feed(ResolveWanted(60, "dev", 1))[0], Resolved)
    assert watched.feed(ResolveWanted(61, "dev", 2)) == (ReadManifest("dev", 2),)
    # A pin is not among those that make way.
    assert isinstance(watched.feed(ResolveWanted(62, "other", None))[0], Resolved)


# --- pins -----------------------------------------------------------------------------------


def test_a_pin_is_served_without_ever_reading_head() -> None:
    watched = make({"dev": 1})
    assert watched.feed(ResolveWanted(1, "dev", None)) == (ReadManifest("dev", 1),)
    assert watched.feed(ManifestRead(V1)) == (ServeCurrent(V1, float("inf")), Resolved(1, V1, False))
    assert watched.feed(ResolveWanted(2, "dev", None), 1e9) == (Resolved(2, V1, False),)
    assert watched.resolver.current_versions() == {"dev": V1}


def test_what_head_of_a_pinned_namespace_names_is_not_served_as_current() -> None:
    watched = make({"dev": 1})
    assert watched.feed(ResolveWanted(1, "dev", 2)) == (ReadHead("dev"),)
    assert watched.feed(HeadRead("dev", 2)) == (ReadManifest("dev", 2),)
    assert Resolved(1, V2, False) in watched.feed(ManifestRead(V2))
    assert watched.feed(ResolveWanted(2, "dev", 3), 50.0) == (ReadHead("dev"),)
    (refusal,) = watched.feed(HeadRead("dev", 2))
    assert isinstance(refusal, NotResolved)
    assert watched.feed(ResolveWanted(3, "dev", None)) == (ReadManifest("dev", 1),)


def test_a_pin_survives_head_moving() -> None:
    watched = make({"dev": 1})
    watched.feed(ResolveWanted(1, "dev", 2))
    assert watched.feed(HeadRead("dev", 2)) == (ReadManifest("dev", 2),)
    assert watched.feed(ManifestRead(V2)) == (Resolved(1, V2, False), KeepHead("dev", 2))
    assert watched.feed(ResolveWanted(2, "dev", None)) == (ReadManifest("dev", 1),)
    assert watched.feed(ManifestRead(V1))[-1] == Resolved(2, V1, False)
    assert watched.resolver.current_versions() == {"dev": V1}


def test_a_pinned_namespace_without_head_is_served_and_its_other_versions_cost_nothing_twice() -> None:
    watched = make({"dev": 1})
    watched.feed(ResolveWanted(1, "dev", None))
    assert watched.feed(ResolveWanted(2, "dev", 5)) == (ReadHead("dev"),)
    assert isinstance(error_in(watched.feed(HeadRead("dev", None))), NoSuchNamespace)
    assert watched.feed(ManifestRead(V1))[-1] == Resolved(1, V1, False)  # It was on its way meanwhile.
    assert isinstance(error_in(watched.feed(ResolveWanted(3, "dev", 5), 9.9)), NoSuchNamespace)
    assert watched.feed(ResolveWanted(4, "dev", 5), 10.0) == (ReadHead("dev"),)


def test_a_pin_without_a_manifest_is_an_error_and_not_another_version() -> None:
    watched = make({"dev": 2})
    watched.feed(Restored({"dev": 3}))
    watched.feed(ResolveWanted(1, "dev", None))
    assert watched.feed(ManifestFailed("dev", 2, BAD)) == (NotResolved(1, BAD),)


# --- bad manifests --------------------------------------------------------------------------


def test_a_bad_new_manifest_does_not_replace_a_good_one() -> None:
    watched = at_version_1()
    watched.feed(ResolveWanted(2, "dev", None), 10.0)
    watched.feed(HeadRead("dev", 2))
    assert watched.feed(ManifestFailed("dev", 2, BAD))[0] == Resolved(2, V1, False)
    assert watched.feed(ResolveWanted(3, "dev", None), 12.0) == (Resolved(3, V1, False),)
    assert watched.feed(ResolveWanted(4, "dev", 2)) == (NotResolved(4, BAD),)
    watched.feed(ResolveWanted(5, "dev", None), 20.0)
    assert watched.feed(HeadRead("dev", 2)) == (ReadManifest("dev", 2),)
    assert Resolved(5, V2, False) in watched.feed(ManifestRead(V2))


def test_what_head_named_first_serves_when_what_it_names_now_is_bad() -> None:
    watched = make()
    watched.feed(ResolveWanted(1, "dev", None))
    watched.feed(HeadRead("dev", 1))
    watched.feed(ResolveWanted(2, "dev", None), 10.0)
    watched.feed(HeadRead("dev", 2))
    assert Resolved(1, V1, False) in watched.feed(ManifestRead(V1))
    assert watched.feed(ManifestFailed("dev", 2, BAD))[0] == Resolved(2, V1, False)


def test_who_waited_for_a_manifest_that_failed_gets_the_one_that_head_names_now() -> None:
    watched = make()
    watched.feed(ResolveWanted(1, "dev", None))
    watched.feed(HeadRead("dev", 1))
    watched.feed(ResolveWanted(2, "dev", None), 10.0)
    watched.feed(HeadRead("dev", 2))
    assert watched.feed(ManifestFailed("dev", 1, BAD)) == ()
    assert watched.feed(ManifestRead(V2))[1:] == (
        Resolved(2, V2, False),
        Resolved(1, V2, False),
        KeepHead("dev", 2),
    )


def test_where_there_is_no_good_one_the_error_is_told_and_costs_nothing_twice() -> None:
    watched = make()
    watched.feed(ResolveWanted(1, "dev", None))
    watched.feed(HeadRead("dev", 2))
    assert watched.feed(ManifestFailed("dev", 2, BAD)) == (NotResolved(1, BAD),)
    assert watched.feed(ResolveWanted(2, "dev", None), 9.9) == (NotResolved(2, BAD),)
    assert watched.feed(ResolveWanted(3, "dev", None), 10.0) == (ReadHead("dev"),)


def test_a_version_without_manifest_is_no_such_version() -> None:
    watched = at_version_1()
    watched.feed(Restored({"dev": 3}))
    watched.feed(ResolveWanted(2, "dev", 2))
    assert isinstance(error_in(watched.feed(ManifestFailed("dev", 2, None))), NoSuchVersion)
    assert isinstance(error_in(watched.feed(ResolveWanted(3, "dev", 2), 9.9)), NoSuchVersion)
    assert watched.feed(ResolveWanted(4, "dev", 2), 10.0) == (ReadManifest("dev", 2),)


# --- wrong names ----------------------------------------------------------------------------


def test_a_namespace_without_head_is_none_and_costs_nothing_twice() -> None:
    watched = make()
    watched.feed(ResolveWanted(1, "nope", None))
    watched.feed(ResolveWanted(2, "nope", 7))
    first, second = watched.feed(HeadRead("nope", None))
    assert {first.waiter, second.waiter} == {1, 2}  # type: ignore[union-attr]
    for waiter, version in ((3, None), (4, 1)):
        assert isinstance(
            error_in(watched.feed(ResolveWanted(waiter, "nope", version), 9.9)), NoSuchNamespace
        )
    assert watched.feed(ResolveWanted(5, "nope", None), 10.0) == (ReadHead("nope"),)


def test_a_namespace_that_is_made_later_is_found() -> None:
    watched = make()
    watched.feed(ResolveWanted(1, "dev", None))
    watched.feed(HeadRead("dev", None))
    watched.feed(ResolveWanted(2, "dev", None), 10.0)
    watched.feed(HeadRead("dev", 1))
    assert Resolved(2, V1, False) in watched.feed(ManifestRead(V1))


@pytest.mark.parametrize("answer", ["none", "failed", "no manifest"])
def test_asking_for_junk_does_not_fill_memory(answer: str) -> None:
    resolver = make().resolver
    if answer == "no manifest":
        resolver.feed(Restored({"dev": 10**9}), 0.0)
    for number in range(WRONG_NAMES_MAX + 50):
        if answer == "no manifest":
            resolver.feed(ResolveWanted(number, "dev", number + 1), 0.0)
            resolver.feed(ManifestFailed("dev", number + 1, None), 0.0)
            continue
        name = f"junk-{number}"
        resolver.feed(ResolveWanted(number, name, None), 0.0)
        resolver.feed(HeadRead(name, None) if answer == "none" else HeadFailed(name, DOWN), 0.0)
    remembered: tuple[Sized, ...] = (
        resolver._wrong_namespaces,
        resolver._wrong_versions,
        resolver._unread_namespaces,
    )
    assert max(len(names) for names in remembered) == WRONG_NAMES_MAX
    assert len(resolver._namespaces) <= WRONG_NAMES_MAX


def test_names_of_which_nothing_but_an_error_is_known_are_forgotten_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("seekfs_core.resolver.WRONG_NAMES_MAX", 2)
    watched = at_version_1()
    for number, name in enumerate(("a", "b", "c")):
        watched.feed(ResolveWanted(10 + number, name, None))
        watched.feed(HeadFailed(name, DOWN))
    assert set(watched.resolver._namespaces) == {"dev", "b", "c"}
    watched.of("a").head_at = float("-inf")
    assert watched.feed(ResolveWanted(20, "a", None)) == (ReadHead("a"),)
    watched.feed(ResolveWanted(21, "b", None), 10.0)
    watched.feed(HeadRead("b", 1))
    watched.feed(HeadFailed("a", DOWN))
    assert set(watched.resolver._namespaces) == {"dev", "a", "b", "c"}  # Now there is a "b".
    watched.feed(ResolveWanted(22, "c", None), 20.0)
    watched.feed(ResolveWanted(23, "d", None))
    watched.feed(HeadFailed("d", DOWN))
    assert watched.feed(HeadFailed("c", DOWN)) == (NotResolved(22, DOWN),)  # It was being asked for.


@pytest.mark.parametrize(
    ("kind", "code", "absent"),
    [
        (FailureKind.MISSING, "NoSuchKey", True),
        (FailureKind.MISSING, None, True),
        (FailureKind.MISSING, "NoSuchBucket", False),
        (FailureKind.DENIED, None, False),
        (FailureKind.BUSY, None, False),
    ],
)
def test_only_a_missing_key_is_an_absence(kind: FailureKind, code: str | None, absent: bool) -> None:
    assert is_absence(StoreFailure(kind=kind, detail="so it went", code=code)) is absent


# --- while the store is down ----------------------------------------------------------------


def test_what_was_seen_is_served_stale_while_head_cannot_be_read() -> None:
    watched = at_version_1()
    watched.feed(ResolveWanted(2, "dev", None), 10.0)
    assert watched.feed(HeadFailed("dev", DOWN)) == (ServedOn("dev", 1, None, DOWN), Resolved(2, V1, True))
    assert watched.feed(ResolveWanted(3, "dev", None), 15.0) == (Resolved(3, V1, True),)
    assert watched.feed(ResolveWanted(4, "dev", 1)) == (Resolved(4, V1, False),)
    # Nobody waits for it to fail again; and when it is back, it is back.
    assert watched.feed(ResolveWanted(5, "dev", None), 20.0) == (Resolved(5, V1, True), ReadHead("dev"))
    assert watched.feed(HeadRead("dev", 1)) == (ServeCurrent(V1, 30.0),)
    assert watched.feed(ResolveWanted(6, "dev", None)) == (Resolved(6, V1, False),)


def test_after_a_restart_too() -> None:
    watched = make()
    watched.feed(Restored({"dev": 1}))
    watched.feed(ResolveWanted(1, "dev", None))
    assert watched.feed(HeadFailed("dev", DOWN)) == (ReadManifest("dev", 1),)
    # Who comes while the manifest is on its way from the disk waits for it.
    assert watched.feed(ResolveWanted(2, "dev", None)) == ()
    assert watched.feed(ManifestRead(V1)) == (
        ServedOn("dev", 1, None, DOWN),
        Resolved(1, V1, True),
        Resolved(2, V1, True),
    )


def test_what_was_never_seen_is_an_error_that_costs_nothing_twice() -> None:
    watched = make()
    watched.feed(ResolveWanted(1, "dev", None))
    watched.feed(ResolveWanted(2, "dev", 3))
    assert watched.feed(HeadFailed("dev", DOWN)) == (NotResolved(1, DOWN), NotResolved(2, DOWN))
    assert watched.feed(ResolveWanted(3, "dev", None), 9.9) == (NotResolved(3, DOWN),)
    assert watched.feed(ResolveWanted(4, "dev", 3)) == (NotResolved(4, DOWN),)
    assert watched.feed(ResolveWanted(5, "dev", None), 10.0) == (ReadHead("dev"),)


def test_a_head_that_is_gone_leaves_what_it_named_stale() -> None:
    watched = at_version_1()
    watched.feed(ResolveWanted(2, "dev", None), 10.0)
    said, resolved = watched.feed(HeadRead("dev", None))
    assert isinstance(said, ServedOn)
    assert isinstance(said.error, NoSuchNamespace)
    assert resolved == Resolved(2, V1, True)
    watched.feed(ResolveWanted(3, "dev", None), 20.0)
    assert watched.feed(HeadRead("dev", 1)) == (Resolved(3, V1, False), ServeCurrent(V1, 30.0))


def test_news_that_come_when_nobody_waits_any_more_are_read_all_the_same() -> None:
    """Otherwise a HEAD that always takes longer than one waits for it would never be followed."""
    watched = at_version_1()
    watched.feed(ResolveWanted(2, "dev", None), 10.0)
    assert watched.feed(Tick(), 11.0) == (Resolved(2, V1, True),)
    assert watched.feed(HeadRead("dev", 2), 11.5) == (ReadManifest("dev", 2),)
    assert watched.feed(ManifestRead(V2), 11.6)[0] == ServeCurrent(V2, 21.5)
    # Nor is one read again and again that is bad.
    watched.feed(ResolveWanted(3, "dev", None), 30.0)
    watched.feed(Tick(), 31.0)
    assert watched.feed(HeadRead("dev", 3), 31.5) == (ReadManifest("dev", 3),)
    assert watched.feed(NotKept("dev", 3)) == (FetchManifest("dev", 3),)
    watched.feed(ManifestFailed("dev", 3, DOWN), 40.0)
    watched.feed(ResolveWanted(4, "dev", None), 42.0)
    watched.feed(Tick(), 43.0)
    assert ReadManifest("dev", 3) not in watched.feed(HeadRead("dev", 3), 43.5)


def test_a_slow_head_is_waited_for_only_so_long() -> None:
    watched = at_version_1()
    assert watched.feed(ResolveWanted(2, "dev", None), 10.0) == (ReadHead("dev"),)
    assert watched.feed(ResolveWanted(3, "dev", None), 10.5) == ()
    assert watched.resolver.next_deadline() == 11.0
    assert watched.feed(Tick(), 10.9) == ()
    assert watched.feed(Tick(), 11.0) == (Resolved(2, V1, True), Resolved(3, V1, True))
    # Who comes now knows that it takes that long.
    assert watched.feed(ResolveWanted(4, "dev", None), 12.0) == (Resolved(4, V1, True),)
    assert watched.resolver.next_deadline() is None
    assert watched.feed(HeadRead("dev", 1), 13.0) == (ServeCurrent(V1, 23.0),)


def test_a_slow_new_manifest_is_waited_for_only_so_long() -> None:
    watched = at_version_1()
    watched.feed(ResolveWanted(2, "dev", None), 10.0)
    watched.feed(HeadRead("dev", 2), 10.4)
    assert watched.feed(ResolveWanted(3, "dev", None), 10.8) == ()
    assert watched.feed(Tick(), 11.0) == (Resolved(2, V1, False),)
    assert watched.feed(Tick(), 11.4) == (Resolved(3, V1, False),)
    assert watched.feed(ResolveWanted(4, "dev", None), 11.5) == (Resolved(4, V1, False),)
    assert watched.feed(ManifestRead(V2), 13.0) == (ServeCurrent(V2, 20.4), KeepHead("dev", 2))


def test_who_has_nothing_else_to_be_served_waits_as_long_as_it_takes() -> None:
    watched = make()
    watched.feed(ResolveWanted(1, "dev", None))
    watched.feed(ResolveWanted(2, "dev", 1))
    assert watched.resolver.next_deadline() is None
    assert watched.feed(Tick(), 100.0) == ()
    assert watched.feed(HeadRead("dev", 1), 101.0)[-1] == ReadManifest("dev", 1)
    assert watched.feed(Tick(), 200.0) == ()


def test_after_a_restart_without_a_store_the_last_good_version_is_served() -> None:
    """HEAD had come to version 2, whose manifest is bad: it is not what a restart goes by."""
    watched = at_version_1()
    watched.feed(ResolveWanted(2, "dev", None), TTL)
    watched.feed(HeadRead("dev", 2))
    watched.feed(ManifestFailed("dev", 2, BAD))
    assert watched.kept_heads == {"dev": 1}
    watched.restart()
    watched.feed(ResolveWanted(1, "dev", None))
    assert watched.feed(HeadFailed("dev", BAD)) == (ReadManifest("dev", 1),)
    assert watched.feed(ManifestRead(V1)) == (ServedOn("dev", 1, None, BAD), Resolved(1, V1, True))


def after_a_restart_with_a_bad_version_at_head(ttl: float) -> WatchedResolver:
    """Version 1 is remembered, and has been asked for in place of version 2, which is bad."""
    watched = make(ttl=ttl)
    watched.feed(Restored({"dev": 1}))
    watched.feed(ResolveWanted(1, "dev", None))
    assert watched.feed(HeadRead("dev", 2)) == (ReadManifest("dev", 2),)
    assert watched.feed(NotKept("dev", 2)) == (FetchManifest("dev", 2),)
    assert watched.feed(ManifestFailed("dev", 2, BAD)) == (ReadManifest("dev", 1),)
    return watched


@pytest.mark.parametrize("ttl", [0.0, TTL])
def test_after_a_restart_too_a_bad_new_manifest_does_not_replace_a_good_one(ttl: float) -> None:
    watched = after_a_restart_with_a_bad_version_at_head(ttl)
    assert watched.feed(ManifestRead(V1))[-2:] == (ServedOn("dev", 1, 2, BAD), Resolved(1, V1, False))
    assert watched.feed(ResolveWanted(2, "dev", 2))[0] in (NotResolved(2, BAD), ReadManifest("dev", 2))


@pytest.mark.parametrize("ttl", [0.0, TTL])
def test_after_a_restart_without_a_good_one_the_newest_ones_error_is_told(ttl: float) -> None:
    watched = after_a_restart_with_a_bad_version_at_head(ttl)
    assert watched.feed(ManifestFailed("dev", 1, DOWN)) == (NotResolved(1, BAD),)


def test_after_a_restart_the_good_one_may_have_been_read_for_who_named_it() -> None:
    watched = make()
    watched.feed(Restored({"dev": 1}))
    watched.feed(ResolveWanted(1, "dev", None))
    watched.feed(HeadRead("dev", 2))
    watched.feed(ResolveWanted(2, "dev", 1))
    watched.feed(ManifestRead(V1))
    assert Resolved(1, V1, False) in watched.feed(ManifestFailed("dev", 2, BAD))


def test_after_a_restart_a_silent_store_is_waited_for_no_longer_than_before() -> None:
    watched = make()
    watched.feed(Restored({"dev": 1}))
    watched.feed(ResolveWanted(1, "dev", None), 5.0)
    assert watched.resolver.next_deadline() == 6.0
    assert watched.feed(Tick(), 6.0) == (ReadManifest("dev", 1),)
    assert watched.resolver.next_deadline() is None
    assert Resolved(1, V1, True) in watched.feed(ManifestRead(V1), 6.1)
    # Who comes while HEAD is still out does not wait at all.
    assert Resolved(2, V1, True) in watched.feed(ResolveWanted(2, "dev", None), 7.0)
    assert ServeCurrent(V1, 9.0 + TTL) in watched.feed(HeadRead("dev", 1), 9.0)


def test_a_head_that_comes_while_the_remembered_manifest_is_read_makes_it_no_older() -> None:
    watched = make()
    watched.feed(Restored({"dev": 1}))
    watched.feed(ResolveWanted(1, "dev", None), 5.0)
    watched.feed(Tick(), 6.0)
    watched.feed(HeadRead("dev", 1), 6.1)
    assert Resolved(1, V1, False) in watched.feed(ManifestRead(V1), 6.2)


def test_who_named_a_version_waits_for_head_after_a_restart() -> None:
    watched = make()
    watched.feed(Restored({"dev": 1}))
    watched.feed(ResolveWanted(1, "dev", 2), 5.0)
    assert watched.resolver.next_deadline() is None
    assert watched.feed(HeadRead("dev", 2), 9.0) == (ReadManifest("dev", 2),)


# --- what nobody's request would tell -------------------------------------------------------


def test_that_a_version_cannot_be_had_is_said_once_for_every_time_that_it_was_tried() -> None:
    watched = at_version_1()
    said = ServedOn("dev", 1, 2, BAD)
    for number, now in enumerate((10.0, 20.0), 2):
        watched.feed(ResolveWanted(number, "dev", None), now)
        watched.feed(HeadRead("dev", 2))
        watched.feed(NotKept("dev", 2))
        assert said in watched.feed(ManifestFailed("dev", 2, BAD))
        assert said not in watched.feed(ResolveWanted(10 * number, "dev", None), now + 1)


def test_nothing_is_said_where_requests_fail_and_say_it() -> None:
    watched = make()
    watched.feed(ResolveWanted(1, "dev", None))
    watched.feed(HeadRead("dev", 2))
    watched.feed(NotKept("dev", 2))
    assert watched.feed(ManifestFailed("dev", 2, BAD)) == (NotResolved(1, BAD),)


def test_nothing_is_said_of_a_version_that_is_pinned_nor_at_the_end() -> None:
    pinned = make(pins={"dev": 1})
    pinned.feed(ResolveWanted(1, "dev", None))
    pinned.feed(ManifestRead(V1))
    pinned.feed(ResolveWanted(2, "dev", 2))
    assert pinned.feed(HeadFailed("dev", DOWN)) == (NotResolved(2, DOWN),)
    watched = at_version_1()
    watched.feed(ResolveWanted(2, "dev", None), 10.0)
    watched.feed(Closing())
    assert watched.feed(HeadFailed("dev", DOWN)) == ()
