"""What is done with the files of one command: every pair of state and event, each rule by itself, and
many files at once against a bucket in a few lines."""

from __future__ import annotations

import enum
import hashlib
import itertools
import random

import pytest
from attrs import define, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from seekfs_core.creation import Conditions
from seekfs_core.errors import ContractViolation, PublishConflict
from seekfs_core.manifest import FileEntry
from seekfs_core.names import content_object_key, file_object_key
from seekfs_core.uploads import (
    UPLOAD_TRANSITIONS,
    Compare,
    Compared,
    FileDigested,
    Finish,
    Keep,
    Kept,
    KeyKind,
    Look,
    Looked,
    Placed,
    Prove,
    Proven,
    Refuse,
    SendParts,
    SendWhole,
    Sent,
    Share,
    There,
    UploadAction,
    UploadEvent,
    Uploads,
    UploadState,
)

SHORT, MIDDLE, LARGE = 1000, 100_000, 1_000_001
PART_BYTES = 1_000_000
KEPT, TRIED, REFUSED = Conditions.KEPT, Conditions.TRIED, Conditions.REFUSED


@frozen
class Content:
    letter: str
    size: int

    @property
    def sha256(self) -> bytes:
        return hashlib.sha256(f"{self.letter}{self.size}".encode()).digest()

    @property
    def key(self) -> str:
        return content_object_key("dev", self.sha256.hex())

    def read(self, path: str) -> FileDigested:
        return FileDigested(path=path, size=self.size, sha256=self.sha256)

    def entry(self, path: str, key: str | None = None, etag: str | None = '"base"') -> FileEntry:
        return FileEntry(
            path=path,
            size=self.size,
            sha256=self.sha256,
            page_size_bytes=self.size,
            crcs=(1,),
            storage_key=self.key if key is None else key,
            storage_etag=etag,
        )


def uploads(
    kind: KeyKind = KeyKind.CONTENT, conditions: Conditions = KEPT, base: dict[str, FileEntry] | None = None
) -> Uploads:
    return Uploads(ns="dev", kind=kind, part_bytes=PART_BYTES, conditions=conditions, base=base or {})


def there(size: int, etag: str | None = '"e"') -> There:
    return There(size=size, etag=etag)


def feed(machine: Uploads, *events: UploadEvent) -> UploadAction:
    """What the last of the events leads to."""
    return [machine.feed(event, 0.0) for event in events][-1][0]


# --- every pair of state and event ----------------------------------------------------------

A = Content("a", MIDDLE)
EVENTS: tuple[UploadEvent, ...] = (
    A.read("a"),
    Proven("a"),
    Looked("a", None),
    Looked("a", there(MIDDLE)),
    Looked("a", there(1)),
    Sent("a", True, there(MIDDLE), KEPT),
    Sent("a", False, there(MIDDLE), KEPT),
    Sent("a", False, there(1), KEPT),
    Compared("a", True),
    Compared("a", False),
)
DONE: tuple[UploadEvent, ...] = (Looked("a", None), Sent("a", True, there(MIDDLE), KEPT))
WAYS: dict[tuple[KeyKind, UploadState], tuple[UploadEvent, ...]] = {
    (KeyKind.CONTENT, UploadState.UNKNOWN): (),
    (KeyKind.CONTENT, UploadState.CHECKING): (A.read("a"),),
    (KeyKind.CONTENT, UploadState.PROVING): (A.read("a"),),
    (KeyKind.CONTENT, UploadState.LOOKING): (A.read("a"), Proven("a")),
    (KeyKind.CONTENT, UploadState.SENDING): (A.read("a"), Proven("a"), Looked("a", None)),
    (KeyKind.CONTENT, UploadState.OVER): (A.read("a"), Proven("a"), *DONE),
    (KeyKind.PATH, UploadState.UNKNOWN): (),
    (KeyKind.PATH, UploadState.LOOKING): (A.read("a"),),
    (KeyKind.PATH, UploadState.SENDING): (A.read("a"), Looked("a", None)),
    (KeyKind.PATH, UploadState.COMPARING): (A.read("a"), Looked("a", there(MIDDLE))),
    (KeyKind.PATH, UploadState.OVER): (A.read("a"), *DONE),
}


