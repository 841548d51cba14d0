"""Publishing, against a bucket that loses answers and publishers that die (``model_publication``)."""

from __future__ import annotations

import copy
import itertools
import random

import attrs
import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from seekfs_core import names
from seekfs_core.creation import Conditions
from seekfs_core.errors import (
    ConditionsNotHonoured,
    ContractViolation,
    FailureKind,
    ManifestInvalid,
    PublishConflict,
    PublishError,
    StoreAnswered,
    StoreUnavailable,
)
from seekfs_core.machine import Tick
from seekfs_core.manifest import Manifest
from seekfs_core.publication import RACES_MAX, Publication
from seekfs_core.publication_protocol import (
    TRANSITIONS,
    Begin,
    BrokenOff,
    ChangeReady,
    CheckFailed,
    Event,
    Failed,
    HeadRead,
    Interrupted,
    ManifestRead,
    Packed,
    Prepared,
    Prove,
    Published,
    ReadHead,
    ReadManifest,
    Request,
    State,
    WriteHead,
    WriteManifest,
    WriteProbe,
    Written,
)
from seekfs_core.rebase import Change
from tests.core.model_publication import (
    NS,
    POLICY,
    Bucket,
    Fate,
    Publisher,
    change,
    check_chain,
    contents,
    entry,
    failed,
    publish,
    published,
)
from tests.core.strategies import long_lists

# --- one publisher --------------------------------------------------------------------------------


def test_the_first_version_of_a_namespace() -> None:
    bucket = Bucket()
    first = Publisher(bucket, "p", change(("a", 1)))
    manifest = first.published()
    assert (manifest.version, manifest.parents, manifest.publication_id) == (1, (), "p")
    assert manifest.created_at == 1
    assert bucket.objects[names.head_key(NS)][0] == b"v-1\n"
    kinds = [type(request) for request in first.asked]
    assert kinds == [
        ReadHead,
        ReadManifest,
        ReadManifest,
        WriteProbe,
        WriteProbe,
        WriteProbe,
        WriteManifest,
        WriteHead,
    ]
    assert first.outcome == published(manifest, changed=1)


def test_a_version_is_its_base_and_the_change() -> None:
    bucket = Bucket()
    publish(bucket, ("a", 1), ("b", 1))
    second = publish(bucket, ("b", 2), ("c", 3), rm=("a",))
    assert contents(second) == {"b": 2, "c": 3}
    assert second.tombstones == ("a",)
    assert second.parents == (1,)
    assert bucket.head() == 2


def test_nothing_to_change_publishes_nothing() -> None:
    bucket = Bucket()
    publish(bucket, ("a", 1))
    puts = dict(bucket.puts)
    again = Publisher(bucket, "again", change(("a", 1), rm=("gone",)))
    assert again.run() == published(bucket.chain()[0], unchanged=2)
    assert bucket.puts == puts
    assert not [r for r in again.asked if isinstance(r, WriteProbe | WriteManifest | WriteHead)]
    nothing = Publisher(Bucket(), "nothing", change())
    assert nothing.run() == published(None)


def test_the_proof_may_come_before_the_change_and_is_not_repeated() -> None:
    bucket = Bucket()
    first = Publisher(bucket, "p", change(("a", 1)), prove_first=True)
    first.published()
    assert [r.if_match is None for r in first.asked if isinstance(r, WriteProbe)] == [True, True, False]
    second = Publisher(bucket, "q", change(("a", 2)), prove_first=True)
    second.published()
    assert [r.if_match is None for r in second.asked if isinstance(r, WriteProbe)] == [True, False]
    assert bucket.puts[names.PROBE_KEY] == 1


@pytest.mark.parametrize(("single_writer", "probes"), [(False, 3), (True, 0)])
def test_there_is_nothing_to_prove_where_it_is_proven_or_nobody_asked_for_it(
    single_writer: bool, probes: int
) -> None:
    publisher = Publisher(
        Bucket(), "p", change(("a", 1)), single_writer=single_writer, reads_first=True, prove_first=True
    )
    assert publisher.published().version == 1
    assert len([request for request in publisher.asked if isinstance(request, WriteProbe)]) == probes


