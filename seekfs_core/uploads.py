"""What is done with each of the files that one command uploads, until the bucket holds all of them.

There are two kinds of key. One of *content* says what is at it: it is taken for that wherever it has
the right size, so content that another path is sending, or that is there, is not sent again. One of a
*path* says nothing: what is there is read back and compared, and an object with other bytes is refused.
Neither is ever changed. ::

    FileDigested ─► another path sees to the content ─────────────────────────► OVER  Share
                 ─► the base has it ─► CHECKING ─┬─ still there ──────────────► OVER  Keep, Finish
                                                 │ gone, or another object
                 ─► PROVING ─┬─► LOOKING ── of the right size ─┬─ content ────► OVER  Finish
                      once   │      │ nothing                  └─► COMPARING ─► OVER  Finish, Refuse
                             └────► SENDING ── was there ─────────► as above
                                       └────── created ───────────────────────► OVER  Finish

That a version names an object does not mean that it is there: somebody may have removed it, or put another
one in its place. So it is looked at, once, before a file stays as the base has it. Where it is not the
object of the manifest any more, the content is sent under its own key, be it the same one or not: publishing
again mends what can be mended. (An object under a content's key with the right size is that content all
the same, and its ETag the one to be published. One of another size is in the way.)

Whether the store honours conditions is proven before the first object of content is created, since a
version that names it can follow only then; not by a single writer, who says that there is nobody else.
A store of which that is not proven is always looked at before it is written to: one that ignores
If-None-Match must not lose an object to us. Else short content is just sent, which costs as much as asking.

How it is driven: feed ``FileDigested`` for each file, at any time. Each event is answered by one action
for the same path, to be carried out and told of, until it is ``Keep``, ``Share``, ``Finish`` or ``Refuse``.
Files may be under way at once; what comes of them does not depend on their order. When all are over,
``placements()`` says where each is.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, TypeAlias, assert_never

from attrs import define, field, frozen, validators

from seekfs_core.creation import Conditions
from seekfs_core.errors import ContractViolation, PublishConflict
from seekfs_core.machine import advance
from seekfs_core.manifest import FileEntry
from seekfs_core.names import content_object_key, file_object_key
from seekfs_core.sending import is_asked_for_first, is_sent_whole


class KeyKind(enum.Enum):
    """Where files go."""

    CONTENT = "objects/, by their hash"
    PATH = "files/, by their path"


@frozen(kw_only=True)
class There:
    """What the store has under a key. ``size`` in bytes; ``etag`` as it was sent."""

    size: int
    etag: str | None


# --- events ---------------------------------------------------------------------------------


@frozen(kw_only=True)
class FileDigested:
    """A file has been read. Each path comes once. ``size`` in bytes; ``sha256`` is 32 bytes."""

    path: str
    size: int = field(validator=validators.ge(0))
    sha256: bytes = field(validator=[validators.min_len(32), validators.max_len(32)])


@frozen
class Proven:
    """The store honours conditions."""

    path: str


@frozen
class Looked:
    """What is under the key that was looked at; None where nothing is."""

    path: str
    there: There | None


@frozen
class Sent:
    """There is an object under the file's key: ``created`` by this sending, or by somebody else, or by a
    sending whose answer was lost. ``conditions`` is what is known of the store's by now."""

    path: str
    created: bool
    there: There
    conditions: Conditions


@frozen
class Compared:
    """What is under the file's key was read back; whether it has the file's bytes."""

    path: str
    is_same: bool


UploadEvent: TypeAlias = FileDigested | Proven | Looked | Sent | Compared


# --- actions --------------------------------------------------------------------------------


@frozen
class Keep:
    """The file is in the base as it is, and so is its object. Done."""

    path: str


@frozen
class Share:
    """Its content is seen to for another path. Done."""

    path: str


@frozen
class Prove:
    """Make sure that the store honours conditions; asked again of a file that comes meanwhile."""

    path: str


@frozen
class Look:
    """Ask whether there is an object."""

    path: str
    key: str


@frozen
class SendWhole:
    """Create the object by one PUT."""

    path: str
    key: str
    conditions: Conditions


@frozen
class SendParts:
    """Create the object by a multipart upload."""

    path: str
    key: str
    conditions: Conditions


@frozen
class Compare:
    """Read the object back; compare its bytes to the file's."""

    path: str
    key: str


@frozen
class Finish:
    """The bucket has the file. Done."""

    path: str


@frozen
class Refuse:
    """Something else is under its key; nothing is to be published."""

    path: str
    error: PublishConflict


UploadAction: TypeAlias = Keep | Share | Prove | Look | SendWhole | SendParts | Compare | Finish | Refuse


# --- what comes of it -----------------------------------------------------------------------


@frozen
class Kept:
    """The file stays as the base has it."""

    entry: FileEntry


@frozen
class Placed:
    """The file's bytes are under ``key``."""

    key: str
    etag: str | None