@pytest.mark.parametrize(("way", "event"), [*itertools.product(WAYS, EVENTS)])
def test_every_event_lands_where_the_table_says_or_is_refused(
    way: tuple[KeyKind, UploadState], event: UploadEvent
) -> None:
    kind, state = way
    machine = uploads(kind, base={"a": A.entry("a")} if state is UploadState.CHECKING else {})
    for each in WAYS[way]:
        feed(machine, each)
    landings = UPLOAD_TRANSITIONS.get((state, type(event)))
    if landings is not None:
        feed(machine, event)
        assert machine._files["a"].state in landings
        return
    before = (repr(machine), repr(machine._files), repr(machine._etags))
    with pytest.raises(ContractViolation, match="'a'"):
        machine.feed(event, 1.0)
    assert (repr(machine), repr(machine._files), repr(machine._etags)) == before
    machine.feed(Content("b", 1).read("b"), 0.5)


@pytest.mark.parametrize(
    "event",
    [
        Sent("a", True, there(MIDDLE + 1), KEPT),
        Sent("a", True, there(MIDDLE), REFUSED),
        Sent("a", False, there(MIDDLE), TRIED),
    ],
)
def test_a_sending_that_cannot_have_been_as_asked_is_refused(event: Sent) -> None:
    machine = uploads()
    feed(machine, A.read("a"), Proven("a"), Looked("a", None))
    before = (repr(machine), repr(machine._files))
    with pytest.raises(ContractViolation, match="'a'"):
        machine.feed(event, 1.0)
    assert (repr(machine), repr(machine._files)) == before


@pytest.mark.parametrize(("size", "sha256"), [(-1, bytes(32)), (1, bytes(31)), (1, bytes(33))])
def test_a_digest_that_cannot_be_one_is_none(size: int, sha256: bytes) -> None:
    with pytest.raises(ValueError):
        FileDigested(path="a", size=size, sha256=sha256)


# --- each rule ------------------------------------------------------------------------------


ELSEWHERE = "anywhere/else"


@pytest.mark.parametrize("key", [A.key, ELSEWHERE])
@pytest.mark.parametrize(("etag", "now"), [('"base"', '"base"'), (None, '"new"'), ('"base"', None)])
def test_what_the_base_has_at_the_path_is_kept_wherever_it_lies(
    key: str, etag: str | None, now: str | None
) -> None:
    """Once it was seen that it is there. A store that gives no ETag is believed by the size."""
    entry = A.entry("a", key, etag)
    machine = uploads(base={"a": entry})
    assert feed(machine, A.read("a")) == Look("a", key)
    assert feed(machine, Looked("a", there(MIDDLE, now))) == Keep("a")
    assert machine.placements() == {"a": Kept(entry)}
    assert machine.objects_created == 0


def test_what_the_base_has_under_its_contents_key_is_not_sent_to_another_path() -> None:
    machine = uploads(base={"a": A.entry("a")})
    assert feed(machine, A.read("b")) == Look("b", A.key)
    assert feed(machine, Looked("b", there(MIDDLE, '"base"'))) == Finish("b")
    assert machine.placements() == {"b": Placed(A.key, '"base"')}


def test_an_object_of_several_paths_of_the_base_is_looked_at_once() -> None:
    base = {path: A.entry(path) for path in "ab"}
    for now, placements in (
        ('"base"', {path: Kept(base[path]) for path in "ab"} | {"c": Placed(A.key, '"base"')}),
        ('"new"', dict.fromkeys("abc", Placed(A.key, '"new"'))),
    ):
        machine = uploads(base=base)
        assert feed(machine, A.read("a")) == Look("a", A.key)
        assert feed(machine, A.read("b")) == Share("b")
        assert feed(machine, A.read("c")) == Share("c")
        feed(machine, Looked("a", there(MIDDLE, now)))
        assert machine.placements() == placements