def test_where_objects_are_read_first_the_proof_comes_before_that() -> None:
    bucket = Bucket()
    publish(bucket, ("a", 1))
    unchanged = Publisher(bucket, "p", change(("a", 1)), reads_first=True)
    assert unchanged.run() == published(bucket.chain()[0], unchanged=1)
    kinds = [type(request) for request in unchanged.asked]
    assert kinds == [ReadHead, ReadManifest, ReadManifest, WriteProbe, WriteProbe, ReadManifest]
    refused = Publisher(Bucket(ignores_match=True), "q", change(("a", 1)), reads_first=True)
    outcome = refused.run()
    assert isinstance(outcome, Failed)
    assert "ignores If-Match" in str(outcome.error)
    assert not [request for request in refused.asked if isinstance(request, WriteManifest)]


@pytest.mark.parametrize("probe_there", [False, True])
@pytest.mark.parametrize(
    ("fault", "what"),
    [
        ("ignores_none_match", "ignores If-None-Match"),
        ("ignores_match", "ignores If-Match"),
        ("refuses_conditions", "501 NotImplemented"),
        ("refuses_match", "501 NotImplemented"),
    ],
)
def test_a_store_without_conditions_is_refused(fault: str, what: str, probe_there: bool) -> None:
    bucket = Bucket()
    setattr(bucket, fault, True)
    if probe_there:
        bucket.objects[names.PROBE_KEY] = (b"probe", '"x"')
    error = Publisher(bucket, "p", change(("a", 1))).error()
    assert isinstance(error, ConditionsNotHonoured)
    assert what in error.detail
    assert "--single-writer" in error.detail
    assert set(bucket.objects) <= {names.PROBE_KEY}


def test_a_probe_of_if_match_that_has_no_answer_yet_is_made_again() -> None:
    busy = Publisher(Bucket(), "p", change(("a", 1)))
    while not (isinstance(busy.request, WriteProbe) and busy.request.if_match):
        busy.step()
    for _ in range(2):
        busy._take(busy.machine.feed(failed(FailureKind.BUSY), busy.now))
        assert busy.machine.state is State.BACKING_OFF
        busy.step()
    assert busy.published().version == 1


@pytest.mark.parametrize("kind", [FailureKind.DENIED, FailureKind.MISSING, FailureKind.UNREACHABLE])
def test_a_probe_that_cannot_be_written_says_nothing_about_conditions(kind: FailureKind) -> None:
    publisher = Publisher(Bucket(), "p", change(("a", 1)))
    while not publisher.over:
        if isinstance(publisher.request, WriteProbe):
            publisher._take(publisher.machine.feed(failed(kind), publisher.now))
        else:
            publisher.step()
    error = publisher.error()
    assert not isinstance(error, ConditionsNotHonoured)
    assert "--single-writer" not in error.detail
    assert f"the store was {kind.value}" in error.detail
    assert names.PROBE_KEY in error.detail


@pytest.mark.parametrize("fault", ["ignores_none_match", "ignores_match", "refuses_conditions"])
def test_a_single_writer_publishes_there_all_the_same(fault: str) -> None:
    bucket = Bucket()
    setattr(bucket, fault, True)
    for content in (1, 2, 3):
        Publisher(bucket, f"p{content}", change(("a", content)), single_writer=True).published()
    assert bucket.head() == 3
    assert names.PROBE_KEY not in bucket.objects
    assert [contents(m) for m in bucket.chain()] == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_a_head_without_an_etag_is_only_for_a_single_writer() -> None:
    bucket = Bucket(without_etags=True)
    publish(bucket, ("a", 1))
    error = Publisher(bucket, "p", change(("a", 2))).error()
    assert "HEAD has no ETag" in error.detail
    assert error.context["committed"] is True
    assert Publisher(bucket, "q", change(("a", 3)), single_writer=True).published().version == 3
    assert bucket.head() == 3


def test_rollback_is_the_old_content_as_a_new_version() -> None:
    bucket = Bucket()
    old = publish(bucket, ("a", 1), ("b", 1))
    publish(bucket, ("a", 2), ("c", 2), rm=("b",))
    back = Change(puts=old.files, exact=True)
    manifest = Publisher(bucket, "back", back).published()
    assert manifest.version == 3
    assert manifest.files == old.files
    assert manifest.tombstones == ("c",)
    assert Publisher(bucket, "again", back).run() == published(manifest, unchanged=2)