class UploadState(enum.Enum):
    """Of one file."""

    UNKNOWN = "not read yet"
    CHECKING = "being looked at where the base has it"
    PROVING = "waiting for the proof"
    LOOKING = "being looked for"
    SENDING = "being sent"
    COMPARING = "being compared"
    OVER = "over"


_UNKNOWN, _CHECKING, _PROVING = UploadState.UNKNOWN, UploadState.CHECKING, UploadState.PROVING
_LOOKING, _SENDING = UploadState.LOOKING, UploadState.SENDING
_COMPARING, _OVER = UploadState.COMPARING, UploadState.OVER

UPLOAD_TRANSITIONS: Final[dict[tuple[UploadState, type], frozenset[UploadState]]] = {
    (_UNKNOWN, FileDigested): frozenset({_CHECKING, _PROVING, _LOOKING, _SENDING, _OVER}),
    (_CHECKING, Looked): frozenset({_CHECKING, _PROVING, _LOOKING, _SENDING, _OVER}),
    (_PROVING, Proven): frozenset({_LOOKING, _SENDING}),
    (_LOOKING, Looked): frozenset({_SENDING, _COMPARING, _OVER}),
    (_SENDING, Sent): frozenset({_COMPARING, _OVER}),
    (_COMPARING, Compared): frozenset({_OVER}),
}
"""State of a file and event, to the states that may follow."""


@define
class _File:
    path: str
    size: int
    key: str
    """Where it goes, or is."""
    in_base: FileEntry | None
    """The same bytes at the same path."""
    state: UploadState = _UNKNOWN
    checked: str | None = None
    """The last key that was looked at for the base's sake."""
    etag: str | None = None
    """Of what was found, while it is compared."""