@pytest.mark.parametrize("size", [SHORT, MIDDLE, LARGE])
def test_content_of_the_base_that_is_gone_is_sent_again(size: int) -> None:
    """Also for a path that the base does not have; and it need not be asked for a second time."""
    content = Content("a", size)
    send = SendParts if size > PART_BYTES else SendWhole
    for path in "ab":
        machine = uploads(base={"a": content.entry("a")})
        assert feed(machine, content.read(path), Looked(path, None)) == Prove(path)
        assert feed(machine, Proven(path)) == send(path, content.key, KEPT)
        assert feed(machine, Sent(path, True, there(size, '"new"'), KEPT)) == Finish(path)
        assert machine.placements() == {path: Placed(content.key, '"new"')}
        assert machine.objects_created == 1


def test_what_comes_back_with_the_etag_of_before_is_kept() -> None:
    entry = A.entry("a")
    machine = uploads(base={"a": entry})
    feed(machine, A.read("a"), Looked("a", None), Proven("a"))
    assert feed(machine, Sent("a", True, there(MIDDLE, '"base"'), KEPT)) == Finish("a")
    assert machine.placements() == {"a": Kept(entry)}


def test_content_under_its_key_with_another_etag_is_published_with_that() -> None:
    machine = uploads(base={"a": A.entry("a")})
    feed(machine, A.read("a"))
    assert feed(machine, Looked("a", there(MIDDLE, '"new"'))) == Finish("a")
    assert machine.placements() == {"a": Placed(A.key, '"new"')}


@pytest.mark.parametrize("found", [None, there(MIDDLE, '"another"'), there(1, '"base"')])
def test_a_file_that_lies_elsewhere_and_is_not_there_any_more_is_sent_as_content(
    found: There | None,
) -> None:
    machine = uploads(base={"a": A.entry("a", ELSEWHERE)})
    assert feed(machine, A.read("a"), Looked("a", found)) == Prove("a")
    assert feed(machine, Proven("a")) == Look("a", A.key)
    assert feed(machine, Looked("a", None)) == SendWhole("a", A.key, KEPT)
    assert feed(machine, Sent("a", True, there(MIDDLE, '"new"'), KEPT)) == Finish("a")
    assert machine.placements() == {"a": Placed(A.key, '"new"')}


def test_a_file_that_is_gone_from_elsewhere_may_be_in_the_base_as_content() -> None:
    machine = uploads(base={"a": A.entry("a", ELSEWHERE), "b": A.entry("b")})
    assert feed(machine, A.read("a"), Looked("a", None)) == Look("a", A.key)
    assert feed(machine, A.read("b")) == Share("b")
    assert feed(machine, Looked("a", there(MIDDLE, '"base"'))) == Finish("a")
    assert machine.placements() == {"a": Placed(A.key, '"base"'), "b": Kept(A.entry("b"))}


def test_a_file_that_is_gone_from_elsewhere_may_be_seen_to_as_content() -> None:
    machine = uploads(base={"a": A.entry("a", ELSEWHERE)})
    assert feed(machine, A.read("b")) == Prove("b")
    assert feed(machine, A.read("a")) == Look("a", ELSEWHERE)
    assert feed(machine, Looked("a", None)) == Share("a")


def test_a_file_stays_where_it_is_though_its_content_is_sent_for_another_path() -> None:
    for order in ("ab", "ba"):
        machine = uploads(base={"a": A.entry("a", ELSEWHERE)}, conditions=TRIED)
        for path in order:
            feed(machine, A.read(path))
        assert feed(machine, Looked("a", there(MIDDLE, '"base"'))) == Keep("a")
        feed(machine, Looked("b", None), Sent("b", True, there(MIDDLE), TRIED))
        assert machine.placements() == {"a": Kept(A.entry("a", ELSEWHERE)), "b": Placed(A.key, '"e"')}


def test_content_that_lies_elsewhere_is_sent_for_another_path() -> None:
    machine = uploads(base={"a": A.entry("a", ELSEWHERE)})
    assert feed(machine, A.read("b")) == Prove("b")


def test_another_content_at_a_path_of_the_base_is_sent() -> None:
    machine = uploads(base={"a": Content("b", MIDDLE).entry("a")})
    assert feed(machine, A.read("a")) == Prove("a")