def test_rollback_fails_when_the_namespace_moved_meanwhile() -> None:
    for steps in range(20):
        bucket = Bucket()
        old = publish(bucket, ("a", 1))
        publish(bucket, ("a", 2))
        back = Publisher(bucket, "back", Change(puts=old.files, exact=True))
        for _ in range(steps):
            if not back.over:
                back.step()
        prepared_late = sum(isinstance(r, ReadManifest) for r in back.asked) < 3
        other = Publisher(bucket, "other", change(("z", 9)))
        other.published()
        outcome = back.run()
        check_chain(bucket, [back, other])
        if prepared_late or bucket.chain()[2].publication_id == "back":
            assert isinstance(outcome, Published), steps
        else:
            assert isinstance(outcome, Failed)
            assert isinstance(outcome.error, PublishConflict)
            assert "moved from version 2 to 3" in outcome.error.detail
            assert outcome.error.context["winner"] == 3


# --- others, dead and alive -----------------------------------------------------------------------


def test_a_version_whose_publisher_died_before_moving_head_is_adopted() -> None:
    bucket = Bucket()
    publish(bucket, ("a", 1))
    dead = Publisher(bucket, "dead", change(("b", 2)))
    while not isinstance(dead.request, WriteHead):
        dead.step()
    assert bucket.head() == 1
    after = publish(bucket, ("c", 3))
    assert after.version == 3
    assert contents(after) == {"a": 1, "b": 2, "c": 3}
    assert bucket.head() == 3


def test_publishing_the_same_again_moves_the_head_that_was_left_behind() -> None:
    bucket = Bucket()
    dead = Publisher(bucket, "dead", change(("a", 1)))
    while not isinstance(dead.request, WriteHead):
        dead.step()
    assert bucket.head() == 0
    again = Publisher(bucket, "again", change(("a", 1)))
    assert again.run() == published(bucket.chain()[0], unchanged=1)
    assert bucket.head() == 1


def test_a_version_above_head_that_fails_its_check_stops_the_publisher() -> None:
    bucket = Bucket()
    publish(bucket, ("a", 1))
    broken = ManifestInvalid("manifest v-2 of namespace 'dev': $.files: expected `array`")
    bucket.objects[names.manifest_key(NS, 2)] = (broken, '"x"')
    assert Publisher(bucket, "p", change(("b", 2))).error() is broken
    assert bucket.head() == 1


def test_a_head_that_names_a_version_that_is_not_there() -> None:
    bucket = Bucket()
    bucket.objects[names.head_key(NS)] = (b"v-7\n", '"x"')
    error = Publisher(bucket, "p", change(("b", 2))).error()
    assert isinstance(error, ManifestInvalid)
    assert "manifests/v-7.json.gz" in error.detail


def test_the_last_version_there_can_be() -> None:
    bucket = Bucket()
    last = Manifest(ns=NS, version=names.VERSION_MAX, files={"a": entry("a", 1)})
    bucket.objects[names.head_key(NS)] = (names.format_head(names.VERSION_MAX), '"x"')
    bucket.objects[names.manifest_key(NS, names.VERSION_MAX)] = (last, '"x"')
    assert Publisher(bucket, "same", change(("a", 1))).run() == published(last, unchanged=1)
    assert "last version" in Publisher(bucket, "p", change(("a", 2))).error().detail


def race(first: Change, second: Change, base: tuple[tuple[str, int], ...]) -> tuple[Bucket, Publisher]:
    """``second`` prepares, then ``first`` publishes, then ``second`` goes on."""
    bucket = Bucket()
    if base:
        publish(bucket, *base)
    slow = Publisher(bucket, "slow", second)
    while not isinstance(slow.request, WriteManifest):
        slow.step()
    quick = Publisher(bucket, "quick", first)
    quick.published()
    slow.run()
    check_chain(bucket, [quick, slow])
    return bucket, slow


def test_two_publishers_of_different_paths_both_survive() -> None:
    bucket, slow = race(change(("a", 1)), change(("b", 2)), (("x", 9),))
    assert contents(slow.published()) == {"a": 1, "b": 2, "x": 9}
    assert [m.publication_id for m in bucket.chain()][1:] == ["quick", "slow"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (change(("a", 1)), change(("a", 2))),
        (change(("x", 1)), change(("x", 2))),
        (change(("x", 1)), change(rm=("x",))),
        (change(rm=("x",)), change(("x", 1))),
    ],
)
def test_two_changes_of_one_path_conflict_unless_overwriting(first: Change, second: Change) -> None:
    path = next(iter((*first.puts, *first.removals)))
    bucket, slow = race(first, second, (("x", 9), ("y", 9)))
    error = slow.error()
    assert isinstance(error, PublishConflict)
    assert error.context["paths"] == [path]
    assert error.context["winner"] == 2
    assert f"'{path}' (version 2)" in error.detail
    assert len(bucket.chain()) == 2

    forced = Change(puts=second.puts, removals=second.removals, overwrite=True)
    bucket, slow = race(first, forced, (("x", 9), ("y", 9)))
    assert slow.published().version == 3