@define(kw_only=True)
class Uploads:
    """See the module's text. ``base`` is what the files of the version to build on are; files longer than
    ``part_bytes`` are sent in parts; ``conditions`` is ``TRIED`` where there is only one writer."""

    ns: str
    kind: KeyKind
    part_bytes: int
    conditions: Conditions = Conditions.KEPT
    base: Mapping[str, FileEntry] = field(factory=dict, repr=False)

    objects_created: int = field(default=0, init=False)
    bytes_created: int = field(default=0, init=False)
    _files: dict[str, _File] = field(factory=dict, init=False, repr=False)
    _etags: dict[str, str | None] = field(factory=dict, init=False, repr=False)
    """Of what is in the bucket, by key."""
    _seen_to: set[str] = field(factory=set, init=False, repr=False)
    """Keys of the content that is in the bucket, or on its way there."""
    _keys_of_base: frozenset[str] = field(init=False, repr=False)
    _under_way: int = field(default=0, init=False)
    _proven: bool = field(init=False)
    _now: float = field(default=float("-inf"), init=False)

    def __attrs_post_init__(self) -> None:
        self._proven = self.kind is KeyKind.PATH or self.conditions is not Conditions.KEPT
        self._keys_of_base = frozenset(entry.storage_key for entry in self.base.values())

    def next_deadline(self) -> None:
        """Nothing here waits for a time."""

    def feed(self, event: UploadEvent, now: float) -> tuple[UploadAction]:
        """What has become of one file in, the one thing to do about it out; see ``seekfs_core.machine``."""
        later = advance(self._now, now)
        file = self._files.get(event.path)
        state = _UNKNOWN if file is None else file.state
        landings = UPLOAD_TRANSITIONS.get((state, type(event)))
        if landings is None:
            raise ContractViolation(f"{type(event).__name__} of {event.path!r}, which is {state.value}")
        if file is None:
            assert isinstance(event, FileDigested)
            file = self._file_of(event)
        if isinstance(event, Sent):
            self._check_sent(event, file)
            if event.conditions is Conditions.REFUSED:
                self.conditions = event.conditions  # The next file need not try.
        self._files[event.path], self._now = file, later
        action = self._react(event, file)
        assert file.state in landings, (event, file)
        return (action,)

    def placements(self) -> dict[str, Kept | Placed]:
        """Where each file is, by path, in the order in which they were read. ``ContractViolation`` while
        one is under way, or after one was refused."""
        if self._under_way:
            raise ContractViolation(f"{self._under_way} files are not in the bucket yet")
        return {path: self._placement_of(file) for path, file in self._files.items()}

    def _placement_of(self, file: _File) -> Kept | Placed:
        etag = self._etags[file.key]
        entry = file.in_base
        if entry is not None and entry.storage_key == file.key and _is_same_etag(entry.storage_etag, etag):
            return Kept(entry)
        return Placed(file.key, etag)

    # --- one file -----------------------------------------------------------------------------

    def _file_of(self, event: FileDigested) -> _File:
        entry = self.base.get(event.path)
        is_same = entry is not None and entry.sha256 == event.sha256 and entry.size == event.size
        return _File(event.path, event.size, self._key_of(event), in_base=entry if is_same else None)

    def _key_of(self, event: FileDigested) -> str:
        match self.kind:
            case KeyKind.CONTENT:
                return content_object_key(self.ns, event.sha256.hex())
            case KeyKind.PATH:
                return file_object_key(self.ns, event.path)
            case _:
                assert_never(self.kind)

    def _check_sent(self, event: Sent, file: _File) -> None:
        if event.created and event.there.size != file.size:
            raise ContractViolation(f"{file.path!r} has {file.size} bytes, and {event.there} was created")
        if self.conditions is Conditions.KEPT and event.conditions is not Conditions.KEPT:
            raise ContractViolation(f"{file.path!r} was sent without the conditions that were asked for")

    def _react(self, event: UploadEvent, file: _File) -> UploadAction:
        match event:
            case FileDigested():
                self._under_way += 1
                return self._take(file)
            case Looked() if file.state is _CHECKING:
                return self._judge_of_base(file, event.there)
            case Proven():
                self._proven = True
                return self._bring(file)
            case Looked():
                return self._send(file) if event.there is None else self._judge(file, event.there)
            case Sent(created=False):
                return self._judge(file, event.there)
            case Sent():
                self.objects_created += 1
                self.bytes_created += file.size
                return self._finish(file, event.there.etag)
            case Compared(is_same=True):
                return self._finish(file, file.etag)
            case Compared():
                return self._refuse_other_bytes(file)
            case _:
                assert_never(event)

    def _take(self, file: _File) -> UploadAction:
        if file.in_base is not None and file.in_base.storage_key != file.key:
            return self._check(file, file.in_base.storage_key)
        return self._see_to(file)

    def _see_to(self, file: _File) -> UploadAction:
        """Be the one that brings its content to where it goes, unless another is."""
        if file.key in self._seen_to:
            return self._over(file, Share(file.path))
        self._seen_to.add(file.key)
        return self._check(file, file.key) if file.key in self._keys_of_base else self._prove(file)

    def _check(self, file: _File, key: str) -> UploadAction:
        file.state, file.checked = _CHECKING, key
        return Look(file.path, key)

    def _judge_of_base(self, file: _File, there: There | None) -> UploadAction:
        """What is under a key at which the base has the file's bytes."""
        entry, key = file.in_base, file.checked
        assert key is not None
        if there is not None and entry is not None and entry.storage_key == key and _is_still(entry, there):
            file.key, self._etags[key] = key, there.etag
            return self._over(file, Keep(file.path))
        if key != file.key:
            return self._see_to(file)
        return self._prove(file) if there is None else self._judge(file, there)

    def _prove(self, file: _File) -> UploadAction:
        if not self._proven:
            file.state = _PROVING
            return Prove(file.path)
        return self._bring(file)

    def _bring(self, file: _File) -> UploadAction:
        if not self._is_looked_for(file):
            return self._send(file)
        file.state = _LOOKING
        return Look(file.path, file.key)

    def _is_looked_for(self, file: _File) -> bool:
        if file.checked == file.key:
            return False  # It has been, just now.
        if self.kind is KeyKind.PATH or self.conditions is not Conditions.KEPT:
            return True
        return is_asked_for_first(file.size) or not is_sent_whole(file.size, self.part_bytes)

    def _send(self, file: _File) -> UploadAction:
        file.state = _SENDING
        send = SendWhole if is_sent_whole(file.size, self.part_bytes) else SendParts
        return send(file.path, file.key, self.conditions)

    def _judge(self, file: _File, there: There) -> UploadAction:
        """Something is under the file's key that this sending did not make."""
        match self.kind:
            case KeyKind.CONTENT if there.size == file.size:
                return self._finish(file, there.etag)
            case KeyKind.CONTENT:
                return self._refuse(
                    file,
                    f"{file.key} is there with {there.size} bytes, and its name says other content "
                    f"({file.size} bytes); somebody else has written it",
                )
            case KeyKind.PATH if there.size == file.size:
                file.state, file.etag = _COMPARING, there.etag
                return Compare(file.path, file.key)
            case KeyKind.PATH:
                return self._refuse_other_bytes(file)
            case _:
                assert_never(self.kind)

    def _finish(self, file: _File, etag: str | None) -> UploadAction:
        self._etags[file.key] = etag
        return self._over(file, Finish(file.path))

    def _over(self, file: _File, action: UploadAction) -> UploadAction:
        file.state = _OVER
        self._under_way -= 1
        return action

    def _refuse_other_bytes(self, file: _File) -> UploadAction:
        return self._refuse(
            file, f"{file.key} is there already, with other bytes; seekfs put never changes an object"
        )

    def _refuse(self, file: _File, why: str) -> UploadAction:
        file.state = _OVER  # And not in the bucket: it stays among those under way.
        return Refuse(file.path, PublishConflict(why, key=file.key, paths=[file.path]))


def _is_still(entry: FileEntry, there: There) -> bool:
    """Whether an object is the one that the entry was made of, by all that a store says of it."""
    return there.size == entry.size and _is_same_etag(entry.storage_etag, there.etag)


def _is_same_etag(one: str | None, other: str | None) -> bool:
    """Whether two ETags can be of one object; a store need not give any."""
    return one is None or other is None or one == other