def test_one_content_of_several_paths_is_sent_by_the_first_of_them() -> None:
    machine = uploads()
    assert feed(machine, A.read("a")) == Prove("a")
    assert feed(machine, A.read("b")) == Share("b")
    assert feed(machine, Proven("a"), Looked("a", None)) == SendWhole("a", A.key, KEPT)
    assert feed(machine, A.read("c")) == Share("c")
    assert feed(machine, Sent("a", True, there(MIDDLE, '"new"'), KEPT)) == Finish("a")
    assert feed(machine, A.read("d")) == Share("d")
    assert machine.placements() == dict.fromkeys("abcd", Placed(A.key, '"new"'))
    assert (machine.objects_created, machine.bytes_created) == (1, MIDDLE)


def test_conditions_are_proven_once_and_by_whoever_is_first() -> None:
    machine = uploads()
    first, second, third = (Content(letter, SHORT) for letter in "abc")
    assert feed(machine, first.read("a")) == Prove("a")
    assert feed(machine, second.read("b")) == Prove("b")
    assert isinstance(feed(machine, Proven("b")), SendWhole)
    assert isinstance(feed(machine, third.read("c")), SendWhole)
    assert isinstance(feed(machine, Proven("a")), SendWhole)


@pytest.mark.parametrize(
    ("kind", "conditions", "size", "action"),
    [
        (KeyKind.CONTENT, KEPT, SHORT, SendWhole),
        (KeyKind.CONTENT, KEPT, MIDDLE, Look),
        (KeyKind.CONTENT, KEPT, LARGE, Look),
        (KeyKind.CONTENT, TRIED, SHORT, Look),
        (KeyKind.PATH, KEPT, 0, Look),
        (KeyKind.PATH, KEPT, SHORT, Look),
    ],
)
def test_what_is_looked_for_before_it_is_sent(
    kind: KeyKind, conditions: Conditions, size: int, action: type
) -> None:
    machine = uploads(kind, conditions)
    given = feed(machine, Content("a", size).read("a"))
    if given == Prove("a"):
        assert (kind, conditions) == (KeyKind.CONTENT, KEPT)
        given = feed(machine, Proven("a"))
    assert type(given) is action


def test_a_large_file_goes_in_parts() -> None:
    for size, action in ((PART_BYTES, SendWhole), (PART_BYTES + 1, SendParts)):
        machine = uploads()
        assert type(feed(machine, Content("a", size).read("a"), Proven("a"), Looked("a", None))) is action


@pytest.mark.parametrize("size", [SHORT, MIDDLE, LARGE])
def test_only_what_was_created_counts_as_uploaded(size: int) -> None:
    """Also a large file that somebody else's upload was quicker with."""
    content = Content("a", size)
    for created, counted in ((True, (1, size)), (False, (0, 0))):
        machine = uploads(conditions=TRIED)
        feed(machine, content.read("a"), Looked("a", None))
        assert feed(machine, Sent("a", created, there(size), TRIED)) == Finish("a")
        assert (machine.objects_created, machine.bytes_created) == counted
        assert machine.placements() == {"a": Placed(content.key, '"e"')}


@pytest.mark.parametrize("event", [Looked("a", there(1)), Sent("a", False, there(1), TRIED)])
@pytest.mark.parametrize("base", [{}, {"a": A.entry("a")}, {"b": A.entry("b")}])
def test_something_else_under_a_contents_key_is_refused(
    event: UploadEvent, base: dict[str, FileEntry]
) -> None:
    machine = uploads(conditions=TRIED, base=base)
    feed(machine, A.read("a"))
    if isinstance(event, Sent):
        feed(machine, Looked("a", None))
    action = feed(machine, event)
    assert isinstance(action, Refuse)
    assert isinstance(action.error, PublishConflict)
    assert action.error.detail == (
        f"{A.key} is there with 1 bytes, and its name says other content ({MIDDLE} bytes); "
        "somebody else has written it"
    )
    assert action.error.context == {"key": A.key, "paths": ["a"]}
    with pytest.raises(ContractViolation):
        machine.placements()