@pytest.mark.parametrize(
    ("first", "second"),
    [(change(("a", 1)), change(("a", 1))), (change(rm=("x",)), change(rm=("x",)))],
)
def test_the_same_change_twice_is_no_conflict_and_no_version(first: Change, second: Change) -> None:
    bucket, slow = race(first, second, (("x", 9), ("y", 9)))
    assert slow.outcome == published(bucket.chain()[-1], unchanged=1)
    assert bucket.head() == 2


def test_a_conflict_is_judged_from_before_the_upload() -> None:
    """The other published while we were uploading: before our change was even fed."""
    bucket = Bucket()
    publish(bucket, ("a", 1))
    machine = Publication(ns=NS, publication_id="p", policy=POLICY, rng=random.Random(1))
    (request,) = machine.feed(Begin(), 0.0)
    while machine.state is not State.PREPARED:
        assert isinstance(request, ReadHead | ReadManifest)
        (request,) = machine.feed(bucket.serve(request), 0.0)
    assert request == Prepared(bucket.chain()[0])
    publish(bucket, ("a", 2))
    (request,) = machine.feed(ChangeReady(change(("a", 3))), 1.0)
    while not isinstance(request, Failed):
        assert isinstance(request, ReadManifest)
        (request,) = machine.feed(bucket.serve(request), 1.0)
    assert isinstance(request.error, PublishConflict)


def test_a_conflict_names_the_version_that_last_changed_the_path() -> None:
    bucket = Bucket()
    slow = Publisher(bucket, "slow", change(("a", 5), ("b", 5)))
    while not isinstance(slow.request, WriteManifest):
        slow.step()
    publish(bucket, ("a", 1))
    publish(bucket, ("b", 1))
    publish(bucket, ("c", 1))
    error = slow.error()
    assert error.context["winners"] == {"a": 1, "b": 2}
    assert error.context["winner"] == 2


# --- everything that can go wrong, at every step ---------------------------------------------------


@pytest.mark.parametrize("fate", [f for f in Fate if f is not Fate.FINE])
@pytest.mark.parametrize("index", range(12))
@pytest.mark.parametrize("first", [True, False])
def test_each_answer_lost_once(fate: Fate, index: int, first: bool) -> None:
    bucket = Bucket()
    if not first:
        publish(bucket, ("x", 9))
    fates = [Fate.FINE] * index + [fate]
    publisher = Publisher(bucket, "p", change(("a", 1)))
    outcome = publisher.run(iter(fates))
    assert isinstance(outcome, Published)
    assert outcome.new
    bucket.deliver_late()
    check_chain(bucket, [publisher])
    assert [m.publication_id for m in bucket.chain()].count("p") == 1


@pytest.mark.parametrize("index", range(12))
@pytest.mark.parametrize("applied", [True, False])
def test_killed_at_each_step_and_another_goes_on(index: int, applied: bool) -> None:
    bucket = Bucket()
    publish(bucket, ("x", 9))
    victim = Publisher(bucket, "victim", change(("a", 1)))
    for _ in range(index):
        if not victim.over:
            victim.step()
    if victim.request is not None and applied:
        bucket.serve(victim.request)
    victim.dead = True
    after = Publisher(bucket, "after", change(("b", 2)))
    manifest = after.published()
    check_chain(bucket, [victim, after])
    assert manifest.files["b"] == entry("b", 2)
    assert bucket.head() == manifest.version == len(bucket.chain())


