"""What is in the bucket, as somebody knows who has never seen the core: which files each version has.

A version is the one before with its publisher's change made to it. The change is what a publisher set out to
do; nothing here looks into a manifest but to compare.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field, frozen

from seekfs_core import names
from seekfs_core.manifest import Manifest
from seekfs_core.manifest_format import decode_manifest
from tests.sim.content import sha256_of
from tests.sim.oracles import Violation
from tests.sim.store import Stored

MANIFEST_BYTES_MAX = 1 << 20


@frozen
class TrueFile:
    """A file of one version: what is in it, and of how many bytes."""

    content: int
    size: int


Files = Mapping[str, TrueFile]


@define(eq=False)
class Intent:
    """What a publisher set out to do."""

    ns: str
    puts: dict[str, TrueFile]
    removals: tuple[str, ...]
    is_acknowledged: bool = False
    version: int | None = None
    """The version that it was acknowledged as, where one was made."""
    is_refused: bool = False
    """Whether it was told for certain that nothing was published."""


@define(eq=False)
class Truth:
    """See the module's text."""

    intents: dict[str, Intent] = field(factory=dict)
    """By publication id."""
    versions: dict[str, list[Files]] = field(factory=dict)
    """Of each namespace, its first version first."""
    heads: dict[str, list[tuple[float, int]]] = field(factory=dict)
    """When HEAD came to which version."""
    published_by: dict[tuple[str, int], str] = field(factory=dict)
    first_versions: dict[str, int] = field(factory=dict)
    """The first version that is there, where that is not 1."""

    def first(self, ns: str) -> int:
        return self.first_versions.get(ns, 1)

    def files(self, ns: str, version: int) -> Files:
        """The files of a version that was published, ever."""
        versions, first = self.versions.get(ns, []), self.first(ns)
        if not first <= version < first + len(versions):
            raise Violation(f"version {version} of {ns!r} was never published")
        return versions[version - first]

    def head_at(self, ns: str, when: float) -> int:
        """Which version HEAD named at that time, 0 for none."""
        return max((version for at, version in self.heads.get(ns, ()) if at <= when), default=0)

    def newest(self, ns: str) -> int:
        return self.head_at(ns, float("inf"))

    def applied(self, key: str, there: Stored | None, stored: Stored, now: float) -> None:
        """The store has carried out a write."""
        parts = key.split("/")
        if parts[0] != "namespaces" or not isinstance(stored.value, bytes):
            return
        ns = parts[1]
        if key == names.head_key(ns):
            version = names.parse_head(stored.value, ns=ns)
            if there is not None and version <= self.newest(ns):
                raise Violation(f"HEAD of {ns!r} went from {self.newest(ns)} to {version}")
            self.files(ns, version)
            self.heads.setdefault(ns, []).append((now, version))
        elif parts[2] == "manifests":
            version = len(self.versions.get(ns, ())) + self.first(ns)
            if key != names.manifest_key(ns, version):
                raise Violation(f"{key} was written where v-{version} is next")
            manifest = decode_manifest(stored.value, ns=ns, version=version, max_bytes=MANIFEST_BYTES_MAX)
            self._published(manifest)

    def _published(self, manifest: Manifest) -> None:
        ns, number = manifest.ns, manifest.publication_id
        assert number is not None
        intent = self.intents[number]
        versions = self.versions.setdefault(ns, [])
        if number in self.published_by.values():
            raise Violation(f"{number} was published twice")
        before = versions[-1] if versions else {}
        after = {path: file for path, file in before.items() if path not in intent.removals} | intent.puts
        found = {path: (file.size, file.sha256) for path, file in manifest.files.items()}
        if found != {path: (file.size, sha256_of(file.content)) for path, file in after.items()}:
            raise Violation(f"version {manifest.version} of {ns!r} lost somebody's change")
        versions.append(after)
        self.published_by[ns, manifest.version] = number

    def check_acknowledged(self) -> None:
        """No publication that was acknowledged is lost, and none that was refused is there."""
        published = set(self.published_by.values())
        for number, intent in self.intents.items():
            if intent.is_acknowledged and intent.version is not None:
                if self.published_by.get((intent.ns, intent.version)) != number:
                    raise Violation(f"{number} was acknowledged as version {intent.version}, and is not that")
                if self.newest(intent.ns) < intent.version:
                    raise Violation(f"{number} was acknowledged, and HEAD has not come to it")
            if intent.is_refused and number in published:
                raise Violation(f"{number} was said to have failed, and is published")