@pytest.mark.parametrize("found_by", [Looked("a", there(MIDDLE)), Sent("a", False, there(MIDDLE), KEPT)])
def test_what_is_at_a_path_is_compared_byte_by_byte(found_by: UploadEvent) -> None:
    key = file_object_key("dev", "a")
    for is_same in (True, False):
        machine = uploads(KeyKind.PATH)
        feed(machine, A.read("a"))
        if isinstance(found_by, Sent):
            assert feed(machine, Looked("a", None)) == SendWhole("a", key, KEPT)
        assert feed(machine, found_by) == Compare("a", key)
        action = feed(machine, Compared("a", is_same))
        assert machine.objects_created == 0
        if is_same:
            assert action == Finish("a")
            assert machine.placements() == {"a": Placed(key, '"e"')}
        else:
            assert isinstance(action, Refuse)
            assert action.error.detail == (
                f"{key} is there already, with other bytes; seekfs put never changes an object"
            )


def test_what_is_at_a_path_with_another_length_need_not_be_read() -> None:
    assert isinstance(feed(uploads(KeyKind.PATH), A.read("a"), Looked("a", there(1))), Refuse)


def test_paths_of_one_content_are_objects_of_their_own() -> None:
    machine = uploads(KeyKind.PATH)
    for path in "ab":
        assert feed(machine, A.read(path)) == Look(path, file_object_key("dev", path))


def test_a_store_that_has_refused_conditions_is_not_tried_again() -> None:
    machine = uploads(conditions=TRIED)
    for letter in "abc":
        feed(machine, Content(letter, SHORT).read(letter))
    assert feed(machine, Looked("a", None)) == SendWhole("a", Content("a", SHORT).key, TRIED)
    assert feed(machine, Looked("b", None)) == SendWhole("b", Content("b", SHORT).key, TRIED)
    feed(machine, Sent("a", True, there(SHORT), REFUSED))
    # Of one that found its object there before it had to try.
    feed(machine, Sent("b", False, there(SHORT), TRIED))
    assert feed(machine, Looked("c", None)) == SendWhole("c", Content("c", SHORT).key, REFUSED)


def test_nothing_is_said_of_files_while_one_is_under_way() -> None:
    machine = uploads()
    feed(machine, A.read("a"), A.read("b"))
    with pytest.raises(ContractViolation, match="1 files are not in the bucket yet"):
        machine.placements()


# --- many files at once ---------------------------------------------------------------------


@define
class Bucket:
    """What lies under each key, and who put it there."""

    honours: bool
    refuses: bool
    objects: dict[str, tuple[Content, str]] = field(factory=dict)
    created: list[str] = field(factory=list)

    def look(self, key: str) -> There | None:
        held = self.objects.get(key)
        return None if held is None else There(size=held[0].size, etag=f'"{held[0].letter} by {held[1]}"')

    def send(self, path: str, key: str, content: Content, conditions: Conditions) -> Sent:
        """As ``ObjectCreation`` would."""
        assert self.honours or key not in self.objects
        known = REFUSED if self.refuses and conditions is TRIED else conditions
        created = key not in self.objects
        if created:
            self.objects[key] = (content, "us")
            self.created.append(key)
        found = self.look(key)
        assert found is not None
        return Sent(path, created, found, known)


class Fate(enum.Enum):
    """What has become of an object that the base names."""

    THERE = "as it was"
    GONE = "removed"
    REPLACED = "another of the same size"
    RESIZED = "another of another size"


CONTENTS = st.builds(Content, st.sampled_from("ab"), st.sampled_from([0, SHORT, MIDDLE, LARGE]))