@pytest.mark.parametrize("index", range(12))
@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("fate", [Fate.FINE, Fate.LOST, Fate.BUSY])
def test_interrupted_at_each_step_it_is_published_or_nothing_is(
    index: int, applied: bool, fate: Fate
) -> None:
    """``fate`` is that of the request before: so it is interrupted while it waits, too."""
    bucket = Bucket()
    publish(bucket, ("x", 9))
    publisher = Publisher(bucket, "p", change(("a", 1)))
    for step in range(index):
        if not publisher.over:
            publisher.step(fate if step == index - 1 else Fate.FINE)
    was_over = publisher.over
    asked_for = any(isinstance(request, WriteManifest) for request in publisher.asked)
    publisher.interrupt(applied=applied)
    if was_over or not asked_for:
        assert isinstance(publisher.outcome, BrokenOff)
        assert publisher.request is None
    else:
        assert isinstance(publisher.run(), Published)
    assert bucket.head() == len(bucket.chain()) == (2 if asked_for else 1)
    if not was_over:
        check_chain(bucket, [publisher])
    publish(bucket, ("b", 2))


def test_a_second_interruption_ends_it_wherever_it_is() -> None:
    for index in range(12):
        bucket = Bucket()
        publisher = Publisher(bucket, "p", change(("a", 1)))
        while not isinstance(publisher.request, WriteManifest):
            publisher.step()
        publisher.interrupt(applied=True)
        for _ in range(index):
            if not publisher.over:
                publisher.step(Fate.BUSY if index % 2 else Fate.FINE)
        was_over, is_created = publisher.over, isinstance(publisher.request, WriteHead)
        publisher.interrupt(applied=False)
        assert isinstance(publisher.outcome, BrokenOff)
        if was_over:
            assert publisher.outcome.left is None
        else:
            assert publisher.outcome.left is not None
            assert publisher.outcome.left.context["version"] == 1
            assert not is_created or publisher.outcome.left.context["committed"] is True
        assert publisher.machine.next_deadline() is None
        # The next publisher finds the version, and HEAD behind it.
        again = Publisher(bucket, "again", change(("a", 1)))
        assert again.run() == published(bucket.chain()[0], unchanged=1)
        assert bucket.head() == 1


def test_nothing_of_ours_is_half_done_when_another_was_first() -> None:
    bucket = Bucket()
    slow = Publisher(bucket, "slow", change(("a", 1)))
    while not isinstance(slow.request, WriteManifest):
        slow.step()
    publish(bucket, ("b", 1))
    slow.step()
    slow.step()
    assert slow.machine.state is State.BACKING_OFF
    slow.interrupt(applied=False)
    assert isinstance(slow.outcome, BrokenOff)
    check_chain(bucket, [slow])


def test_a_head_that_others_left_behind_is_not_ours_to_finish() -> None:
    bucket = Bucket()
    dead = Publisher(bucket, "dead", change(("a", 1)))
    while not isinstance(dead.request, WriteHead):
        dead.step()
    again = Publisher(bucket, "again", change(("a", 1)))
    while not isinstance(again.request, WriteHead):
        again.step()
    again.interrupt(applied=False)
    assert isinstance(again.outcome, BrokenOff)


def test_a_version_that_no_reader_would_take_is_not_sent() -> None:
    refusal = ManifestInvalid("too long")
    publisher = Publisher(Bucket(), "p", change(("a", 1)), packing=CheckFailed(refusal))
    assert publisher.error() is refusal
    assert not [request for request in publisher.asked if isinstance(request, WriteManifest)]


def test_at_the_last_version_there_is_conditions_are_proven_before_it_is_prepared() -> None:
    machine = Publication(ns=NS, publication_id="p", policy=POLICY, rng=random.Random(1))
    machine.feed(Begin(reads_first=True), 1.0)
    machine.feed(HeadRead(names.VERSION_MAX, '"e"'), 1.0)
    last = Manifest(ns=NS, version=names.VERSION_MAX, files={})
    (probe,) = machine.feed(ManifestRead(names.VERSION_MAX, last), 1.0)
    assert isinstance(probe, WriteProbe)
    assert machine.state is State.PROBING_CREATE


def test_a_version_that_cannot_be_read_back_may_be_ours() -> None:
    """Its creation was not answered, and what is there now is damaged: that is not to say that it failed."""
    publisher = Publisher(Bucket(), "p", change(("a", 1)))
    while not isinstance(publisher.request, WriteManifest):
        publisher.step()
    publisher.interrupt(applied=True)
    assert publisher.machine.state is State.READING_BACK
    (failed,) = publisher.machine.feed(CheckFailed(ManifestInvalid("not JSON")), 1.0)
    assert isinstance(failed, Failed)
    assert "version 1 of namespace 'dev' was published is not known: not JSON" in failed.error.detail


def everything_of(machine: Publication) -> dict[str, object]:
    return attrs.asdict(machine, recurse=False, filter=lambda field, _: field.name != "rng")


def test_a_copy_is_a_machine_of_its_own() -> None:
    """A driver that is interrupted in the middle of ``feed`` falls back on the machine as it was."""
    bucket = Bucket()
    publisher = Publisher(bucket, "p", change(("a", 1), ("b", 1)))
    rivals = [("a", 1)]
    while not publisher.over:
        if rivals and isinstance(publisher.request, WriteManifest):
            publish(bucket, rivals.pop())
        kept = publisher.machine
        before = copy.deepcopy(everything_of(kept))
        publisher.machine = copy.copy(kept)
        publisher.step()
        assert everything_of(kept) == before
    assert publisher.machine._winners == {"a": 1}
    assert isinstance(publisher.outcome, Published)


@pytest.mark.parametrize("kind", [FailureKind.UNREACHABLE, FailureKind.BUSY, FailureKind.TIMED_OUT])
@pytest.mark.parametrize("kinds", [ReadHead, ReadManifest, WriteProbe, WriteManifest, WriteHead])
def test_a_store_that_stays_away_ends_the_publication(kind: FailureKind, kinds: type[Request]) -> None:
    bucket = Bucket()
    publish(bucket, ("x", 9))
    publisher = Publisher(bucket, "p", change(("a", 1)))
    asked = 0
    while not publisher.over:
        if isinstance(publisher.request, kinds):
            asked += 1
            publisher._take(publisher.machine.feed(failed(kind), publisher.now))
        else:
            publisher.step()
    assert asked == POLICY.attempts_max
    error = publisher.error()
    if kinds is WriteManifest:
        assert "is not known" in error.detail
    elif kinds is WriteHead:
        assert error.context["committed"] is True
        assert "is written, and HEAD could not be moved" in error.detail
    elif kinds is WriteProbe:
        assert "the probe for conditional writes failed" in error.detail
    check_chain(bucket, [publisher])
    assert publish(bucket, ("b", 2)).files.keys() >= {"x", "b"}


@pytest.mark.parametrize("kinds", [ReadHead, ReadManifest, WriteProbe, WriteManifest, WriteHead])
def test_a_refusal_is_not_asked_again(kinds: type[Request]) -> None:
    publisher = Publisher(Bucket(), "p", change(("a", 1)))
    while not isinstance(publisher.request, kinds):
        publisher.step()
    publisher._take(publisher.machine.feed(failed(FailureKind.DENIED), 0.0))
    error = publisher.error()
    assert isinstance(error, StoreAnswered | PublishError)
    assert "denied" in error.detail


def test_when_reading_back_fails_the_error_says_that_it_is_not_known() -> None:
    publisher = Publisher(Bucket(), "p", change(("a", 1)))
    while not isinstance(publisher.request, WriteManifest):
        publisher.step()
    publisher.step(Fate.LOST)
    assert publisher.machine.state is State.READING_BACK
    while not publisher.over:
        publisher.step(Fate.BUSY)
    assert "whether version 1 of namespace 'dev' was published is not known" in publisher.error().detail
    # And publishing the same again settles it.
    again = Publisher(publisher.bucket, "again", change(("a", 1)))
    assert again.run() == published(publisher.bucket.chain()[0], unchanged=1)


def test_a_create_that_is_refused_for_nothing_is_tried_again() -> None:
    """412 or 404, and nobody has created the version: seen where two writes met and both lost."""
    bucket = Bucket()
    for kind in (FailureKind.PRECONDITION, FailureKind.MISSING):
        publisher = Publisher(bucket, f"p-{kind.value}", change((kind.value, 1)))
        while not isinstance(publisher.request, WriteManifest):
            publisher.step()
        publisher._take(publisher.machine.feed(failed(kind), 0.0))
        publisher.published()
        check_chain(bucket, [publisher])


def test_head_moved_by_others_while_we_move_it() -> None:
    bucket = Bucket()
    slow = Publisher(bucket, "slow", change(("a", 1)))
    while not isinstance(slow.request, WriteHead):
        slow.step()
    publish(bucket, ("b", 2))
    assert bucket.head() == 2
    assert slow.published().version == 1
    assert bucket.head() == 2
    assert isinstance(slow.asked[-1], ReadHead)