@given(
    kind=st.sampled_from(KeyKind),
    conditions=st.sampled_from([KEPT, TRIED]),
    refuses=st.booleans(),
    files=st.dictionaries(st.sampled_from("pqrstu"), CONTENTS, min_size=1),
    based=st.dictionaries(
        st.sampled_from("pqrstu"), st.tuples(CONTENTS, st.booleans(), st.sampled_from(Fate))
    ),
    rivals=st.lists(st.tuples(st.integers(0, 30), st.sampled_from("pqrstu"), CONTENTS), max_size=3),
    seed=st.integers(0, 2**32),
)
def test_whatever_meets_each_file_is_where_it_is_said_to_be_or_all_is_refused(
    kind: KeyKind,
    conditions: Conditions,
    refuses: bool,
    files: dict[str, Content],
    based: dict[str, tuple[Content, bool, Fate]],
    rivals: list[tuple[int, str, Content]],
    seed: int,
) -> None:
    """``rivals`` put an object where a file goes, at some step; before the first where there is one
    writer. ``based`` files lie under their content's key, or elsewhere, or did so once."""
    is_alone = conditions is TRIED
    bucket = Bucket(honours=not is_alone, refuses=refuses and is_alone)
    base: dict[str, FileEntry] = {}
    for path, (content, by_content, fate) in based.items() if kind is KeyKind.CONTENT else ():
        entry = content.entry(path, None if by_content else f"raw/{path}", f'"{content.letter} by base"')
        base[path] = entry
        match fate:
            case Fate.THERE:
                bucket.objects.setdefault(entry.storage_key, (content, "base"))
            case Fate.GONE:
                pass
            case Fate.REPLACED:
                bucket.objects.setdefault(entry.storage_key, (content, "somebody"))
            case Fate.RESIZED:
                other = Content(content.letter, content.size + 1)
                bucket.objects.setdefault(entry.storage_key, (other, "somebody"))

    def is_kept(path: str) -> bool:
        entry = base.get(path)
        if entry is None or (entry.sha256, entry.size) != (files[path].sha256, files[path].size):
            return False
        return bucket.objects.get(entry.storage_key) == (files[path], "base")

    def key_of(path: str) -> str:
        return files[path].key if kind is KeyKind.CONTENT else file_object_key("dev", path)

    machine = uploads(kind, conditions, base)
    order = random.Random(seed)
    waiting = sorted(files)
    order.shuffle(waiting)
    under_way: dict[str, UploadAction] = {}
    refused: dict[str, PublishConflict] = {}
    sent: list[str] = []
    looked: list[tuple[str, str]] = []
    proven = False
    for step in itertools.count():
        for at, path, content in rivals:
            if path in files and (at == step or (is_alone and step == 0)):
                bucket.objects.setdefault(key_of(path), (content, "a rival"))
        if not waiting and not under_way:
            break
        path = order.choice(waiting + list(under_way))
        event: UploadEvent
        match under_way.pop(path, None):
            case None:
                waiting.remove(path)
                event = files[path].read(path)
            case Prove():
                event, proven = Proven(path), True
            case Look(_, key):
                assert key in {key_of(path)} | ({base[path].storage_key} if path in base else set())
                looked.append((path, key))
                event = Looked(path, bucket.look(key))
            case SendWhole(_, key, asked) | SendParts(_, key, asked):
                assert key == key_of(path)
                assert proven or is_alone or kind is KeyKind.PATH
                assert asked is not REFUSED or bucket.refuses
                sent.append(key)
                event = bucket.send(path, key, files[path], asked)
            case Compare(_, key):
                assert key == key_of(path)
                event = Compared(path, bucket.objects[key][0] == files[path])
            case over:
                raise AssertionError(over)
        (action,) = machine.feed(event, float(step))
        assert action.path == path
        if isinstance(action, Refuse):
            refused[path] = action.error
        elif not isinstance(action, Keep | Share | Finish):
            under_way[path] = action

    assert len(sent) == len(set(sent))
    assert len(looked) == len(set(looked))
    assert machine.objects_created == len(bucket.created)
    assert machine.bytes_created == sum(bucket.objects[key][0].size for key in bucket.created)
    assert all(bucket.objects[key][1] == "us" for key in bucket.created)

    def is_wrong(path: str) -> bool:
        held = bucket.objects[key_of(path)][0]
        return held.size != files[path].size or (kind is KeyKind.PATH and held != files[path])

    if refused:
        assert all(is_wrong(path) for path in refused)
        with pytest.raises(ContractViolation):
            machine.placements()
        return
    placements = machine.placements()
    assert set(placements) == set(files)
    for path, placement in placements.items():
        if is_kept(path):
            assert placement == Kept(base[path])
            continue
        assert isinstance(placement, Placed)
        assert placement.key == key_of(path)
        assert not is_wrong(path)
        held = bucket.look(placement.key)
        assert held is not None
        assert placement.etag == held.etag