def test_head_moved_by_others_but_not_far_enough() -> None:
    bucket = Bucket()
    middle = Publisher(bucket, "middle", change(("a", 1)))
    while not isinstance(middle.request, WriteHead):
        middle.step()
    last = Publisher(bucket, "last", change(("b", 2)))
    while not isinstance(last.request, WriteHead):
        last.step()
    middle.published()
    assert bucket.head() == 1
    assert last.published().version == 2
    assert bucket.head() == 2


def test_a_publisher_that_always_loses_gives_up() -> None:
    bucket = Bucket()
    publisher = Publisher(bucket, "p", change(("a", 1)))
    for lost in range(RACES_MAX + 1):
        while not publisher.over and not isinstance(publisher.request, WriteManifest):
            publisher.step()
        if publisher.over:
            break
        publish(bucket, ("b", lost % 250))
        publisher.step()
    assert f"{RACES_MAX} times in a row" in publisher.error().detail
    check_chain(bucket, [publisher])


def test_an_unreachable_store_is_that_error() -> None:
    publisher = Publisher(Bucket(), "p", change(("a", 1)))
    while not publisher.over:
        publisher.step(Fate.NEVER_ARRIVED)
    assert isinstance(publisher.error(), StoreUnavailable)
    assert 0.1 <= publisher.now <= 0.3  # Two backoffs of at most 0.1 and 0.2 seconds.


fates = st.sampled_from([Fate.FINE] * 6 + list(Fate))


@frozen
class Step:
    who: int
    fate: Fate
    dies: bool
    interrupted: bool
    deliver: bool


steps = st.builds(
    Step,
    st.integers(0, 3),
    fates,
    st.sampled_from([False] * 30 + [True]),
    st.sampled_from([False] * 20 + [True]),
    st.sampled_from([False, False, True]),
)
paths = st.sampled_from(["a", "b", "c", "d"])
changes = st.builds(
    lambda puts, rm, overwrite: change(*puts.items(), rm=tuple(sorted(rm - set(puts))), overwrite=overwrite),
    st.dictionaries(paths, st.integers(1, 3), min_size=1, max_size=3),
    st.sets(paths, max_size=1),
    st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(changes, min_size=2, max_size=4), long_lists(steps, 80), st.booleans())
def test_any_interleaving_of_publishers_keeps_what_was_acknowledged(
    wanted: list[Change], script: list[Step], head_start: bool
) -> None:
    bucket = Bucket()
    if head_start:
        publish(bucket, ("a", 9), ("x", 9))
    publishers = [Publisher(bucket, f"w{i}", c) for i, c in enumerate(wanted)]
    head = bucket.head()
    for step in script:
        if step.deliver:
            bucket.deliver_late()
        publisher = publishers[step.who % len(publishers)]
        if publisher.over:
            continue
        if step.interrupted:
            publisher.interrupt(applied=step.fate is Fate.LOST)
        else:
            publisher.step(step.fate)
        publisher.dead = step.dies
        assert bucket.head() >= head
        head = bucket.head()
    # The weather clears: whoever lives comes to an end, and the next publish works.
    for publisher in publishers:
        if not publisher.dead:
            publisher.run()
    bucket.deliver_late()
    last = Publisher(bucket, "last", change(("last", 1)))
    final = last.published()
    check_chain(bucket, [*publishers, last])
    assert bucket.head() == final.version == len(bucket.chain())


# --- the shape of the machine ----------------------------------------------------------------------

EVENTS: list[Event] = [
    Begin(),
    HeadRead(1, '"e"'),
    ManifestRead(1, None),
    CheckFailed(ManifestInvalid("no")),
    Packed(),
    Written(),
    failed(FailureKind.BUSY),
    Prove(),
    ChangeReady(change()),
    Interrupted(),
    Tick(),
]


def in_each_state() -> dict[State, Publication]:
    """A machine in every state, reached by events alone."""
    found: dict[State, Publication] = {}

    def note(publisher: Publisher) -> None:
        found.setdefault(publisher.machine.state, copy.deepcopy(publisher.machine))

    found[State.NEW] = Publication(ns=NS, publication_id="p", policy=POLICY, rng=random.Random(1))
    prepared = Publication(ns=NS, publication_id="p", policy=POLICY, rng=random.Random(1))
    prepared.feed(Begin(), 0.0)
    prepared.feed(HeadRead(None, None), 0.0)
    prepared.feed(ManifestRead(1, None), 0.0)
    found[State.PREPARED] = copy.deepcopy(prepared)
    prepared.conditions = Conditions.TRIED
    prepared.feed(ChangeReady(change(("a", 1))), 0.0)
    prepared.feed(ManifestRead(1, None), 0.0)
    found[State.PACKING] = copy.deepcopy(prepared)
    prepared.feed(Interrupted(), 0.0)
    found[State.BROKEN_OFF] = prepared
    for index, fate in itertools.product(range(14), (Fate.FINE, Fate.LOST, Fate.BUSY)):
        bucket = Bucket()
        if index % 2:
            publish(bucket, ("x", 1))
        publisher = Publisher(bucket, "p", change(("a", 1)))
        note(publisher)
        script = iter([Fate.FINE] * index + [fate])
        while not publisher.over:
            publisher.step(next(script, Fate.FINE) if publisher.request else Fate.FINE)
            note(publisher)
    broken = Publisher(Bucket(ignores_match=True), "p", change(("a", 1)))
    broken.run()
    note(broken)
    return found


def test_every_state_is_reached_and_every_pair_is_legal_or_refused() -> None:
    machines = in_each_state()
    assert set(machines) == set(State)
    for state, machine in machines.items():
        for event in EVENTS:
            tried = copy.deepcopy(machine)
            if (state, type(event)) in TRANSITIONS or isinstance(event, Tick):
                if isinstance(event, ManifestRead):
                    assert isinstance(tried._request, ReadManifest)
                    event = ManifestRead(tried._request.version, None)
                tried.feed(event, 100.0)
            else:
                before = copy.deepcopy(tried)
                with pytest.raises(ContractViolation):
                    tried.feed(event, 100.0)
                assert tried.state == before.state
                assert tried._now == before._now


def test_a_caller_that_breaks_the_contract_changes_nothing() -> None:
    machine = Publication(ns=NS, publication_id="p", policy=POLICY, rng=random.Random(1))
    machine.feed(Begin(), 5.0)
    with pytest.raises(ContractViolation, match="time went back"):
        machine.feed(HeadRead(3, '"e"'), 4.0)
    machine.feed(HeadRead(3, '"e"'), 5.0)
    with pytest.raises(ContractViolation, match="v-4 read where v-3"):
        machine.feed(ManifestRead(4, None), 5.0)
    assert machine.state is State.READING_BASE


def test_ticks_are_harmless_early_and_twice() -> None:
    machine = Publication(ns=NS, publication_id="p", policy=POLICY, rng=random.Random(1))
    machine.feed(Begin(), 0.0)
    assert machine.feed(Tick(), 0.0) == ()
    assert machine.next_deadline() is None
    assert machine.feed(failed(FailureKind.BUSY), 1.0) == ()
    due = machine.next_deadline()
    assert due is not None
    assert 1.05 <= due <= 1.1
    assert machine.feed(Tick(), 1.0) == ()
    assert machine.feed(Tick(), due) == (ReadHead(names.head_key(NS)),)
    assert machine.feed(Tick(), due) == ()


def test_the_same_events_give_the_same_actions() -> None:
    def asked() -> list[Request]:
        publisher = Publisher(Bucket(), "p", change(("a", 1)))
        publisher.run(iter([Fate.BUSY, Fate.FINE, Fate.LOST] * 4))
        return publisher.asked

    assert asked() == asked()


def test_a_head_that_lost_its_etag_while_it_was_moved_is_not_moved() -> None:
    bucket = Bucket()
    middle, last = Publisher(bucket, "middle", change(("a", 1))), Publisher(bucket, "last", change(("b", 2)))
    for publisher in (middle, last):
        while not isinstance(publisher.request, WriteHead):
            publisher.step()
    middle.published()
    bucket.without_etags = True
    error = last.error()
    assert "HEAD has no ETag" in error.detail
    assert error.context["committed"] is True
    assert bucket.head() == 1


def test_an_interruption_while_a_write_waits_for_its_next_try_leaves_it_to_that() -> None:
    bucket = Bucket()
    publisher = Publisher(bucket, "p", change(("a", 1)))
    while not isinstance(publisher.request, WriteHead):
        publisher.step()
    publisher.step(Fate.BUSY)
    publisher.step()
    assert publisher.machine.state is State.BACKING_OFF
    due = publisher.machine.next_deadline()
    assert due is not None
    assert publisher.machine.feed(Interrupted(), publisher.now) == ()
    assert publisher.machine.state is State.BACKING_OFF
    (request,) = publisher.machine.feed(Tick(), due)
    assert isinstance(request, WriteHead)
